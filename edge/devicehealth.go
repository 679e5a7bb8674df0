package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/telemetry"
)

// deviceHealth measures the device at an interval: the newest reading is in status and metrics and, if a topic is
// configured, published there.
type deviceHealth struct {
	cfg     HealthConfig
	folder  string
	publish func(ctx context.Context, p pubsub.Publication) error
	clock   func() time.Time
	log     *slog.Logger
	last    atomic.Pointer[telemetry.Reading]
}

func (d *deviceHealth) run(ctx context.Context) {
	if d.cfg.Interval <= 0 {
		return
	}
	tick := time.NewTicker(d.cfg.Interval)
	defer tick.Stop()
	for {
		d.read(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (d *deviceHealth) read(ctx context.Context) {
	r, err := telemetry.ReadDevice(ctx, d.folder, d.clock())
	if err != nil {
		d.log.Debug("device reading incomplete", "error", err)
	}
	d.last.Store(&r)
	if d.cfg.Topic == "" {
		return
	}
	data, err := json.Marshal(r)
	if err == nil {
		err = d.publish(ctx, pubsub.Publication{PubSub: d.cfg.PubSub, Topic: d.cfg.Topic, Data: data, ContentType: "application/json"})
	}
	if err != nil && ctx.Err() == nil {
		d.log.Warn("device reading not published", "topic", d.cfg.Topic, "error", err)
	}
}
