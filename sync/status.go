package sync

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Status is what sync does and has done since it started.
type Status struct {
	Link   LinkStatus   `json:"link"`
	Lanes  []LaneStatus `json:"lanes"`
	Alarms []Alarm      `json:"alarms,omitempty"` // the newest, oldest first
}

// LinkStatus is the connection to the upstream.
type LinkStatus struct {
	Connected bool      `json:"connected"`
	URL       string    `json:"url,omitempty"`
	Since     time.Time `json:"since"` // of the present state
	Sessions  uint64    `json:"sessions"`
	LastError string    `json:"lastError,omitempty"`
	Batch     int       `json:"batchBytes"` // how large a batch may be at the measured rate
}

// LaneState says in one word how a lane is.
type LaneState string

// The states of a lane. Denied and Stopped need an operator: nothing is lost meanwhile, within the bounds of the topics.
const (
	LaneWaiting LaneState = "waiting" // for the link, or for its component
	LaneActive  LaneState = "active"
	LaneDenied  LaneState = "denied"  // the upstream's permissions do not allow it
	LaneStopped LaneState = "stopped" // an unknown epoch upstream
	LaneFailing LaneState = "failing" // tried again and again; LastError says why
)

// LaneStatus are the figures of one lane, or of the downlink of a store.
type LaneStatus struct {
	Lane      string            `json:"lane"`
	State     LaneState         `json:"state"`
	Epoch     string            `json:"epoch,omitempty"`
	Upstream  string            `json:"upstreamEpoch,omitempty"` // when it is not Epoch
	Position  uint64            `json:"position"`
	Backlog   uint64            `json:"backlog"`             // events or keys that wait; an upper bound for events
	Batches   uint64            `json:"batches"`             // acknowledged
	Changes   uint64            `json:"changes"`             // stored upstream, or applied here
	Bytes     uint64            `json:"bytes"`               // of their payloads
	Avoided   uint64            `json:"duplicatesAvoided"`   // changes that were found stored already, and not sent again
	Resent    uint64            `json:"resent"`              // sent again because the upstream had lost them
	Lost      uint64            `json:"lost"`                // positions that the upstream lost and the device no longer had
	Gaps      uint64            `json:"gaps"`                // records of events that the journal dropped before they could be sent
	Dropped   map[string]uint64 `json:"dropped,omitempty"`   // changes that can not be sent, by cause
	Conflicts uint64            `json:"conflicts,omitempty"` // local writes to keys of the cloud, replaced by its values
	LastError string            `json:"lastError,omitempty"`
	ErrorAt   time.Time         `json:"errorAt,omitzero"`
	LastDone  time.Time         `json:"lastDone,omitzero"` // of the last batch
}

// Alarm is something that an operator should know.
type Alarm struct {
	Time time.Time `json:"time"`
	Lane string    `json:"lane"`
	Text string    `json:"text"`
}

const alarmsKept = 32

// reporter keeps the figures. It is safe for concurrent use.
type reporter struct {
	log   *slog.Logger
	clock func() time.Time

	mu     sync.Mutex
	lanes  map[string]*LaneStatus
	alarms []Alarm
}

func (r *reporter) init(log *slog.Logger, clock func() time.Time) {
	r.log, r.clock, r.lanes = log, clock, map[string]*LaneStatus{}
}

// update changes a lane's figures.
func (r *reporter) update(lane string, fn func(s *LaneStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.lanes[lane]
	if s == nil {
		s = &LaneStatus{Lane: lane, State: LaneWaiting}
		r.lanes[lane] = s
	}
	fn(s)
}

// progress returns a number that changes when a lane gets on.
func (r *reporter) progress(lane string) (n uint64) {
	r.update(lane, func(s *LaneStatus) { n = s.Batches })
	return n
}

func (r *reporter) failed(lane string, err error) {
	if err == nil || errors.Is(err, errOffline) { // the status of the link says that
		return
	}
	var again bool
	r.update(lane, func(s *LaneStatus) {
		again = s.LastError == err.Error()
		s.LastError, s.ErrorAt = err.Error(), r.clock()
		switch troubleOf(err) {
		case Denied:
			s.State = LaneDenied
		case Fenced, Duplicate, Unknown:
			if s.State != LaneStopped {
				s.State = LaneFailing
			}
		default:
			s.State = LaneFailing
		}
	})
	if !again {
		r.log.Warn("upstream lane", "lane", lane, "error", err)
	}
}

func (r *reporter) alarm(lane, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.alarms); n > 0 && r.alarms[n-1].Lane == lane && r.alarms[n-1].Text == text {
		return
	}
	r.log.Warn("upstream alarm", "lane", lane, "alarm", text)
	r.alarms = append(r.alarms, Alarm{Time: r.clock(), Lane: lane, Text: text})
	if len(r.alarms) > alarmsKept {
		r.alarms = slices.Delete(r.alarms, 0, len(r.alarms)-alarmsKept)
	}
}

// dropped counts a change that can not be sent.
func (r *reporter) dropped(lane, cause string, seq uint64, name string) {
	r.update(lane, func(s *LaneStatus) {
		if s.Dropped == nil {
			s.Dropped = map[string]uint64{}
		}
		s.Dropped[cause]++
	})
	r.alarm(lane, fmt.Sprintf("%s (%d) can not be sent: %s", name, seq, cause))
}

// Status returns the figures of now.
func (s *Sync) Status() Status {
	st := Status{Link: s.link.status()}
	st.Link.Batch = s.turns.bytes()
	s.report.mu.Lock()
	defer s.report.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.report.lanes)) {
		lane := *s.report.lanes[name]
		lane.Dropped = maps.Clone(lane.Dropped)
		if !st.Link.Connected && lane.State == LaneActive {
			lane.State = LaneWaiting
		}
		st.Lanes = append(st.Lanes, lane)
	}
	st.Alarms = slices.Clone(s.report.alarms)
	return st
}

func (l *link) status() LinkStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LinkStatus{Connected: l.session.Err() == nil, Since: l.since, Sessions: l.sessions}
	if l.nc != nil && s.Connected {
		s.URL = l.nc.ConnectedUrlRedacted()
	}
	if l.err != nil {
		s.LastError = l.err.Error()
	}
	return s
}
