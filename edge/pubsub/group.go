package pubsub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// group is one consumer: the readers of its lanes, and the subscriptions that share it.
type group struct {
	b       *JournalBroker
	c       Consumer
	stop    context.CancelFunc // ends the readers
	running sync.WaitGroup
	started chan struct{} // closed when start has succeeded or failed
	ended   chan struct{} // closed when the readers are done and the cursors flushed

	mu      sync.Mutex
	members []*member
	turn    int
	ending  bool
	readers []*reader
}

func newGroup(b *JournalBroker, c Consumer) *group {
	return &group{b: b, c: c, started: make(chan struct{}), ended: make(chan struct{})}
}

// start attaches to all lanes and begins to read them.
func (g *group) start(ctx context.Context, h Handler) (Subscription, error) {
	defer close(g.started)
	lanes := g.b.journal.Lanes(g.c.Filter)
	readers := make([]*reader, 0, len(lanes))
	for _, lane := range lanes {
		cursor, err := lane.Attach(ctx, g.c.Name, g.c.Filter, g.c.Start)
		if err != nil {
			g.abandon(readers)
			return nil, fmt.Errorf("attach consumer %q to lane %s: %w", g.c.Name, lane.Name(), err)
		}
		readers = append(readers, newReader(g, lane, cursor))
	}
	read, stop := context.WithCancel(context.Background())
	m := newMember(g, h)
	g.mu.Lock()
	g.stop, g.readers, g.members = stop, readers, []*member{m}
	g.mu.Unlock()
	for _, r := range readers {
		g.running.Go(func() { r.run(read) })
	}
	g.b.mu.Lock()
	closed := g.b.closed
	g.b.mu.Unlock()
	if closed { // Close may have looked before there was anything to close
		return nil, errors.Join(ErrClosed, m.Close())
	}
	return m, nil
}

// abandon undoes a start that failed half-way.
func (g *group) abandon(readers []*reader) {
	if g.c.Volatile {
		for _, r := range readers {
			_ = r.lane.Detach(context.Background(), g.c.Name) // memory only
		}
	}
	g.mu.Lock()
	g.ending = true
	g.mu.Unlock()
	g.b.remove(g)
}

// join adds a subscription. It returns nil, nil after waiting for the end of a group that was ending.
func (g *group) join(ctx context.Context, h Handler) (*member, error) {
	select {
	case <-g.started:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	g.mu.Lock()
	if !g.ending {
		m := newMember(g, h)
		g.members = append(g.members, m)
		g.mu.Unlock()
		return m, nil
	}
	g.mu.Unlock()
	select {
	case <-g.ended:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b *JournalBroker) remove(g *group) {
	b.mu.Lock()
	if b.groups[g.c.Name] == g {
		delete(b.groups, g.c.Name)
	}
	b.mu.Unlock()
	close(g.ended)
}

func (g *group) list() []*member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]*member(nil), g.members...)
}

// pick returns the subscription whose turn it is, with a call registered that the caller ends with m.calls.Done, and how
// many there are. It returns nil when the group is ending.
func (g *group) pick() (*member, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.members) == 0 {
		return nil, 0
	}
	g.turn = (g.turn + 1) % len(g.members)
	m := g.members[g.turn]
	m.calls.Add(1)
	return m, len(g.members)
}

func (g *group) stats() []ConsumerStat {
	g.mu.Lock()
	readers := g.readers
	g.mu.Unlock()
	out := make([]ConsumerStat, len(readers))
	for i, r := range readers {
		out[i] = r.stat()
	}
	return out
}

// member is one subscription of a group.
type member struct {
	g      *group
	h      Handler
	ctx    context.Context // of its handler calls; ends when the drain deadline has passed
	cancel context.CancelFunc
	calls  sync.WaitGroup
	once   sync.Once
	err    error
}

// Handler calls outlive the call to Subscribe, so their context is the member's own.
func newMember(g *group, h Handler) *member {
	ctx, cancel := context.WithCancel(context.Background())
	return &member{g: g, h: h, ctx: ctx, cancel: cancel}
}

// Close stops deliveries to this subscription, waits for those under way and, if it was the consumer's last, flushes
// the cursors.
func (m *member) Close() error {
	m.once.Do(func() { m.err = m.close() })
	return m.err
}

func (m *member) close() error {
	g := m.g
	g.mu.Lock()
	for i, o := range g.members {
		if o == m {
			g.members = append(g.members[:i:i], g.members[i+1:]...)
			break
		}
	}
	last := len(g.members) == 0
	g.ending = g.ending || last
	g.mu.Unlock()
	if last {
		g.stop()
	}
	deadline := time.AfterFunc(g.b.opts.DrainTimeout, m.cancel)
	m.calls.Wait()
	deadline.Stop()
	m.cancel()
	if !last {
		return nil
	}
	g.running.Wait()
	defer g.b.remove(g)
	return g.settle()
}

// settle leaves the journal as the consumer promises: cursors on disk, or nothing at all.
func (g *group) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, r := range g.readers {
		if g.c.Volatile {
			errs = append(errs, r.lane.Detach(ctx, g.c.Name))
		} else if err := r.lane.Flush(ctx); err != nil {
			errs = append(errs, fmt.Errorf("flush cursor of consumer %q: %w", g.c.Name, err))
		}
	}
	return errors.Join(errs...)
}
