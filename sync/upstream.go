// Package sync carries a device's events and state to an upstream and the upstream's keys to the device. Every event that
// the device's journal keeps is stored upstream exactly once, in order per lane, whatever fails in between: each batch
// moves a cursor that lies upstream, beside the events, and a batch whose cursor has moved is refused. State converges: the
// newest value of each key goes up, whoever owns the key wins. Nothing here needs a network, or a right clock, to start.
package sync

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Kind tells the two kinds of lane apart: a log of events, or the coalesced changes of keys.
type Kind uint8

// The kinds of lane.
const (
	Events Kind = iota
	State
)

// Lane names one ordered flow of changes with a cursor of its own. Name is one subject token or several joined by dots.
type Lane struct {
	Kind Kind
	Name string
}

// Cursor is how far a lane is stored upstream: every change up to Pos, of the incarnation Epoch. The upstream keeps it, and
// the device a copy, so that a rollback of either side shows when they meet.
type Cursor struct {
	Epoch string
	Pos   uint64
	Time  time.Time // the device's clock; never used for ordering
	Sum   uint64    // of the change at Pos: tells a continued device from a restored or cloned one
	Rev   uint64    // the upstream's revision of this record; 0: there is none
}

// ChangeKind says what a Change does.
type ChangeKind uint8

// The kinds of change. A Gap stands for an event that could not be sent.
const (
	Event ChangeKind = iota
	Gap
	Put
	Delete
)

// Change is one event, or the newest value of one key, on its way up.
type Change struct {
	Kind        ChangeKind
	Seq         uint64 // position in the lane
	Name        string // topic, or key
	Value       []byte // a CloudEvent in JSON, or the key's raw value
	ContentType string // of a key's value
	TTL         time.Duration
}

// Caps is what an upstream can do and has, as it said in this session.
type Caps struct {
	Atomic      bool // whole batches, with the cursor, or nothing
	TTL         bool // values that expire by themselves
	Rollup      bool
	MaxMessage  int       // bytes of one message, headers included
	Created     time.Time // of the stream: its incarnation
	First, Last uint64    // revisions that the stream keeps
	Duplicates  time.Duration
}

// Upstream is where a device's changes go, and where others' changes come from. Implementations are safe for concurrent
// use by different lanes; one lane makes one call at a time. Errors are *Error where the caller can do something about them.
type Upstream interface {
	// Hello returns what the upstream can do and the lane's cursor there. The cursor may be stale: only Commit is the truth.
	Hello(ctx context.Context, lane Lane) (Caps, Cursor, error)
	// Commit stores changes and moves the lane's cursor from prev to next, or does neither, and returns next with its Rev. After
	// an error that is Unknown, Fenced or Duplicate, Hello tells which it was. Without Caps.Atomic some of the changes may be
	// stored although the cursor did not move: Stored tells which.
	Commit(ctx context.Context, lane Lane, prev, next Cursor, changes []Change) (Cursor, error)
	// Stored calls fn for each of the lane's events that the upstream keeps after revision from.
	Stored(ctx context.Context, lane Lane, from uint64, fn func(epoch string, seq, sum uint64)) error
	// Pull calls fn, in order of revision, for the changes of the device's keys after revision from, and live from then on if
	// asked to; else it ends when it has caught up. more is false for the last one known so far.
	Pull(ctx context.Context, p Pull, fn func(r Remote, more bool) error) error
	// Get returns one key as it is upstream.
	Get(ctx context.Context, key string) (Remote, error)
}

// Pull says what to pull.
type Pull struct {
	From     uint64 // revision; changes after it
	Snapshot bool   // the newest revision of every key instead, whenever it was written
	Headers  bool   // without values
	Live     bool   // go on when caught up
}

// Remote is a key's revision upstream.
type Remote struct {
	Key         string // empty: the marker that the pull has caught up
	Rev         uint64
	Deleted     bool
	Value       []byte
	ContentType string
	Origin      string // device that wrote it; empty: somebody in the cloud
	Sum         uint64 // of the value, if this device wrote it; 0 otherwise
	Time        time.Time
	TTL         time.Duration
}

// Trouble is why an upstream did not do what it was asked to.
type Trouble uint8

// Troubles. Unknown: no answer, it may have happened or not. Fenced: the cursor is not where it was expected. Duplicate: an
// event of the batch is already stored. Incomplete: a message of the batch did not arrive or was refused. Busy: too many
// batches are open. Full: the upstream's storage is used up. Denied: the credentials do not allow it. Missing: the stream
// does not exist. TooLarge: a message is larger than the upstream takes. Refused: anything else.
const (
	Unknown Trouble = iota
	Fenced
	Duplicate
	Incomplete
	Busy
	Full
	Denied
	Missing
	TooLarge
	Refused
)

var troubleNames = [...]string{"no answer", "fenced", "duplicate", "incomplete", "busy", "full", "denied", "missing", "too large", "refused"}

// String returns the trouble in words.
func (t Trouble) String() string {
	if int(t) < len(troubleNames) {
		return troubleNames[t]
	}
	return "unknown trouble"
}

// Error is a trouble with its details.
type Error struct {
	Trouble Trouble
	Rev     uint64 // Fenced: the cursor's revision upstream, if it said so
	Err     error
}

// Error says what happened.
func (e *Error) Error() string {
	if e.Err == nil {
		return "upstream: " + e.Trouble.String()
	}
	return fmt.Sprintf("upstream: %s: %v", e.Trouble, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// troubleOf returns the trouble in err's chain; anything else is Unknown.
func troubleOf(err error) Trouble {
	var e *Error
	if errors.As(err, &e) {
		return e.Trouble
	}
	return Unknown
}
