package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
)

// append puts a call into the queue and returns when it was served.
func (l *lane) append(c *appendCall) error {
	if l.queue.enter(c) {
		l.lead(c)
	}
	return c.err
}

// lead serves one group, wakes its callers and passes the lead on.
func (l *lane) lead(own *appendCall) {
	l.queue.gather(own.lead)
	group := l.queue.take(min(maxGroupBytes, l.full))
	l.commit(group)
	l.queue.served(group, own)
	l.queue.pass()
}

// commit makes a group durable and readable, and sets each call's first or err.
func (l *lane) commit(group []*appendCall) {
	if l.j.closed() {
		failCalls(group, errLogClosed)
		return
	}
	l.sealIfFull(groupBytes(group))
	accepted := l.admit(group)
	if len(accepted) == 0 {
		return
	}
	if err := l.write(accepted); err != nil {
		failCalls(accepted, l.writeError(accepted[0], err))
		return
	}
	l.publish(accepted)
}

func failCalls(calls []*appendCall, err error) {
	for _, c := range calls {
		c.err = err
	}
}

func groupBytes(calls []*appendCall) (n int64) {
	for _, c := range calls {
		n += int64(len(c.frame))
	}
	return n
}

func (l *lane) writeError(c *appendCall, err error) error {
	what := fmt.Sprintf("publish to %q (lane %q)", c.topics[0].topic, l.Name())
	if isNoSpace(err) {
		l.j.opts.diskFull()
		l.j.dirty(0) // the janitor removes what is handled
		return fault.StorageFull(what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// admit makes room for the calls and returns those that the lane's bounds allow; the others get an error.
func (l *lane) admit(group []*appendCall) []*appendCall {
	var need roomNeed
	if l.writer == nil {
		need.bytes = segmentHeaderSize + int64(len(l.Name()))
	}
	accepted := make([]*appendCall, 0, len(group))
	for _, c := range group {
		with := roomNeed{need.bytes + int64(len(c.frame)), need.events + int64(c.count)}
		if reason := l.makeRoom(with); reason != "" {
			c.err = l.fullError(c.topics[0].topic, reason)
			continue
		}
		need = with
		accepted = append(accepted, c)
	}
	return accepted
}

// fullError says which bound of which lane refuses events of a topic.
func (l *lane) fullError(topic, reason string) error {
	bound := fmt.Sprintf("maxBytes %d", l.contract.MaxBytes)
	if reason == reasonEvents {
		bound = fmt.Sprintf("maxEvents %d", l.contract.MaxEvents)
	}
	e := *pubsub.ErrTopicFull
	e.Message = fmt.Sprintf("topic %q: lane %q has no room within its %s: consumers must catch up, or the bound be raised",
		topic, l.Name(), bound)
	e.Cause = pubsub.ErrTopicFull
	return &e
}

// write encodes the calls one after the other, gives them sequences, and puts them on disk.
func (l *lane) write(calls []*appendCall) error {
	if l.j.opts.spaceLow() {
		return fmt.Errorf("what is left is kept for acknowledgements and deletes: %w", unix.ENOSPC)
	}
	if err := l.openWriter(); err != nil {
		return err
	}
	l.mu.Lock()
	next := l.next
	b := l.tail.room(int(groupBytes(calls)))
	l.mu.Unlock()
	at, flags := 0, byte(frameFirst)
	for _, c := range calls {
		n := copy(b[at:], c.frame)
		sealFrame(b[at:at+n], next, flags, c.sum)
		flags = 0
		c.first = next
		next += uint64(c.count)
		at += n
	}
	err := l.writer.write(b)
	if err != nil {
		l.mu.Lock()
		l.tail.giveUp()
		l.mu.Unlock()
		l.abandon(err)
		return err
	}
	return nil
}

// publish makes what was written visible to readers.
func (l *lane) publish(calls []*appendCall) {
	w := l.writer
	at := w.end - groupBytes(calls)
	l.mu.Lock()
	s := l.segs[len(l.segs)-1]
	first, bytes, events := calls[0].first, w.end-at, uint64(0)
	for _, c := range calls {
		for _, t := range c.topics {
			from := c.first + uint64(t.offset)
			w.index.addTopic(t.topic, from, from+uint64(t.events)-1, t.events, t.bytes)
		}
		w.index.addFrame(at, len(c.frame), c.first, c.count, c.age)
		at += int64(len(c.frame))
		events += uint64(c.count)
	}
	s.size += bytes
	l.bytes += bytes
	l.events += events
	l.appended += events
	l.next = first + events
	l.newest = l.next - 1
	l.tail.publish(int(bytes), first, l.last())
	l.tail.trim(len(l.consumers)+len(l.waiters) > 0)
	if len(l.waiters) > 0 {
		l.wake(calls)
	}
	rested := !l.used
	l.used = true
	l.mu.Unlock()
	if rested {
		l.j.awake()
	}
	l.j.opts.count.groups.Add(1)
	l.j.opts.count.events.Add(events)
}

// abandon gives up the segment if it cannot take more frames after a failed write, and begins the next one at once: that
// makes void what the old one may still hold of the write, should it not have been possible to cut it off, because
// readers stop at the sequence with which the next segment begins. If that is not possible either, state.db notes it.
func (l *lane) abandon(cause error) {
	if !errors.Is(cause, errNotSynced) {
		return
	}
	_ = l.writer.file.Close() // after a failed sync there is nothing left to lose
	l.writer = nil
	l.mu.Lock()
	s := l.segs[len(l.segs)-1]
	s.sealed = true
	l.mu.Unlock()
	l.j.opts.log.Error("write to event log failed; going on in a new segment", "lane", l.Name(), "error", cause)
	if err := l.create(); err != nil {
		l.mu.Lock()
		l.void, l.facts = l.next, true
		l.mu.Unlock()
		if err := errors.Join(err, l.j.flush(context.Background())); err != nil {
			l.j.opts.log.Error("begin new segment", "lane", l.Name(), "error", err)
		}
	}
}

// sealIfFull ends the segment if a group of n bytes is too much for it.
func (l *lane) sealIfFull(n int64) {
	if w := l.writer; w != nil && w.index.events > 0 && w.end+n > l.full {
		l.seal()
	}
}

// seal writes the footer of the last segment, which takes no more frames.
func (l *lane) seal() {
	l.mu.Lock()
	s := l.segs[len(l.segs)-1]
	l.mu.Unlock()
	size, err := l.writer.finish(s.first)
	l.writer = nil
	if err != nil { // nothing is lost: the segment has no footer and will be read instead
		l.j.opts.log.Warn("write index of event log segment", "segment", s.path, "error", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.file, s.sealed = size, true
	sum := s.index.segmentSummary
	s.sum = &sum
	if err == nil {
		s.index = nil // the footer has it
	}
}

// openWriter makes sure that there is a segment to append to.
func (l *lane) openWriter() error {
	if l.writer != nil {
		return nil
	}
	if resumed, err := l.resume(); resumed || err != nil {
		return err
	}
	return l.create()
}

// create makes the next segment. Its name and header are durable before anything is written to it. A segment of that name
// is one that could not be used and is empty; it is made anew in its place, so that there is always one that tells where
// the segment before it ends.
func (l *lane) create() error {
	if err := makeFolder(l.dir); err != nil {
		return err
	}
	l.mu.Lock()
	first, before := l.next, l.newest
	l.mu.Unlock()
	path := filepath.Join(l.dir, segmentName(first))
	f, err := l.j.opts.open(path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	fresh := !errors.Is(err, fs.ErrExist)
	if !fresh {
		f, err = l.j.opts.open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	}
	if err != nil {
		return fmt.Errorf("create segment: %w", err)
	}
	_, wall := l.j.age.read()
	header := appendSegmentHeader(nil, segmentHeader{first: first, before: before, salt: l.salt, created: wall, match: l.Name()})
	w := &segmentWriter{file: f, count: l.j.opts.count, size: l.full, index: &segmentIndex{}}
	if err = w.put(header, 0); err == nil {
		l.j.opts.count.fsyncs.Add(2)
		err = errors.Join(f.Sync(), syncFolder(l.dir))
	}
	if err != nil {
		err = errors.Join(err, f.Close())
		if fresh {
			err = errors.Join(err, os.Remove(path))
		}
		return fmt.Errorf("create segment: %w", err)
	}
	w.end = int64(len(header))
	w.ahead, w.index.end = w.end, w.end
	l.writer = w
	l.began(&segment{first: first, path: path, size: w.end, sum: &w.index.segmentSummary, index: w.index})
	return nil
}

// began adds a segment that was just made.
func (l *lane) began(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.void, l.facts = 0, l.facts || l.void > 0
	l.bytes += s.size
	if n := len(l.segs) - 1; n >= 0 && l.segs[n].first == s.first {
		l.bytes -= l.segs[n].size
		l.segs = l.segs[:n:n]
	}
	l.segs = append(l.segs, s)
}

// resume goes on in the last segment, if it was left with space in it by an earlier run. Its footer is cut off.
func (l *lane) resume() (bool, error) {
	l.mu.Lock()
	if len(l.segs) == 0 || !l.segs[len(l.segs)-1].resumable {
		l.mu.Unlock()
		return false, nil
	}
	s := l.segs[len(l.segs)-1]
	s.resumable = false // one attempt: after it, a new segment
	l.mu.Unlock()
	index := l.index(s).clone()
	if index.last >= l.next || index.end >= l.full {
		return false, nil
	}
	f, err := l.j.opts.open(s.path, os.O_RDWR)
	if err != nil {
		return false, nil
	}
	if err := f.Truncate(index.end); err != nil {
		_ = f.Close() // nothing was written to it
		return false, nil
	}
	l.writer = &segmentWriter{file: f, count: l.j.opts.count, end: index.end, ahead: index.end, size: l.full, index: index}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes += index.end - s.size
	index.footer, s.durable = false, false
	s.size, s.sealed, s.index, s.sum = index.end, false, index, &index.segmentSummary
	return true, nil
}
