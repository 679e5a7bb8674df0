package store

import (
	"errors"
	"os"
	"slices"
)

// wholeSegment lets go of the oldest segment without reading it, if its index says that nothing in it is wanted, or
// that all of it is too old. It works only on a segment that the head has not entered and that takes no more frames;
// the newest one may take more after a restart.
func (t *laneTrim) wholeSegment() bool {
	l := t.l
	l.mu.Lock()
	if len(l.segs) < 2 || !l.segs[0].sealed || l.passed > 0 || l.head > l.segs[0].first ||
		!t.worthLooking(l.segs[0]) {
		l.mu.Unlock()
		return false
	}
	s := l.segs[0]
	l.mu.Unlock()

	index := l.index(s)
	if !t.allHandled(index) {
		if !t.tooOld(index.lastAge) || !t.loseAll(index) {
			return false
		}
	}
	t.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = max(l.head, index.last+1)
	l.condemn(0)
	l.headKnown = false
	if len(l.segs) > 0 {
		l.head = max(l.head, l.segs[0].first)
	}
	return true
}

// worthLooking tells, without reading its index, whether a segment may be let go: some consumer is beyond it, or age
// is bounded and its summary, if known, is too old. mu is held.
func (t *laneTrim) worthLooking(s *segment) bool {
	l := t.l
	if l.contract.MaxAge > 0 && (s.sum == nil || t.tooOld(s.sum.lastAge)) {
		return true
	}
	beyond := l.next
	if i := slices.Index(l.segs, s); i+1 < len(l.segs) {
		beyond = l.segs[i+1].first
	}
	if s.sum != nil {
		beyond = s.sum.last + 1
	}
	if s.index != nil && len(s.index.topics) > 0 {
		return true
	}
	for i := range t.consumers {
		if c := &t.consumers[i].cursor; c.Head+1 >= beyond {
			return true
		}
	}
	return false
}

// allHandled tells whether each topic of a segment has consumers and all of them are beyond it.
func (t *laneTrim) allHandled(index *segmentIndex) bool {
	if index.unread {
		return false
	}
	if index.many {
		return t.allBeyond(index.last)
	}
	for topic, span := range index.topics {
		matching := t.matching([]byte(topic))
		if len(matching) == 0 {
			return false
		}
		for _, i := range matching {
			if t.consumers[i].cursor.Floor() < span.last {
				return false
			}
		}
	}
	return true
}

// allBeyond is allHandled for a segment whose topics are too many to be listed: every consumer must be beyond it, and
// one of them must want every topic.
func (t *laneTrim) allBeyond(last uint64) bool {
	every := false
	for i := range t.consumers {
		c := &t.consumers[i]
		if c.cursor.Floor() < last {
			return false
		}
		every = every || c.filter.text == "#" || c.filter.text == t.l.contract.Match
	}
	return every
}

// loseAll records the loss of a whole segment by age; false if the index does not tell exactly what is lost.
func (t *laneTrim) loseAll(index *segmentIndex) bool {
	if index.many || index.unread {
		return false
	}
	var lost []string
	for topic, span := range index.topics {
		wanted, exact := t.spanWanted(topic, span)
		if !exact {
			return false
		}
		if wanted {
			lost = append(lost, topic)
		}
	}
	slices.Sort(lost)
	for _, topic := range lost {
		span := index.topics[topic]
		t.lose(reasonAge, []byte(topic), span.first, span.last, span.events)
	}
	return true
}

// spanWanted tells whether all events of a span are wanted, or none; exact is false if it is some.
func (t *laneTrim) spanWanted(topic string, span *topicSpan) (wanted, exact bool) {
	matching := t.matching([]byte(topic))
	if len(matching) == 0 {
		return true, true
	}
	partly := false
	for _, i := range matching {
		c := &t.consumers[i].cursor
		switch {
		case c.Floor() >= span.last:
		case c.Head < span.first:
			wanted = true
		default:
			partly = true
		}
	}
	return wanted, wanted || !partly
}

// releaseMiddle lets go of segments behind the head segment in which everything is handled: an event at the head that
// nobody wants must not keep others on disk. A segment without a footer needs the one behind it, whose first sequence
// tells where it ends, so that one stays.
func (t *laneTrim) releaseMiddle() {
	l := t.l
	l.mu.Lock()
	var segs []*segment
	for i, s := range l.segs {
		if i > 0 && i < len(l.segs)-1 && s.sealed && t.worthLooking(s) {
			segs = append(segs, s)
		}
	}
	l.mu.Unlock()
	for _, s := range segs {
		if !t.allHandled(l.index(s)) {
			continue
		}
		l.mu.Lock()
		i := slices.Index(l.segs, s)
		var before *segment
		if i > 0 {
			before = l.segs[i-1]
		}
		l.mu.Unlock()
		if before == nil {
			continue
		}
		footer := l.index(before).footer && l.syncFooter(before)
		l.mu.Lock()
		if i = slices.Index(l.segs, s); i > 0 && l.segs[i-1] == before && footer {
			l.condemn(i)
		}
		l.mu.Unlock()
	}
}

// syncFooter makes a footer durable, which nothing else needs.
func (l *lane) syncFooter(s *segment) bool {
	l.mu.Lock()
	durable := s.durable
	l.mu.Unlock()
	if durable {
		return true
	}
	f, err := l.j.opts.open(s.path, os.O_RDWR)
	if err != nil {
		return false // it is tried again
	}
	l.j.opts.count.fsyncs.Add(1)
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.durable = true
	return true
}

// releaseRest lets go of the last segments of a lane without contract.
func (t *laneTrim) releaseRest() {
	t.close()
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	for len(t.l.segs) > 0 {
		t.l.condemn(0)
	}
}
