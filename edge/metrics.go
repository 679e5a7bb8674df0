package edge

import (
	"io"
	"strconv"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/telemetry"
)

var _ pubsub.Observer = (*telemetry.Metrics)(nil)

// WriteMetrics writes all metrics in Prometheus text format.
func (rt *Runtime) WriteMetrics(w io.Writer) {
	rt.metrics.WritePrometheus(w)
	s := telemetry.NewSample()
	gauge := s.Put
	label := strconv.Quote
	gauge("edged_uptime_seconds", time.Since(rt.began).Seconds())
	gauge("edged_quarantined_files", float64(len(rt.store.Quarantined())))
	for _, l := range rt.journals() {
		at := `{pubsub=` + label(l.component) + `,lane=` + label(l.stat.Lane) + `}`
		gauge("edged_lane_events"+at, float64(l.stat.Events))
		gauge("edged_lane_bytes"+at, float64(l.stat.Bytes))
		gauge("edged_lane_appended_total"+at, float64(l.stat.Appended))
		for reason, n := range l.stat.Dropped {
			gauge(`edged_lane_dropped_total{pubsub=`+label(l.component)+`,lane=`+label(l.stat.Lane)+`,reason=`+label(reason)+`}`, float64(n))
		}
	}
	for component, c := range rt.consumers() {
		at := `{pubsub=` + label(component) + `,consumer=` + label(c.Name) + `,filter=` + label(c.Filter) + `,lane=` + label(c.Lane) + `}`
		gauge("edged_consumer_lag"+at, float64(c.Lag))
		gauge("edged_consumer_delivered_total"+at, float64(c.Delivered))
		gauge("edged_consumer_redelivered_total"+at, float64(c.Redelivered))
		gauge("edged_consumer_dropped_total"+at, float64(c.Dropped))
	}
	rt.writeDisk(gauge)
	rt.writeDevice(gauge)
	s.WritePrometheus(w)
}

func (rt *Runtime) writeDisk(gauge func(string, float64)) {
	db := rt.store.IOStats()
	gauge(`edged_disk_syncs_total{file="state"}`, float64(db.Fsyncs))
	gauge(`edged_disk_written_bytes_total{file="state"}`, float64(db.BytesWritten))
	log := rt.store.LogIO()
	gauge(`edged_disk_syncs_total{file="log"}`, float64(log.Fsyncs))
	gauge(`edged_disk_written_bytes_total{file="log"}`, float64(log.BytesWritten))
}

func (rt *Runtime) writeDevice(gauge func(string, float64)) {
	r := rt.device.last.Load()
	if r == nil {
		return
	}
	for name, v := range map[string]*float64{
		"edged_device_cpu_percent": r.CPUPercent, "edged_device_load1": r.Load1, "edged_device_memory_used_percent": r.MemoryUsedPercent,
		"edged_device_disk_used_percent": r.DiskUsedPercent, "edged_device_temperature_celsius": r.Temperature,
	} {
		if v != nil {
			gauge(name, *v)
		}
	}
}

type journalStat struct {
	component string
	stat      pubsub.LaneStat
}

func (rt *Runtime) journals() []journalStat {
	var out []journalStat
	for _, i := range rt.comps.brokers.All("") {
		b, ok := i.Value.(interface{ Journal() pubsub.Journal })
		if !ok {
			continue
		}
		for _, l := range b.Journal().Lanes("#") {
			out = append(out, journalStat{i.Spec.Name, l.Stat()})
		}
	}
	return out
}

// consumers yields every consumer with the name of its component.
func (rt *Runtime) consumers() func(yield func(string, pubsub.ConsumerStat) bool) {
	return func(yield func(string, pubsub.ConsumerStat) bool) {
		for _, i := range rt.comps.brokers.All("") {
			b, ok := i.Value.(interface{ Consumers() []pubsub.ConsumerStat })
			if !ok {
				continue
			}
			for _, c := range b.Consumers() {
				if !yield(i.Spec.Name, c) {
					return
				}
			}
		}
	}
}
