package pubsub

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// MemoryOptions configure a MemoryJournal. Zero values mean the defaults.
type MemoryOptions struct {
	// Contracts bound the lanes; the first match wins. Topics that none matches share a lane of DefaultMemoryContract.
	Contracts []Contract
	// Clock tells the time of day. Default time.Now.
	Clock func() time.Time
	// Discard drops, on append, what no attached consumer wants, instead of keeping it for one that may come.
	Discard bool
}

// DefaultMemoryContract bounds what a MemoryJournal keeps of the topics that no contract names.
func DefaultMemoryContract() Contract {
	return Contract{Match: "#", MaxBytes: 16 << 20, WhenFull: DropOldest}
}

// MemoryJournal is a Journal in memory: as ordered and bounded as the durable one, and gone when the process is. It is
// safe for concurrent use.
type MemoryJournal struct {
	clock   func() time.Time
	discard bool

	mu     sync.Mutex
	closed bool
	lanes  []*memoryLane
	gaps   []Gap
}

const maxMemoryGaps = 256

// readBytes is about how much data one Read returns.
const readBytes = 1 << 20

// eventOverhead is what an event costs besides its data, for the bounds in bytes.
const eventOverhead = 64

var _ Journal = (*MemoryJournal)(nil)

// NewMemoryJournal returns an empty journal.
func NewMemoryJournal(opts MemoryOptions) *MemoryJournal {
	j := &MemoryJournal{clock: opts.Clock, discard: opts.Discard}
	if j.clock == nil {
		j.clock = time.Now
	}
	contracts := slices.Clone(opts.Contracts)
	if !slices.ContainsFunc(contracts, func(c Contract) bool { return c.Match == "#" }) {
		contracts = append(contracts, DefaultMemoryContract())
	}
	for _, c := range contracts {
		j.lanes = append(j.lanes, &memoryLane{journal: j, contract: c, consumers: map[string]*memoryConsumer{},
			next: 1, dropped: map[string]uint64{}})
	}
	return j
}

// Append keeps events in memory, all or none, and wakes their readers.
func (j *MemoryJournal) Append(ctx context.Context, events []Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return ErrClosed
	}
	lanes := make([]*memoryLane, len(events))
	for i := range events {
		lanes[i] = j.laneOf(events[i].Topic)
	}
	for i, l := range lanes {
		if slices.Index(lanes, l) == i { // once per lane
			if err := l.admit(events, lanes); err != nil {
				return err
			}
		}
	}
	for i, l := range lanes {
		l.append(&events[i])
	}
	for i, l := range lanes {
		if slices.Index(lanes, l) == i {
			l.trim()
			l.wake()
		}
	}
	return nil
}

// Lanes returns the lanes of the contracts that filter overlaps.
func (j *MemoryJournal) Lanes(filter string) []Lane {
	if !IsWildcard(filter) {
		return []Lane{j.laneOf(filter)}
	}
	var out []Lane
	for _, l := range j.lanes {
		if FiltersOverlap(l.contract.Match, filter) {
			out = append(out, l)
		}
	}
	return out
}

// Gaps returns the newest gap records, oldest first, at most limit.
func (j *MemoryJournal) Gaps(limit int) []Gap {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.gaps[max(0, len(j.gaps)-limit):])
}

// Close refuses further appends and wakes all readers, which then get ErrClosed. Its memory goes with the last reference.
func (j *MemoryJournal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	for _, l := range j.lanes {
		l.wake()
	}
	return nil
}

func (j *MemoryJournal) laneOf(topic string) *memoryLane {
	for _, l := range j.lanes {
		if MatchTopic(l.contract.Match, topic) {
			return l
		}
	}
	return j.lanes[len(j.lanes)-1] // the contracts always end with "#"
}

// gap records that the lane's oldest event was removed, and counts it if somebody still wanted it.
func (j *MemoryJournal) gap(l *memoryLane, e *Event, reason string) {
	l.dropped[reason]++
	if n := len(j.gaps); n > 0 {
		if g := &j.gaps[n-1]; g.Lane == l.Name() && g.Reason == reason && g.To+1 == e.Sequence {
			g.To, g.Time = e.Sequence, j.clock()
			g.Events++
			if len(g.Topics) < 16 && !slices.Contains(g.Topics, e.Topic) {
				g.Topics = append(slices.Clip(g.Topics), e.Topic)
			}
			return
		}
	}
	j.gaps = append(j.gaps, Gap{Lane: l.Name(), Topics: []string{e.Topic}, From: e.Sequence, To: e.Sequence,
		Events: 1, Reason: reason, Time: j.clock()})
	if over := len(j.gaps) - maxMemoryGaps; over > 0 {
		j.gaps = slices.Delete(j.gaps, 0, over)
	}
}

// memoryLane keeps the events first..next-1. The journal's mutex guards it.
type memoryLane struct {
	journal   *MemoryJournal
	contract  Contract
	events    []Event // events[0] has sequence next - len(events)
	next      uint64
	bytes     int64
	appended  uint64
	dropped   map[string]uint64
	consumers map[string]*memoryConsumer
	changed   chan struct{} // closed and forgotten on append; nil when nobody waits
}

type memoryConsumer struct {
	filter string
	cursor Cursor
}

// Name returns the lane's filter.
func (l *memoryLane) Name() string { return l.contract.Match }

func (l *memoryLane) first() uint64 { return l.next - uint64(len(l.events)) }

func size(e *Event) int64 {
	n := int64(eventOverhead + len(e.Data) + len(e.Topic) + len(e.ContentType))
	for k, v := range e.Metadata {
		n += int64(len(k) + len(v))
	}
	return n
}

