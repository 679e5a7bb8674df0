package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// lane is the durable log of one contract: segment files in a folder, the newest events in memory, and the consumers
// with their cursors. It implements pubsub.Lane.
//
// Locks, in the order in which they may be taken: being leader of the queue (lane_queue.go), trimming, mu. Files are
// read and written without mu.
type lane struct {
	j        *eventLog
	contract pubsub.Contract
	key      string // its folder, and its name in state.db
	dir      string
	salt     laneSalt
	gone     bool  // it was drained and forgotten; guarded by mu
	orphan   bool  // its contract is gone from the configuration: it is drained, and takes no events
	full     int64 // size of a segment

	mixed     bool   // it holds events from a time when the contracts were others
	routesSum uint32 // see mix

	aside uint64 // first sequence of a segment that was set aside at opening

	queue  laneQueue
	writer *segmentWriter // of the last segment; nil: it takes no frames. Only the leader uses it.

	trimming sync.Mutex
	trim     laneTrim // guarded by trimming

	mu          sync.Mutex
	segs        []*segment // oldest first, without gaps in time but perhaps in sequence
	next        uint64     // the sequence of the next event
	void        uint64     // frames from this sequence on are void in the segments there are; 0: none
	newest      uint64     // the sequence of the newest event; 0: there was none
	released    uint64     // newest sequence of a segment that was let go of
	head        uint64     // events before it are gone
	headPos     int64      // offset of the head in segs[0], once known
	passed      uint64     // events of segs[0] before the head, once known
	bytes       int64      // of segs
	events      uint64     // in segs, if counted
	counted     bool
	headAge     int64 // when the event at the head was accepted, by the age clock
	headKnown   bool  // headAge is right
	consumers   map[string]*laneConsumer
	roster      []*laneConsumer // consumers in some order
	rosterCount uint64          // changes with roster and filters
	commits     uint64          // counts what may let segments go: commits, attaches, detaches
	trimmed     uint64          // commits when segments were last looked through
	hopeless    compactState    // when there was last nothing to compact
	tail        laneTail
	waiters     []*laneWaiter
	filters     map[string]*laneFilter
	idle        []*laneScan // readers at rest, each after some sequence
	expired     sequenceSet // events counted as expired
	dropped     map[string]uint64
	appended    uint64
	condemned   []string // segment files to be removed once their gaps are on disk
	facts       bool     // laneFacts changed
	usedAt      time.Time
	used        bool // since the last look of the janitor
}

var _ pubsub.Lane = (*lane)(nil)

// segment is one file of a lane. Its fields are guarded by the lane's mu.
type segment struct {
	first  uint64
	path   string
	size   int64 // header and frames; with the footer, if there is one, until its index was read
	file   int64 // size of the file when it was opened or sealed
	sealed bool  // takes no more frames
	sum    *segmentSummary
	index  *segmentIndex // nil: not in memory
	damage []damagedRange
	// resumable: it is the last one of an earlier run, its header is right, and it may take more frames.
	resumable bool
	unusable  bool // it could not be cut
	durable   bool // its footer was synced
}

// laneConsumer is a registered reader.
type laneConsumer struct {
	filter *laneFilter
	cursor pubsub.Cursor
	saved  bool // its registration is on disk
	dirty  bool // its cursor is newer than on disk
}

// handled tells whether the consumer is done with a sequence.
func handled(c *pubsub.Cursor, seq uint64) bool {
	if seq > c.Head {
		return false
	}
	_, pending := slices.BinarySearch(c.Pending, seq)
	return !pending
}

// Name is the topic filter of the lane's contract.
func (l *lane) Name() string { return l.contract.Match }

// last is the newest sequence; mu is held.
func (l *lane) last() uint64 { return l.next - 1 }

// filter prepares a topic filter, or finds it prepared; mu is held.
func (l *lane) filter(text string) *laneFilter {
	f := l.filters[text]
	if f == nil {
		if len(l.filters) >= 256 || l.filters == nil {
			l.filters = map[string]*laneFilter{}
		}
		f = newLaneFilter(text)
		l.filters[text] = f
	}
	return f
}

// Attach implements pubsub.Lane. It returns after the registration is on disk.
func (l *lane) Attach(ctx context.Context, consumer, filter string, start pubsub.StartFrom) (pubsub.Cursor, error) {
	if consumer == "" || len(consumer)+len(filter) > maxConsumerName {
		return pubsub.Cursor{}, fmt.Errorf("attach consumer: its name is empty, or longer than %d bytes with its filter", maxConsumerName)
	}
	l.mu.Lock()
	if l.j.closed() {
		l.mu.Unlock()
		return pubsub.Cursor{}, errLogClosed
	}
	c := l.consumers[consumer]
	fresh := c == nil
	if fresh {
		c = &laneConsumer{cursor: pubsub.Cursor{Head: l.head - 1}}
		if start == pubsub.Newest {
			c.cursor.Head = l.last()
		}
		l.consumers[consumer] = c
	}
	if c.filter == nil || c.filter.text != filter {
		c.filter, c.saved = l.filter(filter), false
		l.enroll()
	}
	cursor, saved := c.cursor, c.saved
	cursor.Pending = slices.Clone(cursor.Pending)
	l.mu.Unlock()
	if saved {
		return cursor, nil
	}
	if err := l.register(ctx, consumer, c, cursor, fresh); err != nil {
		return pubsub.Cursor{}, fmt.Errorf("attach consumer %q to %q: %w", consumer, l.Name(), err)
	}
	return cursor, nil
}

