package sync

import (
	"encoding/json"
	"fmt"
	"time"
)

// gapRecord is what lies upstream in place of events that never come: {lane, from, to, reason} and what else is known.
type gapRecord struct {
	Lane   string    `json:"lane"`
	From   uint64    `json:"from"`
	To     uint64    `json:"to"`
	Topics []string  `json:"topics,omitempty"`
	Events uint64    `json:"events"` // of all topics of the journal's lane; at most
	Bytes  int       `json:"bytes,omitempty"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time,omitzero"`
}

const gapsLooked = 64

// missing makes a record for each gap of the journal between a position and the next event.
func (l *eventLane) missing(after, next uint64) (out []Change, err error) {
	if next <= after+1 {
		return nil, nil
	}
	for _, g := range l.gaps(gapsLooked) {
		if g.Lane != l.journal.Name() || g.To <= after || g.From >= next {
			continue
		}
		from, to := max(g.From, after+1), min(g.To, next-1)
		body, err := json.Marshal(gapRecord{
			Lane: l.lane.Name, From: from, To: to, Topics: g.Topics, Events: min(g.Events, to-from+1), Reason: g.Reason, Time: g.Time,
		})
		if err != nil {
			return nil, fmt.Errorf("write gap record: %w", err)
		}
		if n := len(out); n > 0 && out[n-1].Seq >= to {
			continue // told already: each record has a number of its own
		}
		out = append(out, Change{Kind: Gap, Seq: to, Value: body})
		l.note(func(st *LaneStatus) { st.Gaps++ })
	}
	return out, nil
}

// gap replaces an event that can not be sent with a record that says so.
func (l *eventLane) gap(c Change, reason string) (Change, error) {
	l.s.report.dropped(l.name(), reason, c.Seq, c.Name[:min(len(c.Name), 200)])
	body, err := json.Marshal(gapRecord{
		Lane: l.lane.Name, From: c.Seq, To: c.Seq, Topics: []string{c.Name[:min(len(c.Name), 1024)]}, Events: 1, Bytes: len(c.Value), Reason: reason,
	})
	return Change{Kind: Gap, Seq: c.Seq, Name: c.Name, Value: body}, err
}
