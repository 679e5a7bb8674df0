package pubsub

import (
	"context"
	"fmt"
	"log/slog"
	"math/bits"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// readAhead is how many events a reader takes from its lane at once, at least; the lane bounds their bytes.
const readAhead = 64

// reader moves one consumer through one lane. Only its goroutine touches its fields, the counters apart.
type reader struct {
	g    *group
	lane Lane
	log  *slog.Logger

	head     uint64  // every sequence up to head is handled or in pending
	searched uint64  // the lane was read up to here
	ahead    []Event // read and not handled
	pending  pending
	limit    int // events per handler call
	failures int // handler errors in a row

	n counters
}

type counters struct {
	delivered, acked, naked, dropped, refused, redelivered, expired, lost, failures atomic.Uint64
	head                                                                            atomic.Uint64
	pending                                                                         atomic.Int64
}

func newReader(g *group, lane Lane, c Cursor) *reader {
	r := &reader{g: g, lane: lane, head: c.Head, searched: c.Head, limit: g.c.MaxBatch,
		log: g.b.opts.Log.With("consumer", g.c.Name, "lane", lane.Name())}
	if g.b.opts.Volatile {
		r.limit = 1
	}
	if last := lane.Stat().Last; c.Head > last { // the lane lost events that this consumer had seen
		r.log.Warn("cursor is ahead of the lane and goes back to its end", "cursor", c.Head, "last", last)
		r.head, r.searched = last, last
	}
	for _, seq := range c.Pending {
		if seq <= r.head {
			r.pending.add(seq, time.Time{})
		}
	}
	r.publish()
	return r
}

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		room := r.g.c.MaxPending
		if n := r.pending.len(); n > 0 {
			if due := r.pending.due(time.Now(), r.limit); len(due) > 0 {
				r.redeliver(ctx, due)
				continue
			}
			if room -= n; room <= 0 {
				sleep(ctx, time.Until(r.pending.next()))
				continue
			}
		}
		batch := r.next(ctx, min(room, r.limit))
		if len(batch) > 0 {
			r.offer(ctx, batch, r.advance)
		} else if len(r.ahead) == 0 && r.searched > r.head {
			r.head = r.searched
			r.commit()
		}
	}
}

// next returns the next events, at most limit, or none if a redelivery is due or ctx is done.
func (r *reader) next(ctx context.Context, limit int) []Event {
	if len(r.ahead) == 0 {
		rctx, cancel := ctx, context.CancelFunc(nil)
		if r.pending.len() > 0 {
			rctx, cancel = context.WithDeadline(ctx, r.pending.next())
		}
		r.read(rctx, max(readAhead, r.g.c.MaxBatch))
		if cancel != nil {
			cancel()
		}
	}
	r.skipExpired()
	if len(r.ahead) > 0 && len(r.ahead) < r.g.c.MaxBatch && r.g.c.MaxWait > 0 {
		r.fill(ctx)
	}
	return r.ahead[:min(limit, len(r.ahead))]
}

// fill waits until a batch is full or its window is over.
func (r *reader) fill(ctx context.Context) {
	window, cancel := context.WithTimeout(ctx, r.g.c.MaxWait)
	defer cancel()
	for len(r.ahead) < r.g.c.MaxBatch && window.Err() == nil {
		r.read(window, r.g.c.MaxBatch-len(r.ahead))
	}
}

// read appends what the lane has next. Errors other than the end of ctx are logged and waited out.
func (r *reader) read(ctx context.Context, limit int) {
	events, searched, err := r.lane.Read(ctx, r.searched, r.g.c.Filter, limit)
	if err != nil {
		if ctx.Err() == nil {
			r.pause(ctx, "read events", err)
		}
		return
	}
	if len(r.ahead) == 0 {
		r.ahead = events
	} else {
		r.ahead = append(r.ahead[:len(r.ahead):len(r.ahead)], events...)
	}
	r.searched = max(r.searched, searched)
}

// skipExpired passes over events whose time has run out since they were read.
func (r *reader) skipExpired() {
	skipped := false
	for len(r.ahead) > 0 && r.isExpired(&r.ahead[0]) {
		r.n.expired.Add(1)
		r.pass(1)
		skipped = true
	}
	if skipped {
		r.commit()
	}
}

func (r *reader) isExpired(e *Event) bool {
	return !e.Expires.IsZero() && !e.Expires.After(r.g.b.opts.Clock())
}

// pass moves the head past the first n events read ahead.
func (r *reader) pass(n int) {
	r.head = r.ahead[n-1].Sequence
	r.ahead = r.ahead[n:]
	if len(r.ahead) == 0 {
		r.ahead = nil
		r.head = max(r.head, r.searched)
	}
}

// advance records the verdicts on the first events read ahead.
func (r *reader) advance(events []Event, verdicts []Verdict) {
	for i, v := range verdicts {
		if v == Nak && !r.refuse(&events[i]) {
			r.pending.add(events[i].Sequence, time.Now().Add(r.g.c.Backoff.wait(1)))
		}
	}
	r.pass(len(verdicts))
	r.commit()
}

