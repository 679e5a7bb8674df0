package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/edged-io/edged/edge/state"
)

// Meta keeps small records durably and gives the identity of the database that keeps them. Every state.Feed does.
type Meta interface {
	// Meta reads a record; nil if absent.
	Meta(ctx context.Context, key string) ([]byte, error)
	// Merge writes records (and, for a state.Feed, changes) atomically.
	Merge(ctx context.Context, changes []state.Change, meta map[string][]byte) (skipped []int, err error)
	// Epoch is the identity of the database's incarnation.
	Epoch() string
}

// checkpoint is the device's own copy of a lane's cursor, with what it knows of the upstream that it was stored in.
type checkpoint struct {
	Cursor
	Base    string    `json:"base"`    // the database's epoch when it was written
	Created time.Time `json:"created"` // the upstream stream's incarnation
	Past    []string  `json:"past,omitempty"`
	Overlap overlap   `json:"overlap,omitzero"`
	Tried   bool      `json:"tried,omitempty"`  // something was sent without an atomic batch before there was a cursor upstream
	Resync  string    `json:"resync,omitempty"` // of state: a comparison of all keys that is not complete
}

// overlap is what a restored or cloned device may have in common with the epoch it came from: an event up to UpTo that lies
// upstream under Epoch, with the same number and content, is not sent again.
type overlap struct {
	Epoch string `json:"epoch"`
	UpTo  uint64 `json:"upTo"`
}

func metaKey(lane Lane) string { return "sync/lane/" + lane.Name }

// loadCheckpoint returns the lane's checkpoint; without one, a new one that begins at 0 in the database's epoch.
func loadCheckpoint(ctx context.Context, m Meta, lane Lane) (checkpoint, error) {
	fresh := checkpoint{Cursor: Cursor{Epoch: m.Epoch()}, Base: m.Epoch()}
	data, err := m.Meta(ctx, metaKey(lane))
	if err != nil {
		return fresh, fmt.Errorf("read checkpoint of lane %s: %w", lane.Name, err)
	}
	if data == nil {
		return fresh, nil
	}
	var c checkpoint
	if err := json.Unmarshal(data, &c); err != nil {
		return fresh, fmt.Errorf("read checkpoint of lane %s: %w", lane.Name, err)
	}
	if c.Base != m.Epoch() { // a record of another database
		return fresh, nil
	}
	return c, nil
}

func (c checkpoint) encode() []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings, numbers and times always encode
	}
	return data
}

// known reports whether the device has had this epoch.
func (c checkpoint) known(epoch string) bool {
	return epoch == c.Epoch || epoch == c.Base || slices.Contains(c.Past, epoch)
}

// action is what Hello's comparison of both sides' cursors asks for.
type action uint8

const (
	proceed  action = iota // go on after the position
	resend                 // the upstream lost what it had acknowledged: send again from the position
	newEpoch               // this device was restored or cloned: begin a new epoch after the position
	stop                   // the upstream knows an incarnation of this device that the device does not
)

// verdict is the outcome of reconcile: what to do, from where on, and why if anybody should hear of it.
type verdict struct {
	action action
	pos    uint64
	alarm  string
}

// meeting is what both sides say when they meet.
type meeting struct {
	local    checkpoint
	upstream Cursor
	caps     Caps
	last     uint64                          // newest position that the device has given out
	sum      func(pos uint64) (uint64, bool) // of the device's change at pos, if it still has it
	accept   func(epoch string) bool         // whether the operator lets this device take over from an unknown epoch
}

// reconcile compares both sides' cursors. It is a pure function of the meeting.
func reconcile(m meeting) verdict {
	l, u := m.local, m.upstream
	if m.last < l.Pos {
		return verdict{newEpoch, 0, fmt.Sprintf("the journal begins anew: its newest event is %d, and %d was sent before", m.last, l.Pos)}
	}
	switch {
	case u.Epoch == "":
		return m.withoutCursor()
	case u.Epoch == l.Epoch && u.Pos < l.Pos:
		return verdict{resend, u.Pos, fmt.Sprintf("the upstream has lost what it had acknowledged: %d to %d; sending it again", u.Pos+1, l.Pos)}
	case u.Epoch == l.Epoch && m.foreign():
		return verdict{newEpoch, l.Pos, fmt.Sprintf(
			"the upstream is at %d of this device's epoch, which this device never sent: it was restored from a backup or cloned; beginning a new epoch", u.Pos)}
	case u.Epoch == l.Epoch:
		return verdict{action: proceed, pos: u.Pos}
	case l.known(u.Epoch):
		return verdict{action: proceed, pos: l.Pos} // our new epoch's first commit is still to come
	case m.accept(u.Epoch):
		return verdict{proceed, l.Pos, fmt.Sprintf("taking over from epoch %s, as configured", u.Epoch)}
	}
	return verdict{stop, l.Pos, fmt.Sprintf(
		"the upstream holds epoch %s of this device, which this database does not know (a replaced database, or a second device with this id): set upstream.acceptEpoch to take over", u.Epoch)}
}

// withoutCursor tells an upstream that never heard of the lane, or whose retention removed the cursor, from one that lost it.
func (m meeting) withoutCursor() verdict {
	l := m.local
	switch {
	case l.Pos == 0 || l.Cursor.Rev == 0:
		return verdict{action: proceed, pos: l.Pos}
	case l.Created.Equal(m.caps.Created) && m.caps.First > l.Rev:
		return verdict{action: proceed, pos: l.Pos} // it aged out, and everything before it
	}
	return verdict{resend, 0, fmt.Sprintf(
		"the upstream has no record of this device any more (%d was acknowledged): its stream was deleted, purged or replaced; sending again what is left", l.Pos)}
}

// foreign reports whether the upstream's cursor is ahead of ours at a position that we did not send. Being ahead is normal
// when an acknowledgement was lost.
func (m meeting) foreign() bool {
	u := m.upstream
	if u.Pos > m.last {
		return true
	}
	if u.Sum == 0 {
		return false
	}
	if u.Pos == m.local.Pos && m.local.Sum != 0 {
		return u.Sum != m.local.Sum
	}
	sum, ok := m.sum(u.Pos)
	return ok && sum != u.Sum
}
