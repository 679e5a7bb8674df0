package sync

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/state"
)

const (
	saveEvery       = 5 * time.Second // a checkpoint that a crash loses is found again upstream
	duplicatesMax   = 3               // refusals as duplicate, with the cursor where it was, before what is stored is looked at
	incompleteMax   = 3               // incomplete batches in a row before one of their messages is suspected
	marksPerGrace   = 64
	graceLookEvery  = 30 * time.Second
	sumReadDeadline = 2 * time.Second
)

var errStopped = errors.New("stopped: the upstream holds an epoch of this device that this database does not know")

// eventLane carries the events of one lane that lie in one lane of a journal. Its cursor upstream is the truth of how far
// it is; the device's checkpoint is there to see when one of both was rolled back, and the consumer in the journal to keep
// the events until they are safe.
type eventLane struct {
	s        *Sync
	rules    laneRules
	gaps     func(limit int) []pubsub.Gap
	journal  pubsub.Lane
	lane     Lane
	consumer string

	cp       checkpoint
	fence    uint64 // revision of the cursor record upstream
	savedAt  time.Time
	unsaved  bool
	grace    graceWindow
	inflight struct{ last, count uint64 } // the batch whose fate is not known yet
	resent   uint64                       // positions up to here were acknowledged once already

	max        int               // events of the next batch
	incomplete int               // batches in a row
	duplicates int               // refusals in a row
	poison     uint64            // the event that the upstream refuses
	stored     map[uint64]uint64 // events of this epoch that lie upstream although the cursor is before them
	common     map[uint64]uint64 // events of the epoch that this one came from
}

func newEventLane(s *Sync, rules laneRules, of pubsub.Journal, journal pubsub.Lane) *eventLane {
	return &eventLane{
		s: s, rules: rules, gaps: of.Gaps, journal: journal, max: s.cfg.Batch.MaxEvents,
		lane:     Lane{Kind: Events, Name: strings.Join([]string{token(rules.lane), token(rules.pubsub), token(journal.Name())}, ".")},
		consumer: "upstream/" + rules.lane,
	}
}

func (l *eventLane) name() string { return l.lane.Name }

func (l *eventLane) open(ctx context.Context) error {
	cur, err := l.journal.Attach(ctx, l.consumer, l.rules.filter, pubsub.Oldest)
	if err != nil {
		return fmt.Errorf("attach to journal lane %s: %w", l.journal.Name(), err)
	}
	l.grace = graceWindow{head: cur.Floor(), keep: l.s.cfg.Grace, bytes: int64(l.s.cfg.GraceBytes)}
	if l.cp, err = loadCheckpoint(ctx, l.s.deps.Meta, l.lane); err != nil {
		return err
	}
	l.note(func(st *LaneStatus) { st.Position, st.Epoch = l.cp.Pos, l.cp.Epoch })
	return nil
}

func (l *eventLane) close(ctx context.Context) error {
	l.journal.Commit(l.consumer, pubsub.Cursor{Head: l.grace.head})
	return errors.Join(l.save(ctx), l.journal.Flush(ctx))
}

func (l *eventLane) note(fn func(*LaneStatus)) { l.s.report.update(l.name(), fn) }

// save writes the checkpoint down.
func (l *eventLane) save(ctx context.Context) error {
	if !l.unsaved {
		return nil
	}
	if err := saveCheckpoint(ctx, l.s.deps.Meta, l.lane, l.cp); err != nil {
		return err
	}
	l.unsaved, l.savedAt = false, time.Now()
	return nil
}

func saveCheckpoint(ctx context.Context, m Meta, lane Lane, cp checkpoint) error {
	if _, err := m.Merge(ctx, nil, map[string][]byte{metaKey(lane): cp.encode()}); err != nil {
		return fmt.Errorf("write checkpoint of lane %s: %w", lane.Name, err)
	}
	return nil
}

