package store

import (
	"slices"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// laneTrim moves the head of a lane: over events that every consumer has handled, over those whose time is over, and,
// when the lane's bounds ask for it, over the oldest. It reads the head segment once, as far as the head has come.
type laneTrim struct {
	l      *lane
	scan   *laneScan
	rest   []byte // records of scan.frame from next on
	after  []byte // what follows the record that peek returned
	next   uint64 // sequence of the first record in rest
	passed uint64 // records of scan.seg before next

	consumers []trimConsumer
	roster    uint64           // the lane's roster that topics belongs to
	topics    map[string][]int // consumers that match
	nowAge    int64
	wall      time.Time
	losses    map[string]*pubsub.Gap
}

type trimConsumer struct {
	filter *laneFilter
	cursor pubsub.Cursor
}

// roomNeed is what is about to be appended.
type roomNeed struct{ bytes, events int64 }

// makeRoom moves the head until need fits into the bounds; otherwise it returns the bound that is in the way. It is
// called by the leader.
func (l *lane) makeRoom(need roomNeed) (reason string) {
	if l.contract.MaxEvents > 0 && !l.countedYet() {
		l.trimming.Lock()
		l.count()
		l.trimming.Unlock()
	}
	if l.fits(need) == "" {
		return ""
	}
	l.trimming.Lock()
	defer l.trimming.Unlock()
	l.release()
	reason = l.fits(need)
	if reason == "" || l.tooLarge(need) {
		return reason
	}
	for reason != "" && l.compact(true) {
		reason = l.fits(need)
	}
	if reason == "" || l.contract.WhenFull != pubsub.DropOldest {
		return reason
	}
	t := l.beginTrim()
	for reason != "" && t.step(reason) {
		reason = l.fits(need)
	}
	t.end()
	return l.fits(need)
}

func (l *lane) countedYet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counted
}

// fits returns the bound that need would exceed; "" if there is none.
func (l *lane) fits(need roomNeed) (reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.contract
	switch {
	case c.MaxBytes > 0 && l.keptBytes()+need.bytes > c.MaxBytes:
		return reasonBytes
	case c.MaxEvents > 0 && l.keptEvents()+need.events > c.MaxEvents:
		return reasonEvents
	}
	return ""
}

// tooLarge tells that need does not even fit into an empty lane: nothing should be dropped for it.
func (l *lane) tooLarge(need roomNeed) bool {
	c := &l.contract
	return c.MaxBytes > 0 && need.bytes > c.MaxBytes || c.MaxEvents > 0 && need.events > c.MaxEvents
}

// release lets go of what nobody wants any more: events at the head that are handled, expired or too old, and segments
// anywhere in which everything is handled. trimming is held.
func (l *lane) release() {
	t := l.beginTrim()
	defer t.end()
	for t.step("") {
	}
	l.mu.Lock()
	fresh := l.trimmed != l.commits
	l.trimmed = l.commits
	empty := l.orphan && l.head > l.newest
	l.mu.Unlock()
	if fresh {
		t.releaseMiddle()
	}
	if empty {
		t.releaseRest()
	}
}

// beginTrim looks at the consumers and the clock; end publishes how far the head went.
func (l *lane) beginTrim() *laneTrim {
	t := &l.trim
	t.l = l
	t.nowAge, t.wall = l.j.age.read()
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.roster != l.rosterCount {
		t.roster, t.topics = l.rosterCount, nil
	}
	t.consumers = t.consumers[:0]
	for _, c := range l.roster {
		t.consumers = append(t.consumers, trimConsumer{c.filter, c.cursor})
	}
	return t
}

func (t *laneTrim) end() {
	t.place()
	for _, g := range t.losses {
		t.l.lose(*g)
	}
	clear(t.losses)
}

// place publishes the position of the head.
func (t *laneTrim) place() {
	l := t.l
	if t.scan == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segs) == 0 || l.segs[0] != t.scan.seg || t.next < l.head {
		return
	}
	moved := t.next != l.head
	l.head, l.passed = t.next, t.passed
	l.headPos = t.scan.scan.off - int64(len(t.rest))
	l.headAge, l.headKnown = t.scan.frame.age, true
	l.facts = l.facts || moved
}

// close lets go of the file that is being trimmed.
func (t *laneTrim) close() {
	if t.scan != nil {
		t.scan.close()
	}
	t.scan, t.rest, t.passed = nil, nil, 0
}

// pause lets go of file and memory and keeps the place.
func (t *laneTrim) pause() {
	if t.scan == nil {
		return
	}
	if t.scan.loaded {
		t.passed -= t.next - t.scan.frame.seq
		t.next = t.scan.frame.seq
	}
	t.rest = nil
	t.scan.pause()
}

