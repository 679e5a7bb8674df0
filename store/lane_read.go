package store

import (
	"context"
	"slices"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// laneWaiter is a Read that waits for an event of its filter.
type laneWaiter struct {
	filter *laneFilter
	since  uint64
	ready  chan struct{} // capacity 1
}

const (
	// maxLag is how far a lane may run on without an event that a waiter wants before it wakes all the same, so that its
	// consumer's cursor follows and the events it has to look through when one comes are still in memory.
	maxLag      = 2048
	maxIdle     = 8       // readers that keep their place in the files
	maxLookedAt = 4 << 20 // bytes of files that one Read goes through without finding an event
)

// Read implements pubsub.Lane. Consumers that keep up are served from memory; others read the segments in sequence,
// each continuing where its last Read ended.
func (l *lane) Read(ctx context.Context, after uint64, filter string, limit int) ([]pubsub.Event, uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, after, err
	}
	asked := after
	var f *laneFilter
	for {
		nowAge, wall := l.j.age.read()
		l.ageOut(nowAge)
		l.mu.Lock()
		if l.j.closed() {
			l.mu.Unlock()
			return nil, asked, errLogClosed
		}
		if f == nil {
			f = l.filter(filter)
		}
		after = max(after, l.head-1)
		if after >= l.last() {
			if after > asked {
				l.mu.Unlock()
				return nil, after, nil
			}
			w := &laneWaiter{filter: f, since: after, ready: make(chan struct{}, 1)}
			l.waiters = append(l.waiters, w)
			l.mu.Unlock()
			if err := l.wait(ctx, w); err != nil {
				return nil, asked, err
			}
			continue
		}
		rested := !l.used
		l.used = true
		p := eventPicker{filter: f, max: max(limit, 1), nowAge: nowAge, wall: wall}
		block := l.tail.from(after + 1)
		l.mu.Unlock()
		if rested {
			l.j.awake()
		}
		var scanned uint64
		var err error
		if block != nil {
			scanned = pickFrom(&p, block, after)
		} else if scanned, err = l.readFiles(&p, after); err != nil {
			return nil, asked, err
		}
		p.done()
		l.countExpired(&p)
		if len(p.events) > 0 || scanned > asked {
			return p.events, scanned, nil
		}
	}
}

// wait returns when w was woken, or with the reason why it will not be.
func (l *lane) wait(ctx context.Context, w *laneWaiter) error {
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	case <-l.j.done:
	}
	l.mu.Lock()
	if i := slices.Index(l.waiters, w); i >= 0 {
		l.waiters = slices.Delete(l.waiters, i, i+1)
	}
	l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return errLogClosed
}

// wake wakes the waiters that want an event of the calls, and those that have waited through many they do not want. mu
// is held.
func (l *lane) wake(calls []*appendCall) {
	last := l.last()
	l.waiters = slices.DeleteFunc(l.waiters, func(w *laneWaiter) bool {
		if last-w.since < maxLag && !w.wants(calls) {
			return false
		}
		w.ready <- struct{}{}
		return true
	})
}

func (w *laneWaiter) wants(calls []*appendCall) bool {
	before := ""
	for _, c := range calls {
		for i := range c.topics {
			topic := c.topics[i].topic
			if topic == before && before != "" {
				continue // most groups have one topic
			}
			if w.filter.matches(topic) {
				return true
			}
			before = topic
		}
	}
	return false
}

// pickFrom picks from frames in memory.
func pickFrom(p *eventPicker, block []byte, after uint64) (scanned uint64) {
	var f frame
	scanned = after
	for !p.cut && !p.full() {
		var ok bool
		if block, ok = nextFrame(block, &f); !ok {
			break
		}
		if f.seq+uint64(f.count)-1 > after {
			scanned = p.frame(&f, after)
		}
	}
	return scanned
}

// readFiles picks from the segment files.
func (l *lane) readFiles(p *eventPicker, after uint64) (scanned uint64, err error) {
	s := l.reader(after)
	scanned = after
	for looked := int64(0); !p.cut && !p.full() && looked < maxLookedAt; {
		if !s.advance(scanned+1, p.filter) {
			if s.err != nil {
				s.close()
				return after, s.err
			}
			scanned = max(scanned, s.upTo)
			break
		}
		scanned = p.frame(&s.frame, scanned)
		looked += int64(s.frame.size)
	}
	l.restReader(s, scanned)
	return scanned, nil
}

// reader returns a reader that is at rest after a sequence, or a new one.
func (l *lane) reader(after uint64) *laneScan {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.idle {
		if s.pos == after {
			l.idle = slices.Delete(l.idle, i, i+1)
			return s
		}
	}
	return newLaneScan(l, scanChunk)
}

// restReader keeps a reader for the next Read of the same consumer.
func (l *lane) restReader(s *laneScan, pos uint64) {
	s.pos = pos
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.j.closed() {
		s.close()
		return
	}
	if len(l.idle) >= maxIdle {
		l.idle[0].close()
		l.idle = slices.Delete(l.idle, 0, 1)
	}
	l.idle = append(l.idle, s)
}

// countExpired counts the events that a Read left out because their time is over, each once.
func (l *lane) countExpired(p *eventPicker) {
	if len(p.expired) == 0 {
		return
	}
	g := pubsub.Gap{Reason: reasonExpired, Time: p.wall, Topics: p.expiredTopics}
	l.mu.Lock()
	for _, seq := range p.expired {
		if l.expired.add(seq) {
			if g.Events == 0 {
				g.From = seq
			}
			g.To = seq
			g.Events++
		}
	}
	l.mu.Unlock()
	l.lose(g)
}

// ageOut moves the head over events that are too old, so that none of them is read.
func (l *lane) ageOut(nowAge int64) {
	if l.contract.MaxAge <= 0 {
		return
	}
	l.mu.Lock()
	due := l.head <= l.newest && (!l.headKnown || nowAge-l.headAge > l.contract.MaxAge.Milliseconds())
	l.mu.Unlock()
	if !due {
		return
	}
	l.trimming.Lock()
	defer l.trimming.Unlock()
	l.release()
}

// ageDue returns how long it takes until the event at the head is too old; 0 if there is none or no bound.
func (l *lane) ageDue(nowAge int64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.contract.MaxAge <= 0 || l.head > l.newest {
		return 0
	}
	if !l.headKnown {
		return l.contract.MaxAge
	}
	return max(l.contract.MaxAge-time.Duration(nowAge-l.headAge)*time.Millisecond, time.Second)
}