// refuse counts a nak, and reports whether the event is given up because the broker is volatile.
func (r *reader) refuse(e *Event) bool {
	if !r.g.b.opts.Volatile {
		return false
	}
	if n := r.n.refused.Add(1); n&(n-1) == 0 { // 1, 2, 4, 8 ...
		r.log.Warn("event refused and not delivered again: the component keeps nothing", "topic", e.Topic, "sequence", e.Sequence, "refused", n)
	}
	return true
}

// redeliver offers events that were naked and are due, reading them again from the lane.
func (r *reader) redeliver(ctx context.Context, due []uint64) {
	events := make([]Event, 0, len(due))
	for _, seq := range due {
		found, _, err := r.lane.Read(ctx, seq-1, r.g.c.Filter, 1)
		if err != nil {
			if ctx.Err() == nil {
				r.pause(ctx, "read events for redelivery", err)
			}
			return
		}
		switch {
		case len(found) == 0 || found[0].Sequence != seq:
			r.pending.remove(seq)
			r.n.lost.Add(1)
			r.log.Warn("event removed while it waited for redelivery: it expired, or the topic's bounds were reached", "sequence", seq)
		case r.isExpired(&found[0]):
			r.n.expired.Add(1)
			r.pending.remove(seq)
		default:
			events = append(events, found[0])
		}
	}
	if len(events) == 0 {
		r.commit()
		return
	}
	r.n.redelivered.Add(uint64(len(events)))
	r.offer(ctx, events, func(events []Event, verdicts []Verdict) {
		for i, v := range verdicts {
			seq := events[i].Sequence
			if v != Nak || r.refuse(&events[i]) {
				r.pending.remove(seq)
			} else {
				r.pending.postpone(seq, time.Now(), r.g.c.Backoff)
			}
		}
		r.commit()
	})
}

// offer calls a handler until each event has a verdict, and hands the verdicts to settle in order. If no receiver can be
// reached it waits, and leaves what has no verdict to be read again: events of an application that is away take no memory.
func (r *reader) offer(ctx context.Context, events []Event, settle func([]Event, []Verdict)) {
	for len(events) > 0 {
		m, members := r.g.pick()
		if m == nil {
			return
		}
		verdicts, err := m.call(events)
		if err == nil {
			for len(verdicts) < len(events) { // a verdict that is missing is no ack
				verdicts = append(verdicts, Nak)
			}
		}
		verdicts = verdicts[:min(len(verdicts), len(events))]
		r.count(verdicts)
		if len(verdicts) > 0 {
			settle(events, verdicts)
			events = events[len(verdicts):]
		}
		if err != nil {
			r.unreachable(ctx, members, err)
			return
		}
		if r.failures > 0 {
			r.log.Info("receiver is back", "failures", r.failures)
			r.failures = 0
		}
	}
}

// unreachable counts a handler error, lets go of what was read ahead, and waits unless another subscription of the
// consumer has not been tried yet.
func (r *reader) unreachable(ctx context.Context, members int, err error) {
	r.n.failures.Add(1)
	r.ahead, r.searched = nil, r.head
	switch {
	case ctx.Err() != nil:
	case (r.failures+1)%members != 0:
		r.failures++
	default:
		r.pause(ctx, "deliver events", err)
	}
}

func (r *reader) count(verdicts []Verdict) {
	var n [3]uint64
	for _, v := range verdicts {
		n[min(v, Drop)]++
	}
	r.n.delivered.Add(uint64(len(verdicts)))
	r.n.acked.Add(n[Ack])
	r.n.naked.Add(n[Nak])
	r.n.dropped.Add(n[Drop])
}

// call runs the handler; a panic is an error.
func (m *member) call(events []Event) (verdicts []Verdict, err error) {
	defer m.calls.Done()
	defer func() {
		if p := recover(); p != nil {
			verdicts, err = nil, fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return m.h(m.ctx, events)
}

// pause logs an error, at 1, 2, 4, 8 ... in a row, and waits as Reconnect says.
func (r *reader) pause(ctx context.Context, doing string, err error) {
	r.failures++
	if bits.OnesCount(uint(r.failures)) == 1 {
		r.log.Warn(doing, "error", err, "failures", r.failures)
	}
	sleep(ctx, r.g.c.Reconnect.wait(r.failures))
}

func (r *reader) commit() {
	r.lane.Commit(r.g.c.Name, Cursor{Head: r.head, Pending: r.pending.sequences()})
	r.publish()
}

func (r *reader) publish() {
	r.n.head.Store(r.head)
	r.n.pending.Store(int64(r.pending.len()))
}

func (r *reader) stat() ConsumerStat {
	s := ConsumerStat{Name: r.g.c.Name, Filter: r.g.c.Filter, Lane: r.lane.Name(),
		Delivered: r.n.delivered.Load(), Acked: r.n.acked.Load(), Naked: r.n.naked.Load(), Dropped: r.n.dropped.Load(),
		Refused: r.n.refused.Load(), Redelivered: r.n.redelivered.Load(), Expired: r.n.expired.Load(),
		Lost: r.n.lost.Load(), Failures: r.n.failures.Load(),
		Head: r.n.head.Load(), Pending: int(r.n.pending.Load())}
	if last := r.lane.Stat().Last; last > s.Head {
		s.Lag = last - s.Head
	}
	return s
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