// session compares both sides' cursors, then sends batch after batch. Whatever goes wrong ends it: the next one finds out
// what is stored, and goes on from there.
func (l *eventLane) session(ctx context.Context) error {
	caps, err := l.hello(ctx)
	if err != nil {
		return err
	}
	l.note(func(st *LaneStatus) { st.State, st.LastError = LaneActive, "" })
	after := l.cp.Pos
	var waiting []pubsub.Event
	for {
		if len(waiting) == 0 {
			var scanned uint64
			if waiting, scanned, err = l.read(ctx, after); err != nil {
				return err
			}
			if len(waiting) == 0 {
				after = max(after, scanned)
				l.release(after)
				continue
			}
		}
		gaps, err := l.missing(after, waiting[0].Sequence)
		if err != nil {
			return err
		}
		b, err := l.build(gaps, waiting, caps)
		if err != nil {
			return l.learn(ctx, err, nil)
		}
		after, waiting = waiting[b.used-1].Sequence, waiting[b.used:]
		if !caps.Atomic && l.fence == 0 && !l.cp.Tried {
			l.cp.Tried, l.unsaved = true, true
			if err := l.save(ctx); err != nil {
				return err
			}
		}
		if b.last.Seq > 0 {
			if err := l.commit(ctx, b); err != nil {
				return l.learn(ctx, err, b.changes)
			}
		}
		if err := l.settle(ctx, after); err != nil {
			return err
		}
	}
}

// read waits for events. While it waits it writes down what is due.
func (l *eventLane) read(ctx context.Context, after uint64) ([]pubsub.Event, uint64, error) {
	for {
		readCtx, cancel := ctx, context.CancelFunc(func() {})
		if wait := l.nextChore(); wait > 0 {
			readCtx, cancel = context.WithTimeout(ctx, wait)
		}
		events, scanned, err := l.journal.Read(readCtx, after, l.rules.filter, l.max)
		late := readCtx.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || !late {
			return events, scanned, err
		}
		if err := l.save(ctx); err != nil {
			return nil, 0, err
		}
		l.release(after)
	}
}

// nextChore is when a checkpoint or the grace window needs attention without new events; 0: never.
func (l *eventLane) nextChore() time.Duration {
	switch {
	case l.unsaved:
		return max(time.Millisecond, saveEvery-time.Since(l.savedAt))
	case !l.grace.empty():
		return graceLookEvery
	}
	return 0
}

// load is a batch to be sent: changes, and the position that the lane is at when they are stored.
type load struct {
	changes []Change
	size    int
	used    int    // events that it deals with
	last    Change // the last event of this lane among them, whether it has to be sent or not; Seq 0: there is none
}

// build makes a batch of the first events, as large as a batch may be now.
func (l *eventLane) build(gaps []Change, events []pubsub.Event, caps Caps) (b load, err error) {
	for _, g := range gaps {
		b.changes, b.last = append(b.changes, g), g
		b.size += len(g.Value) + headerBytes
	}
	limit := int(l.s.cfg.Batch.MaxBytes)
	budget := min(l.s.turns.bytes(), limit)
	for _, e := range events {
		if b.used > 0 && (b.size > budget || b.used >= l.max) {
			break
		}
		if !l.rules.takes(e.Topic) {
			b.used++
			continue
		}
		c, err := l.change(e, caps)
		if err != nil {
			return b, err
		}
		there, err := l.lies(c)
		if err != nil {
			return b, err
		}
		n := len(c.Value) + len(c.Name) + headerBytes
		if b.used > 0 && b.size+n > limit {
			break
		}
		b.used++
		b.last = c
		if there {
			l.note(func(st *LaneStatus) { st.Avoided++ })
			continue
		}
		b.size += n
		b.changes = append(b.changes, c)
	}
	return b, nil
}

// sum is the checksum of an event as it lies upstream; 0 for a gap that stands for one.
func (l *eventLane) sum(c Change) uint64 {
	if c.Kind != Event {
		return 0
	}
	return checksum(EventSubject(l.s.deps.Device, c.Name), c.Value)
}

// lies reports whether an event is known to lie upstream.
func (l *eventLane) lies(c Change) (bool, error) {
	ours, inEpoch := l.stored[c.Seq]
	before, inCommon := l.common[c.Seq]
	if !inEpoch && !inCommon {
		return false, nil
	}
	sum := l.sum(c)
	if inEpoch && sum != ours {
		return false, &Error{Trouble: Duplicate, Err: errForeign}
	}
	return inEpoch || sum == before, nil
}

var errForeign = errors.New("the upstream has a different event under this device's epoch and number")

