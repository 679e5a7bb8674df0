package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// tombstoneLife is how long the bucket keeps the marker of a key that expired.
const tombstoneLife = 30 * 24 * time.Hour

// EventStream is the stream of all devices' events. Retention is by limits: a cloud reader takes nothing away.
func EventStream(c EventConfig, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               c.Stream,
		Description:        "events of edged devices: ev.<device>.<topic>",
		Subjects:           []string{"ev.>"},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		Replicas:           replicas,
		MaxAge:             c.MaxAge,
		MaxBytes:           orUnlimited(int64(c.MaxBytes)),
		MaxMsgs:            -1,
		MaxMsgsPerSubject:  -1,
		Duplicates:         c.Duplicates,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		AllowRollup:        true, // a cursor replaces the one before it
		AllowMsgTTL:        true, // cursors outlive MaxAge (Nats-TTL: never)
	}
}

// StateStream is the stream behind the key-value bucket of all devices' state. Any NATS client can use it as a bucket.
func StateStream(c StateConfig, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:                   "KV_" + c.Bucket,
		Description:            "state of edged devices: <device>.<application>.<key>",
		Subjects:               []string{"$KV." + c.Bucket + ".>"},
		Storage:                jetstream.FileStorage,
		Replicas:               replicas,
		MaxBytes:               -1,
		MaxMsgs:                -1,
		MaxMsgsPerSubject:      int64(c.History),
		Discard:                jetstream.DiscardNew,
		Duplicates:             2 * time.Minute,
		AllowDirect:            true,
		AllowRollup:            true,
		DenyDelete:             true,
		AllowMsgTTL:            true,
		SubjectDeleteMarkerTTL: tombstoneLife,
		AllowAtomicPublish:     true,
	}
}

func orUnlimited(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

// Provision creates the event stream and the state bucket, or updates those that exist to the configuration. It changes
// nothing that already is as configured, so it may run at every start. Use it with replicas 3 for one's own cluster.
func Provision(ctx context.Context, nc *nats.Conn, c Config, replicas int) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("use JetStream: %w", err)
	}
	for _, want := range []jetstream.StreamConfig{EventStream(c.Events, replicas), StateStream(c.State, replicas)} {
		if _, err := js.CreateOrUpdateStream(ctx, want); err != nil {
			if errors.Is(err, jetstream.ErrJetStreamNotEnabled) {
				return fmt.Errorf("create stream %s: JetStream is not enabled on that server: %w", want.Name, err)
			}
			return fmt.Errorf("create stream %s: %w", want.Name, err)
		}
	}
	return nil
}
