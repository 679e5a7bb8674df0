package pubsub

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// pending holds the events that wait for redelivery, sorted by sequence. It is small: Consumer.MaxPending bounds it.
type pending struct {
	events   []pendingEvent
	earliest time.Time
	cursor   []uint64 // the sequences, as last given out; nil when they changed since
}

type pendingEvent struct {
	seq      uint64
	attempts int
	due      time.Time
}

func (p *pending) len() int { return len(p.events) }

// next returns when the first redelivery is due.
func (p *pending) next() time.Time { return p.earliest }

func (p *pending) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(p.events, seq, func(e pendingEvent, seq uint64) int { return cmp.Compare(e.seq, seq) })
}

func (p *pending) add(seq uint64, due time.Time) {
	i, ok := p.find(seq)
	if ok {
		return
	}
	p.events = slices.Insert(p.events, i, pendingEvent{seq: seq, attempts: 1, due: due})
	p.changed()
}

func (p *pending) remove(seq uint64) {
	if i, ok := p.find(seq); ok {
		p.events = slices.Delete(p.events, i, i+1)
		p.changed()
	}
}

// postpone records another nak.
func (p *pending) postpone(seq uint64, now time.Time, b Backoff) {
	if i, ok := p.find(seq); ok {
		e := &p.events[i]
		e.attempts++
		e.due = now.Add(b.wait(e.attempts))
		p.schedule()
	}
}

func (p *pending) changed() {
	p.cursor = nil
	p.schedule()
}

func (p *pending) schedule() {
	p.earliest = time.Time{}
	for i := range p.events {
		if i == 0 || p.events[i].due.Before(p.earliest) {
			p.earliest = p.events[i].due
		}
	}
}

// due returns the sequences to deliver again now, lowest first, at most limit.
func (p *pending) due(now time.Time, limit int) []uint64 {
	if len(p.events) == 0 || p.earliest.After(now) {
		return nil
	}
	var out []uint64
	for i := range p.events {
		if !p.events[i].due.After(now) {
			if out = append(out, p.events[i].seq); len(out) == limit {
				break
			}
		}
	}
	return out
}

// sequences returns what a Cursor carries. The answer is never changed.
func (p *pending) sequences() []uint64 {
	if p.cursor == nil && len(p.events) > 0 {
		p.cursor = make([]uint64, len(p.events))
		for i := range p.events {
			p.cursor[i] = p.events[i].seq
		}
	}
	return p.cursor
}

func (b Backoff) orDefault(least, most time.Duration) Backoff {
	b.Min = cmp.Or(b.Min, least)
	b.Max = max(b.Min, cmp.Or(b.Max, most))
	return b
}

// wait returns how long to wait after the n-th failure, from 1.
func (b Backoff) wait(n int) time.Duration {
	d := b.Max
	if n < 32 && b.Min < b.Max>>(n-1) {
		d = b.Min << (n - 1)
	}
	return d - rand.N(d/2+1)
}
