package edge

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	stdsync "sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edged-io/edged/edge/pubsub"
)

// runtimeMetrics are the counters that are kept as things happen, under Dapr's names. The rest is read from its owner when
// asked for.
type runtimeMetrics struct {
	set      *metrics.Set
	counters stdsync.Map // eventLabels -> *metrics.Counter, so that an event costs no text
	kinds    atomic.Int64
}

// Topics are made up by applications. Beyond maxCounters kinds of events, new topics are counted together.
const (
	maxCounters = 1000
	otherTopics = "(other)"
)

// eventLabels identify a counter of events.
type eventLabels struct {
	name, app, component, topic, key, value string
}

func newRuntimeMetrics() *runtimeMetrics {
	metrics.ExposeMetadata(true) // the # TYPE lines, which Prometheus' parsers go by
	return &runtimeMetrics{set: metrics.NewSet()}
}

var _ pubsub.Observer = (*runtimeMetrics)(nil)

// Published implements pubsub.Observer.
func (m *runtimeMetrics) Published(app, component, topic string, events int, bulk bool, err error, _ time.Duration) {
	l := eventLabels{"dapr_component_pubsub_egress_count", app, component, topic, "success", strconv.FormatBool(err == nil)}
	if bulk {
		l.name = "dapr_component_pubsub_egress_bulk_count"
	}
	m.counter(l).Add(events)
}

// Delivered implements pubsub.Observer.
func (m *runtimeMetrics) Delivered(app, component, topic, status string, _ time.Duration) {
	m.counter(eventLabels{"dapr_component_pubsub_ingress_count", app, component, topic, "process_status", status}).Inc()
}

// DeliveredBulk implements pubsub.Observer.
func (m *runtimeMetrics) DeliveredBulk(app, component, topic string, status map[string]int, _ time.Duration) {
	for s, n := range status {
		m.counter(eventLabels{"dapr_component_pubsub_ingress_count", app, component, topic, "process_status", s}).Add(n)
	}
}

func (m *runtimeMetrics) counter(l eventLabels) *metrics.Counter {
	if c, ok := m.counters.Load(l); ok {
		return c.(*metrics.Counter)
	}
	if m.kinds.Add(1) > maxCounters && l.topic != otherTopics {
		l.topic = otherTopics
		return m.counter(l)
	}
	c := m.set.GetOrCreateCounter(fmt.Sprintf("%s{app_id=%q,component=%q,namespace=\"default\",topic=%q,%s=%q}",
		l.name, l.app, l.component, l.topic, l.key, l.value))
	m.counters.Store(l, c)
	return c
}

// apiErrors returns what counts an application's API errors.
func (m *runtimeMetrics) apiErrors(app string) func(code, category string) {
	return func(code, category string) {
		m.set.GetOrCreateCounter(fmt.Sprintf("dapr_error_code_total{app_id=%q,category=%q,error_code=%q}", app, category, code)).Inc()
	}
}

// WriteMetrics writes all metrics in Prometheus text format.
func (rt *Runtime) WriteMetrics(w io.Writer) {
	rt.metrics.set.WritePrometheus(w)
	s := metrics.NewSet()
	gauge := func(name string, v float64) {
		if strings.Contains(name, "_total") {
			s.GetOrCreateCounter(name).Set(uint64(v))
			return
		}
		s.GetOrCreateGauge(name, nil).Set(v)
	}
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
	metrics.WriteProcessMetrics(w)
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