// step moves the head over one event, or over a whole segment, that is not wanted; reason says why the next event must
// go even if it is. It returns false if the head has to stay.
func (t *laneTrim) step(reason string) bool {
	if t.wholeSegment() {
		return true
	}
	var r eventRecord
	if !t.peek(&r) {
		return false
	}
	wanted := t.wanted(r.topic, t.next)
	switch {
	case !wanted:
	case t.scan.frame.expired(&r, t.nowAge, t.wall):
		if !t.seenExpired(t.next) {
			t.lose(reasonExpired, r.topic, t.next, t.next, 1)
		}
	case t.tooOld(t.scan.frame.age):
		t.lose(reasonAge, r.topic, t.next, t.next, 1)
	case reason != "":
		t.lose(reason, r.topic, t.next, t.next, 1)
	default:
		return false
	}
	t.rest, t.next, t.passed = t.after, t.next+1, t.passed+1
	t.place()
	return true
}

// peek decodes the event at the head; false if there is none. Segments that lie behind the head are let go.
func (t *laneTrim) peek(r *eventRecord) bool {
	l := t.l
	if t.scan == nil {
		l.mu.Lock()
		if len(l.segs) == 0 {
			l.mu.Unlock()
			return false
		}
		t.next = l.segs[0].first
		l.mu.Unlock()
		t.scan = newLaneScan(l, trimChunk)
	}
	for {
		for len(t.rest) > 0 {
			after, ok := decodeRecord(t.rest, r)
			if !ok {
				t.rest, t.next = nil, t.scan.scan.next
				break
			}
			if l.headReached(t.next) {
				t.after = after
				return true
			}
			t.rest, t.next, t.passed = after, t.next+1, t.passed+1
		}
		seg := t.scan.seg
		if !t.scan.advance(t.next, nil) {
			t.place()
			return false
		}
		t.rest, t.next = t.scan.frame.records, t.scan.frame.seq
		if seg != nil && t.scan.seg != seg {
			t.passed = 0
		}
		l.dropBefore(t.scan.seg)
	}
}

const trimChunk = 16 << 10

func (l *lane) headReached(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return seq >= l.head
}

// dropBefore lets go of the segments in front of s.
func (l *lane) dropBefore(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.segs, s)
	if i <= 0 {
		return
	}
	for range i {
		l.condemn(0)
	}
	l.head = max(l.head, s.first)
}

// condemn takes a segment out of the lane; its file is removed once the gap records are on disk. mu is held.
func (l *lane) condemn(i int) {
	s := l.segs[i]
	l.segs = slices.Delete(slices.Clone(l.segs), i, i+1)
	l.bytes -= s.size
	if s.sum != nil {
		l.events -= min(s.sum.events, l.events)
		l.released = max(l.released, s.sum.last)
	}
	if i == 0 {
		l.headPos, l.passed = 0, 0
	}
	l.condemned = append(l.condemned, s.path)
	l.facts = true
	l.j.dirty(urgent)
}

// wanted tells whether an event still waits for a consumer, or for there to be one.
func (t *laneTrim) wanted(topic []byte, seq uint64) bool {
	matching := t.matching(topic)
	for _, i := range matching {
		if !handled(&t.consumers[i].cursor, seq) {
			return true
		}
	}
	return len(matching) == 0
}

func (t *laneTrim) matching(name []byte) []int {
	matching, ok := t.topics[string(name)]
	if ok {
		return matching
	}
	topic := string(name)
	for i := range t.consumers {
		if t.consumers[i].filter.matches(topic) {
			matching = append(matching, i)
		}
	}
	if t.topics == nil || len(t.topics) >= maxCachedTopics {
		t.topics = map[string][]int{}
	}
	t.topics[topic] = matching
	return matching
}

func (t *laneTrim) tooOld(age int64) bool {
	limit := t.l.contract.MaxAge
	return limit > 0 && t.nowAge-age > limit.Milliseconds()
}

func (t *laneTrim) seenExpired(seq uint64) bool {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	return !t.l.expired.add(seq)
}

func (t *laneTrim) lose(reason string, topic []byte, from, to, events uint64) {
	g := t.losses[reason]
	if g == nil {
		if t.losses == nil {
			t.losses = map[string]*pubsub.Gap{}
		}
		g = &pubsub.Gap{From: from, Reason: reason, Time: t.wall}
		t.losses[reason] = g
	}
	g.From, g.To = min(g.From, from), max(g.To, to)
	g.Events += events
	if n := len(g.Topics); n == 0 || g.Topics[n-1] != string(topic) {
		g.Topics = mergeTopics(g.Topics, []string{string(topic)})
	}
}
