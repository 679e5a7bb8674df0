package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edged-io/edged/edge/pubsub"
)

// Append implements pubsub.Journal. ctx is looked at before the events are queued only: queued events cannot be taken
// back, and the publisher must learn what became of them.
func (j *eventLog) Append(ctx context.Context, events []pubsub.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(events) == 0 {
		return nil
	}
	age, wall := j.age.read()
	stamp := frameStamp{age: age, wall: noTime}
	for i := range events {
		if events[i].Time.IsZero() {
			events[i].Time = wall
		}
		if !events[i].Expires.IsZero() {
			stamp.wall = unixNano(wall)
		}
	}
	l := j.route(events[0].Topic)
	for i := 1; i < len(events); i++ {
		if events[i].Topic != events[i-1].Topic && j.route(events[i].Topic) != l {
			return j.appendAcross(ctx, events, stamp)
		}
	}
	c, err := j.newCall(l, events, stamp)
	if err != nil {
		return err
	}
	if err = l.append(c); err == nil {
		for i := range events {
			events[i].Sequence = c.first + uint64(i)
		}
	}
	j.freeCall(c)
	return err
}

// newCall encodes events for a lane.
func (j *eventLog) newCall(l *lane, events []pubsub.Event, stamp frameStamp) (*appendCall, error) {
	c := j.calls.Get().(*appendCall)
	c.frame = beginFrame(c.frame[:0], l.salt, len(events), stamp)
	for i := range events {
		at := len(c.frame)
		c.frame = appendRecord(c.frame, &events[i])
		size := len(c.frame) - at
		if n := len(c.topics); n > 0 && c.topics[n-1].topic == events[i].Topic {
			c.topics[n-1].events++
			c.topics[n-1].bytes += size
			continue
		}
		c.topics = append(c.topics, callTopic{events[i].Topic, i, 1, size})
	}
	endFrame(c.frame)
	if len(c.frame) > maxFrameSize {
		err := fmt.Errorf("publish to %q: %d events of %d bytes are too much for one call", events[0].Topic, len(events), len(c.frame))
		j.freeCall(c)
		return nil, err
	}
	c.sum = payloadSum(c.frame, l.salt)
	c.count, c.age = len(events), stamp.age
	c.err, c.lead, c.first = nil, false, 0
	return c, nil
}

const keepFrame = 64 << 10 // buffers up to this size are used again

func (j *eventLog) freeCall(c *appendCall) {
	clear(c.topics)
	c.topics = c.topics[:0]
	if cap(c.frame) > keepFrame {
		c.frame = nil
	}
	j.calls.Put(c)
}

// acrossPart is the part of an append that goes to one lane.
type acrossPart struct {
	lane   *lane
	order  int
	events []pubsub.Event
	index  []int // of events in the caller's slice
	call   *appendCall
	wrote  bool
}

// appendAcross keeps events of several lanes, or none of them. It is alone in each lane while it writes a frame that is
// marked as prepared to each. The transaction's id in state.db is what makes them valid: at opening, a prepared frame at
// the end of a lane whose id is not there is cut off. Nothing can follow an undecided frame.
func (j *eventLog) appendAcross(ctx context.Context, events []pubsub.Event, stamp frameStamp) error {
	id, err := newTxID()
	if err != nil {
		return err
	}
	stamp.tx = &id
	parts := j.split(events)
	defer func() {
		for _, p := range parts {
			if p.call != nil {
				j.freeCall(p.call)
			}
		}
	}()
	for _, p := range parts {
		if p.call, err = j.newCall(p.lane, p.events, stamp); err != nil {
			return err
		}
	}
	for _, p := range parts { // in order of the lanes, so that two of us do not wait for each other
		p.lane.queue.alone()
		defer p.lane.queue.pass()
	}
	if err := j.writeAcross(ctx, parts, id); err != nil {
		for _, p := range parts {
			if p.wrote {
				p.lane.unwrite(int64(len(p.call.frame)))
			}
		}
		return err
	}
	for _, p := range parts {
		p.lane.publish([]*appendCall{p.call})
		for i, at := range p.index {
			events[at].Sequence = p.call.first + uint64(i)
		}
	}
	return nil
}

// split sorts events by lane.
func (j *eventLog) split(events []pubsub.Event) []*acrossPart {
	var parts []*acrossPart
	for i := range events {
		l := j.route(events[i].Topic)
		n := slices.IndexFunc(parts, func(p *acrossPart) bool { return p.lane == l })
		if n < 0 {
			n = len(parts)
			parts = append(parts, &acrossPart{lane: l, order: slices.Index(j.lanes, l)})
		}
		parts[n].events = append(parts[n].events, events[i])
		parts[n].index = append(parts[n].index, i)
	}
	slices.SortFunc(parts, func(a, b *acrossPart) int { return a.order - b.order })
	return parts
}

// writeAcross prepares every part and then commits. After an error the parts that wrote are to be undone.
func (j *eventLog) writeAcross(ctx context.Context, parts []*acrossPart, id [txIDSize]byte) error {
	if j.closed() {
		return errLogClosed
	}
	for _, p := range parts {
		p.lane.sealIfFull(int64(len(p.call.frame)))
		if len(p.lane.admit([]*appendCall{p.call})) == 0 {
			return p.call.err
		}
	}
	puts := map[string][]byte{}
	for _, p := range parts {
		if err := p.lane.write([]*appendCall{p.call}); err != nil {
			return p.lane.writeError(p.call, err)
		}
		p.wrote = true
		puts[metaTx+p.lane.key] = id[:]
	}
	if err := j.meta.SaveMeta(context.WithoutCancel(ctx), puts, nil); err != nil {
		return fmt.Errorf("publish to %d lanes: %w", len(parts), err)
	}
	return nil
}

// unwrite takes back what the leader wrote last and did not publish.
func (l *lane) unwrite(n int64) {
	l.mu.Lock()
	l.tail.giveUp()
	l.mu.Unlock()
	w := l.writer
	w.end -= n
	if err := w.undo(errUndone); errors.Is(err, errNotSynced) {
		l.abandon(err)
	}
}

var errUndone = errors.New("undone")

// shutDown waits for the lane's appends and closes its files. Appends that come later are refused.
func (l *lane) shutDown() {
	l.queue.alone()
	defer l.queue.pass()
	if l.writer != nil {
		l.seal()
	}
	l.trimming.Lock()
	defer l.trimming.Unlock()
	l.trim.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.idle {
		s.close()
	}
	l.idle = nil
	l.tail.drop()
	l.facts = l.facts || l.appended > 0
}