// change is the event as it goes up, or the gap that stands for it.
func (l *eventLane) change(e pubsub.Event, caps Caps) (Change, error) {
	value, err := envelope(l.s.deps.Device, e)
	if err != nil {
		return Change{}, fmt.Errorf("wrap event %d: %w", e.Sequence, err)
	}
	c := Change{Kind: Event, Seq: e.Sequence, Name: e.Topic, Value: value}
	subject := len(EventSubject(l.s.deps.Device, e.Topic))
	switch {
	case subject > maxSubject:
		return l.gap(c, "its topic is too long")
	case len(value)+subject+headerBytes > caps.MaxMessage:
		return l.gap(c, fmt.Sprintf("it is larger than the upstream takes (%d of %d bytes)", len(value), caps.MaxMessage-headerBytes))
	case e.Sequence == l.poison:
		return l.gap(c, "the upstream refuses it")
	}
	return c, nil
}

// commit sends a batch when it is the lane's turn. One without changes only moves the cursor.
func (l *eventLane) commit(ctx context.Context, b load) error {
	if err := l.s.turns.take(ctx, l.rules.lane); err != nil {
		return err
	}
	next := Cursor{Epoch: l.cp.Epoch, Pos: b.last.Seq, Time: l.s.deps.Clock(), Sum: l.sum(b.last)}
	l.inflight.last, l.inflight.count = b.last.Seq, uint64(len(b.changes))
	began := time.Now()
	cur, err := l.s.up.Commit(ctx, l.lane, Cursor{Rev: l.fence}, next, b.changes)
	if err != nil {
		l.s.turns.done(l.rules.lane, 0, 0)
		return err
	}
	l.s.turns.done(l.rules.lane, b.size, time.Since(began))
	l.moved(cur, b)
	return nil
}

func (l *eventLane) moved(cur Cursor, b load) {
	l.cp.Cursor, l.fence, l.unsaved = cur, cur.Rev, true
	l.inflight.last, l.inflight.count = 0, 0
	l.incomplete, l.duplicates = 0, 0
	l.max = min(l.s.cfg.Batch.MaxEvents, l.max*2)
	l.grace.add(time.Now(), cur.Pos, int64(b.size))
	var resent uint64
	for _, c := range b.changes {
		if c.Seq <= l.resent {
			resent++
		}
	}
	backlog := l.backlog()
	l.note(func(st *LaneStatus) {
		st.State, st.LastError, st.LastDone = LaneActive, "", l.s.deps.Clock()
		st.Batches++
		st.Changes += uint64(len(b.changes))
		st.Bytes += uint64(b.size)
		st.Resent += resent
		st.Position, st.Epoch, st.Upstream, st.Backlog = cur.Pos, cur.Epoch, "", backlog
	})
}

func (l *eventLane) backlog() uint64 {
	last := l.journal.Stat().Last
	return last - min(last, l.cp.Pos)
}

// settle lets the journal go on after a batch.
func (l *eventLane) settle(ctx context.Context, pos uint64) error {
	l.release(pos)
	if l.unsaved && time.Since(l.savedAt) >= saveEvery {
		return l.save(ctx)
	}
	return nil
}

// release lets the journal delete what is safe: acknowledged, and out of the grace window.
func (l *eventLane) release(pos uint64) {
	if before := l.grace.head; l.grace.advance(time.Now(), pos) != before {
		l.journal.Commit(l.consumer, pubsub.Cursor{Head: l.grace.head})
	}
}

// learn makes the next attempt wiser.
func (l *eventLane) learn(ctx context.Context, err error, changes []Change) error {
	switch troubleOf(err) {
	case Duplicate:
		l.duplicates++
	case Incomplete:
		if l.incomplete++; l.incomplete >= incompleteMax {
			return errors.Join(err, l.suspect(ctx, changes))
		}
	case Refused, TooLarge:
		return errors.Join(err, l.suspect(ctx, changes))
	}
	return err
}

// suspect narrows down which event the upstream refuses. The last one is given up only if the upstream takes a batch
// without it.
func (l *eventLane) suspect(ctx context.Context, changes []Change) error {
	if len(changes) > 1 {
		l.max = len(changes) / 2
		return nil
	}
	if changes[0].Kind == Gap {
		return nil // not the event's fault
	}
	next := l.cp.Cursor
	next.Time = l.s.deps.Clock()
	cur, err := l.s.up.Commit(ctx, l.lane, Cursor{Rev: l.fence}, next, nil)
	if err != nil {
		return err
	}
	l.cp.Cursor, l.fence, l.poison = cur, cur.Rev, changes[0].Seq
	return nil
}

// newEpochID is a random epoch.
func newEpochID() string { return strings.ToLower(rand.Text()[:16]) }

var _ Meta = state.Feed(nil)