const maxConsumerName = 4096

// enroll renews the roster after consumers or their filters changed; mu is held.
func (l *lane) enroll() {
	l.roster = slices.Collect(maps.Values(l.consumers))
	l.rosterCount++
	l.commits++
}

// register writes a consumer down. Registrations do not wait for each other, so that many share a commit.
func (l *lane) register(ctx context.Context, name string, c *laneConsumer, cursor pubsub.Cursor, fresh bool) error {
	l.mu.Lock()
	filter := c.filter
	l.mu.Unlock()
	puts := map[string][]byte{cursorKey(l.key, name): encodeCursor(filter.text, cursor)}
	err := l.j.meta.SaveMeta(ctx, puts, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.consumers[name] != c: // detached meanwhile
	case err != nil && fresh:
		delete(l.consumers, name)
		l.enroll()
	case err == nil && c.filter == filter:
		c.saved = true
	}
	c.dirty = c.dirty || c.cursor.Head != cursor.Head // what was committed meanwhile may be on disk, or overwritten
	return err
}

// Detach implements pubsub.Lane. It returns after the cursor is gone from disk.
func (l *lane) Detach(ctx context.Context, consumer string) error {
	l.j.flushing.Lock() // a flush that has collected the cursor must not write it after this
	defer l.j.flushing.Unlock()
	l.mu.Lock()
	delete(l.consumers, consumer)
	l.enroll()
	l.mu.Unlock()
	if err := l.j.meta.SaveMeta(ctx, nil, []string{cursorKey(l.key, consumer)}); err != nil {
		return fmt.Errorf("detach consumer %q from %q: %w", consumer, l.Name(), err)
	}
	l.j.dirty(0)
	return nil
}

// Commit implements pubsub.Lane. The cursor is on disk at most the flush interval later.
func (l *lane) Commit(consumer string, c pubsub.Cursor) {
	l.mu.Lock()
	k := l.consumers[consumer]
	if k == nil {
		l.mu.Unlock()
		return
	}
	k.cursor = c
	k.dirty = true
	l.commits++
	l.mu.Unlock()
	l.j.dirty(1)
}

// Flush implements pubsub.Lane.
func (l *lane) Flush(ctx context.Context) error {
	if err := l.j.flush(ctx); err != nil {
		return fmt.Errorf("flush cursors of %q: %w", l.Name(), err)
	}
	return nil
}

// Stat implements pubsub.Lane. Bytes are those of kept frames in the segment files.
func (l *lane) Stat() pubsub.LaneStat {
	l.trimming.Lock()
	defer l.trimming.Unlock()
	if !l.j.closed() {
		l.count()
		l.release()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.used {
		l.trim.pause() // nobody but us is here, and nobody comes by to let go
	}
	s := pubsub.LaneStat{
		Lane: l.Name(), First: l.head, Last: l.newest, Events: l.keptEvents(), Bytes: l.keptBytes(),
		Appended: l.appended, Dropped: maps.Clone(l.dropped), Consumers: make(map[string]uint64, len(l.consumers)),
	}
	for name, c := range l.consumers {
		s.Consumers[name] = c.cursor.Floor()
	}
	return s
}

func (l *lane) keptEvents() int64 { return int64(l.events - min(l.passed, l.events)) }
func (l *lane) keptBytes() int64  { return max(l.bytes-l.headPos, 0) }

// count makes sure that events is known: it reads the footers of segments that were not looked at yet. trimming is held.
func (l *lane) count() {
	l.mu.Lock()
	counted, segs := l.counted, slices.Clone(l.segs)
	l.mu.Unlock()
	if counted {
		return
	}
	for _, s := range segs {
		l.summary(s)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.counted = 0, true
	for _, s := range l.segs {
		l.events += s.sum.events
	}
}

// lose records events that are gone before every consumer had them.
func (l *lane) lose(g pubsub.Gap) {
	g.Lane = l.Name()
	if g.Events == 0 || !l.j.gaps.add(g) {
		return
	}
	l.mu.Lock()
	if l.dropped == nil {
		l.dropped = map[string]uint64{}
	}
	l.dropped[g.Reason] += g.Events
	l.mu.Unlock()
	l.j.dirty(0)
}

// rest lets go of memory that was not used for a while; it returns whether there is nothing left to let go of.
func (l *lane) rest(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used {
		l.used, l.usedAt = false, now
	}
	if now.Sub(l.usedAt) < restAfter {
		return false
	}
	l.tail.drop()
	for _, s := range l.idle {
		s.close()
	}
	l.idle = nil
	for _, s := range l.segs {
		if s.sealed && s.index != nil && s.index.footer {
			s.index = nil
		}
	}
	return true
}