// admit makes room for those of events that go to l, or refuses them.
func (l *memoryLane) admit(events []Event, lanes []*memoryLane) error {
	var bytes, count int64
	for i := range events {
		if lanes[i] == l {
			bytes += size(&events[i])
			count++
		}
	}
	c := l.contract
	l.expire()
	fits := func(usedBytes, usedEvents int64) bool {
		return (c.MaxBytes <= 0 || usedBytes+bytes <= c.MaxBytes) && (c.MaxEvents <= 0 || usedEvents+count <= c.MaxEvents)
	}
	if fits(l.bytes, int64(len(l.events))) {
		return nil
	}
	l.trim()
	if !fits(0, 0) || (c.WhenFull == Reject && !fits(l.bytes, int64(len(l.events)))) {
		return fmt.Errorf("append %d events to lane %s (bounds: %d bytes, %d events): %w", count, l.Name(), c.MaxBytes, c.MaxEvents, ErrTopicFull)
	}
	for !fits(l.bytes, int64(len(l.events))) {
		reason := "bytes"
		if c.MaxEvents > 0 && int64(len(l.events))+count > c.MaxEvents {
			reason = "events"
		}
		l.drop(reason)
	}
	return nil
}

func (l *memoryLane) append(e *Event) {
	if e.Time.IsZero() {
		e.Time = l.journal.clock()
	}
	e.Sequence = l.next
	l.next++
	l.events = append(l.events, *e)
	l.bytes += size(e)
	l.appended++
}

// shift removes the oldest event.
func (l *memoryLane) shift() {
	l.bytes -= size(&l.events[0])
	l.events[0] = Event{}
	l.events = l.events[1:]
	if len(l.events) == 0 {
		l.events = nil
	}
}

// drop removes the oldest event although it may be wanted.
func (l *memoryLane) drop(reason string) {
	if e := &l.events[0]; !l.handled(e) {
		l.journal.gap(l, e, reason)
	}
	l.shift()
}

// handled reports whether the event can go: every consumer of its topic has handled it, and there is one, unless the
// journal discards what nobody wants.
func (l *memoryLane) handled(e *Event) bool {
	wanted := false
	for _, c := range l.consumers {
		if !MatchTopic(c.filter, e.Topic) {
			continue
		}
		if !c.cursor.Handled(e.Sequence) {
			return false
		}
		wanted = true
	}
	return wanted || l.journal.discard
}

// trim removes what is handled.
func (l *memoryLane) trim() {
	for len(l.events) > 0 && l.handled(&l.events[0]) {
		l.shift()
	}
}

// expire removes what is too old.
func (l *memoryLane) expire() {
	if l.contract.MaxAge <= 0 {
		return
	}
	limit := l.journal.clock().Add(-l.contract.MaxAge)
	for len(l.events) > 0 && l.events[0].Time.Before(limit) {
		l.drop("age")
	}
}

func (l *memoryLane) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Attach registers a consumer.
func (l *memoryLane) Attach(_ context.Context, consumer, filter string, start StartFrom) (Cursor, error) {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	if l.journal.closed {
		return Cursor{}, ErrClosed
	}
	c, ok := l.consumers[consumer]
	if !ok {
		c = &memoryConsumer{cursor: Cursor{Head: l.first() - 1}}
		if start == Newest {
			c.cursor.Head = l.next - 1
		}
		l.consumers[consumer] = c
	}
	c.filter = filter
	return c.cursor, nil
}

// Detach forgets a consumer.
func (l *memoryLane) Detach(_ context.Context, consumer string) error {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	delete(l.consumers, consumer)
	l.trim()
	return nil
}

// Read returns the next events after a sequence, as Lane says.
func (l *memoryLane) Read(ctx context.Context, after uint64, filter string, limit int) ([]Event, uint64, error) {
	for {
		events, scanned, changed, err := l.read(after, filter, limit)
		if changed == nil {
			return events, scanned, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
}

// read searches once; changed is set when there is nothing yet.
func (l *memoryLane) read(after uint64, filter string, limit int) (events []Event, scanned uint64, changed chan struct{}, err error) {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	if l.journal.closed {
		return nil, after, nil, ErrClosed
	}
	l.expire()
	if after+1 >= l.next {
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		return nil, after, l.changed, nil
	}
	now, bytes := time.Time{}, 0
	scanned = max(after, l.first()-1)
	for scanned+1 < l.next && len(events) < limit && bytes < readBytes {
		scanned++
		e := &l.events[scanned-l.first()]
		if !MatchTopic(filter, e.Topic) {
			continue
		}
		if !e.Expires.IsZero() {
			if now.IsZero() {
				now = l.journal.clock()
			}
			if !e.Expires.After(now) {
				continue
			}
		}
		events = append(events, *e)
		bytes += len(e.Data)
	}
	return events, scanned, nil, nil
}

// Commit moves a consumer's cursor.
func (l *memoryLane) Commit(consumer string, c Cursor) {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	if known, ok := l.consumers[consumer]; ok {
		known.cursor = c
		l.trim()
	}
}

// Flush does nothing: memory is as durable as it gets.
func (l *memoryLane) Flush(context.Context) error { return nil }

// Stat returns the lane's figures.
func (l *memoryLane) Stat() LaneStat {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	s := LaneStat{Lane: l.Name(), First: l.first(), Last: l.next - 1, Events: int64(len(l.events)), Bytes: l.bytes,
		Appended: l.appended, Dropped: maps.Clone(l.dropped), Consumers: make(map[string]uint64, len(l.consumers))}
	for name, c := range l.consumers {
		s.Consumers[name] = c.cursor.Floor()
	}
	return s
}
