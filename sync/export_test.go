package sync

import (
	"context"
	"time"
)

// What the tests of the parts need of them.

func KeySubject(device, key string) string                { return keySubject(device, key) }
func SubjectKey(rest string) (string, bool)               { return subjectKey(rest) }
func Matches(filter, topic string) bool                   { return matches(filter, topic) }
func MarshalCursor(c Cursor) []byte                       { return c.marshal() }
func UnmarshalCursor(b []byte) (Cursor, error)            { return unmarshalCursor(b) }
func (b Backoff) Delay(attempt int) time.Duration         { return b.delay(attempt) }
func OwnerOf(rules []StateRule, key string) (Owner, bool) { return owner(rules, key) }

// Meeting is reconcile's question, in exported words.
type Meeting struct {
	Local    Cursor
	Past     []string
	Created  time.Time
	Upstream Cursor
	Caps     Caps
	Last     uint64
	Sums     map[uint64]uint64
	Accept   string
}

// Reconcile answers with the action's name and position.
func Reconcile(m Meeting) (string, uint64) {
	v := reconcile(meeting{
		local:    checkpoint{Cursor: m.Local, Base: "base", Past: m.Past, Created: m.Created},
		upstream: m.Upstream, caps: m.Caps, last: m.Last,
		sum:    func(pos uint64) (uint64, bool) { s, ok := m.Sums[pos]; return s, ok },
		accept: func(epoch string) bool { return epoch == m.Accept },
	})
	return [...]string{"proceed", "resend", "new epoch", "stop"}[v.action], v.pos
}

// Turns are the turns of lanes.
type Turns struct{ t *turns }

func NewTurns(maxBytes int) Turns                               { return Turns{newTurns(maxBytes)} }
func (t Turns) Take(ctx context.Context, lane string) error     { return t.t.take(ctx, lane) }
func (t Turns) Done(lane string, bytes int, took time.Duration) { t.t.done(lane, bytes, took) }
func (t Turns) Bytes() int                                      { return t.t.bytes() }

// Grace is a grace window.
type Grace struct{ g graceWindow }

func NewGrace(keep time.Duration, bytes int64) *Grace {
	return &Grace{graceWindow{keep: keep, bytes: bytes}}
}
func (g *Grace) Add(at time.Time, pos uint64, bytes int64)   { g.g.add(at, pos, bytes) }
func (g *Grace) Advance(now time.Time, passed uint64) uint64 { return g.g.advance(now, passed) }

func WatchNetwork(ctx context.Context, changed func()) error { return watchNetwork(ctx, changed) }
