package telemetry

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Metrics are the counters that are kept as things happen, under Dapr's names. The rest is read from its owner when asked
// for, into a Sample. It is safe for concurrent use.
type Metrics struct {
	set      *metrics.Set
	counters sync.Map // eventLabels -> *metrics.Counter, so that an event costs no text
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

// NewMetrics returns counters that stand at zero.
func NewMetrics() *Metrics {
	metrics.ExposeMetadata(true) // the # TYPE lines, which Prometheus' parsers go by
	return &Metrics{set: metrics.NewSet()}
}

// Published counts events that an application published.
func (m *Metrics) Published(app, component, topic string, events int, bulk bool, err error, _ time.Duration) {
	l := eventLabels{"dapr_component_pubsub_egress_count", app, component, topic, "success", strconv.FormatBool(err == nil)}
	if bulk {
		l.name = "dapr_component_pubsub_egress_bulk_count"
	}
	m.counter(l).Add(events)
}

// Delivered counts an event that was handed to an application, by what it answered.
func (m *Metrics) Delivered(app, component, topic, status string, _ time.Duration) {
	m.counter(eventLabels{"dapr_component_pubsub_ingress_count", app, component, topic, "process_status", status}).Inc()
}

// DeliveredBulk counts the events of a batch.
func (m *Metrics) DeliveredBulk(app, component, topic string, status map[string]int, _ time.Duration) {
	for s, n := range status {
		m.counter(eventLabels{"dapr_component_pubsub_ingress_count", app, component, topic, "process_status", s}).Add(n)
	}
}

func (m *Metrics) counter(l eventLabels) *metrics.Counter {
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

// APIErrors returns what counts an application's API errors.
func (m *Metrics) APIErrors(app string) func(code, category string) {
	return func(code, category string) {
		m.set.GetOrCreateCounter(fmt.Sprintf("dapr_error_code_total{app_id=%q,category=%q,error_code=%q}", app, category, code)).Inc()
	}
}

// WritePrometheus writes the counters in Prometheus text format.
func (m *Metrics) WritePrometheus(w io.Writer) { m.set.WritePrometheus(w) }

// Sample collects figures that are read all at once.
type Sample struct{ set *metrics.Set }

// NewSample returns an empty sample.
func NewSample() *Sample { return &Sample{set: metrics.NewSet()} }

// Put adds a figure under a name with its labels. What ends in _total is a counter, all else a gauge.
func (s *Sample) Put(name string, v float64) {
	if family, _, _ := strings.Cut(name, "{"); strings.HasSuffix(family, "_total") {
		s.set.GetOrCreateCounter(name).Set(uint64(v))
		return
	}
	s.set.GetOrCreateGauge(name, nil).Set(v)
}

// WritePrometheus writes the sample, and the figures of this process, in Prometheus text format.
func (s *Sample) WritePrometheus(w io.Writer) {
	s.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}
