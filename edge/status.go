package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/telemetry"
)

// Status is the status document of a running daemon.
type Status struct {
	Version     string             `json:"version"`
	Device      string             `json:"device"`
	Data        string             `json:"data"`
	Uptime      string             `json:"uptime"`
	Ready       bool               `json:"ready"`
	Apps        []AppStatus        `json:"apps"`
	Components  []ComponentStatus  `json:"components"`
	Lanes       []LaneStatus       `json:"lanes"`
	Consumers   []ConsumerStatus   `json:"consumers"`
	Gaps        []GapStatus        `json:"gaps,omitempty"`
	Bridges     []any              `json:"bridges,omitempty"`
	Upstream    any                `json:"upstream,omitempty"`
	Quarantined []string           `json:"quarantined,omitempty"`
	Health      *telemetry.Reading `json:"deviceHealth,omitempty"`
}

// AppStatus is one application.
type AppStatus struct {
	ID      string `json:"id"`
	Socket  string `json:"socket,omitempty"`
	HTTP    string `json:"http,omitempty"`
	GRPC    string `json:"grpc,omitempty"`
	Channel string `json:"channel,omitempty"`
	Healthy bool   `json:"healthy"`
}

// ComponentStatus is one component.
type ComponentStatus struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// LaneStatus are the figures of one lane of a journal.
type LaneStatus struct {
	PubSub   string            `json:"pubsub"`
	Lane     string            `json:"lane"`
	Events   int64             `json:"events"`
	Bytes    int64             `json:"bytes"`
	Appended uint64            `json:"appended"`
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
}

// ConsumerStatus are the figures of one consumer.
type ConsumerStatus struct {
	PubSub      string `json:"pubsub"`
	Name        string `json:"name"`
	Filter      string `json:"filter"`
	Lag         uint64 `json:"lag"`
	Pending     int    `json:"pending"`
	Delivered   uint64 `json:"delivered"`
	Redelivered uint64 `json:"redelivered"`
	Dropped     uint64 `json:"dropped"`
	Failures    uint64 `json:"failures"`
}

// GapStatus is a gap record: events that were removed before every consumer had them.
type GapStatus struct {
	PubSub string    `json:"pubsub"`
	Lane   string    `json:"lane"`
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Events uint64    `json:"events"`
	Reason string    `json:"reason"`
	Topics []string  `json:"topics"`
	Time   time.Time `json:"time"`
}

const gapsShown = 20

// Status returns the status document.
func (rt *Runtime) Status(context.Context) any {
	s := Status{
		Version: rt.opts.Version, Device: rt.cfg.Device, Data: rt.cfg.Data, Ready: rt.ready.Load(),
		Uptime: time.Since(rt.began).Round(time.Second).String(), Health: rt.device.last.Load(),
	}
	for _, a := range rt.applications() {
		s.Apps = append(s.Apps, AppStatus{
			ID: a.cfg.ID, Socket: a.addresses.Socket, HTTP: a.addresses.HTTP, GRPC: a.addresses.GRPC,
			Channel: a.cfg.Channel.Address, Healthy: a.channel == nil || a.channel.Healthy(),
		})
	}
	for _, c := range rt.comps.list("") {
		s.Components = append(s.Components, ComponentStatus{c.Name, c.Type})
	}
	for _, l := range rt.journals() {
		s.Lanes = append(s.Lanes, LaneStatus{l.component, l.stat.Lane, l.stat.Events, l.stat.Bytes, l.stat.Appended, l.stat.Dropped})
	}
	for component, c := range rt.consumers() {
		s.Consumers = append(s.Consumers, ConsumerStatus{component, c.Name, c.Filter, c.Lag, c.Pending, c.Delivered, c.Redelivered, c.Dropped, c.Failures})
	}
	for _, i := range rt.comps.brokers.All("") {
		if b, ok := i.Value.(interface{ Journal() pubsub.Journal }); ok {
			for _, g := range b.Journal().Gaps(gapsShown) {
				s.Gaps = append(s.Gaps, GapStatus{i.Spec.Name, g.Lane, g.From, g.To, g.Events, g.Reason, g.Topics, g.Time})
			}
		}
	}
	for _, b := range rt.bridges {
		s.Bridges = append(s.Bridges, b.Status())
	}
	if rt.upstream != nil {
		s.Upstream = rt.upstream.Status()
	}
	for _, q := range rt.store.Quarantined() {
		s.Quarantined = append(s.Quarantined, q.File+": "+q.Reason)
	}
	return s
}

// PrintStatus writes a status document for people.
func PrintStatus(w io.Writer, doc []byte) error {
	var s Status
	if err := json.Unmarshal(doc, &s); err != nil {
		return fmt.Errorf("read status: %w", err)
	}
	p := func(format string, args ...any) { fmt.Fprintf(w, format, args...) }
	p("edged %s on %s, up %s, data in %s\n", s.Version, s.Device, s.Uptime, s.Data)
	p("\n%-16s %-8s %s\n", "APPLICATION", "HEALTHY", "API")
	for _, a := range s.Apps {
		p("%-16s %-8t %s %s %s\n", a.ID, a.Healthy, a.Socket, a.HTTP, a.GRPC)
	}
	p("\n%-16s %s\n", "COMPONENT", "TYPE")
	for _, c := range s.Components {
		p("%-16s %s\n", c.Name, c.Type)
	}
	p("\n%-12s %-16s %10s %12s %10s  %s\n", "PUBSUB", "LANE", "EVENTS", "BYTES", "APPENDED", "DROPPED")
	for _, l := range s.Lanes {
		p("%-12s %-16s %10d %12d %10d  %s\n", l.PubSub, l.Lane, l.Events, l.Bytes, l.Appended, counts(l.Dropped))
	}
	p("\n%-24s %-16s %8s %8s %10s %8s\n", "CONSUMER", "TOPICS", "LAG", "PENDING", "DELIVERED", "AGAIN")
	for _, c := range s.Consumers {
		p("%-24s %-16s %8d %8d %10d %8d\n", c.Name, c.Filter, c.Lag, c.Pending, c.Delivered, c.Redelivered)
	}
	for _, g := range s.Gaps {
		p("GAP: %s lane %s: %d events (%d to %d) removed, %s, %s\n", g.PubSub, g.Lane, g.Events, g.From, g.To, g.Reason, g.Time.Format(time.RFC3339))
	}
	for _, q := range s.Quarantined {
		p("QUARANTINED: %s\n", q)
	}
	return printLinks(w, s)
}

func printLinks(w io.Writer, s Status) error {
	links := map[string]any{}
	if len(s.Bridges) > 0 {
		links["bridges"] = s.Bridges
	}
	if s.Upstream != nil {
		links["upstream"] = s.Upstream
	}
	if len(links) == 0 {
		return nil
	}
	b, err := json.MarshalIndent(links, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s\n", b)
	return err
}

func counts(m map[string]uint64) string {
	if len(m) == 0 {
		return "0"
	}
	b, err := json.Marshal(m)
	if err != nil {
		return "?"
	}
	return string(b)
}
