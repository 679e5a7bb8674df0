package pubsub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"
)

// ErrClosed reports that a broker or journal is closed.
var ErrClosed = errors.New("pub/sub is closed")

// BrokerOptions configure a JournalBroker. Zero values mean the defaults.
type BrokerOptions struct {
	Log   *slog.Logger     // default slog.Default
	Clock func() time.Time // time of day, for accept times and expiry; default time.Now
	// Features is the answer of Features. Default SUBSCRIBE_WILDCARDS.
	Features []string
	// Volatile gives the semantics of Dapr's in-memory component: subscriptions are forgotten when they close and start
	// with what is published from then on, every subscription gets every event, events are handed over one at a time, and
	// what the receiver refuses is not delivered again. What is refused is counted and logged.
	Volatile bool
	// DrainTimeout is how long Close waits for handlers before it cancels their contexts. Default 20 s.
	DrainTimeout time.Duration
}

// JournalBroker is the consumer engine: a Broker over any Journal. Each subscription reads each of its lanes with one
// goroutine, calls its handler in order, and moves a durable cursor only past what was handled. It is safe for concurrent
// use.
type JournalBroker struct {
	journal Journal
	opts    BrokerOptions

	mu     sync.Mutex
	closed bool
	groups map[string]*group
	serial uint64
}

var _ Broker = (*JournalBroker)(nil)

// NewBroker returns a broker over journal and takes it over: Close closes the journal too if it has a Close method.
func NewBroker(journal Journal, opts BrokerOptions) *JournalBroker {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Features == nil {
		opts.Features = []string{FeatureWildcards}
	}
	opts.DrainTimeout = cmp.Or(opts.DrainTimeout, 20*time.Second)
	return &JournalBroker{journal: journal, opts: opts, groups: map[string]*group{}}
}

// NewInMemory returns Dapr's pubsub.in-memory: a volatile broker over a bounded memory journal.
func NewInMemory(log *slog.Logger) *JournalBroker {
	return NewBroker(NewMemoryJournal(MemoryOptions{Discard: true}), BrokerOptions{Log: log, Volatile: true})
}

// Features in Dapr's words.
const (
	FeatureTTL       = "MESSAGE_TTL"
	FeatureWildcards = "SUBSCRIBE_WILDCARDS"
	FeatureBulk      = "BULK_PUBSUB"
)

// Features lists what the component can do, in Dapr's words.
func (b *JournalBroker) Features() []string { return b.opts.Features }

// Journal returns the journal that the broker reads, for its figures.
func (b *JournalBroker) Journal() Journal { return b.journal }

// Publish appends events to the journal and returns when they are as durable as it promises.
func (b *JournalBroker) Publish(ctx context.Context, events []Event) error {
	var now time.Time
	for i := range events {
		if events[i].Topic == "" {
			return errors.New("publish: an event has no topic")
		}
		if events[i].Time.IsZero() {
			if now.IsZero() {
				now = b.opts.Clock()
			}
			events[i].Time = now
		}
	}
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return ErrClosed
	}
	return b.journal.Append(ctx, events)
}

// Subscribe starts a consumer, or joins one that runs under the same name and filter: then each event goes to one of the
// subscriptions, in turn and still in order. It returns when the consumer is registered durably.
func (b *JournalBroker) Subscribe(ctx context.Context, c Consumer, h Handler) (Subscription, error) {
	c = b.defaults(c)
	for {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			return nil, ErrClosed
		}
		if c.Volatile {
			b.serial++
			c.Name += "#" + strconv.FormatUint(b.serial, 10)
		} else if c.Name == "" {
			b.mu.Unlock()
			return nil, errors.New("subscribe: a durable consumer needs a name")
		}
		g := b.groups[c.Name]
		if g == nil {
			g = newGroup(b, c)
			b.groups[c.Name] = g
			b.mu.Unlock()
			return g.start(ctx, h)
		}
		b.mu.Unlock()
		if g.c.Filter != c.Filter {
			return nil, fmt.Errorf("subscribe: consumer %q already reads %q, not %q", c.Name, g.c.Filter, c.Filter)
		}
		if m, err := g.join(ctx, h); m != nil || err != nil {
			return m, err
		}
		// The group is ending: its cursors are still moving. Begin anew when it has ended.
	}
}

func (b *JournalBroker) defaults(c Consumer) Consumer {
	if b.opts.Volatile {
		c.Volatile = true
	}
	if c.Volatile {
		c.Start = Newest
	}
	c.MaxBatch = max(1, c.MaxBatch)
	c.MaxPending = max(1, cmp.Or(c.MaxPending, 256))
	c.Backoff = c.Backoff.orDefault(100*time.Millisecond, 30*time.Second)
	c.Reconnect = c.Reconnect.orDefault(100*time.Millisecond, 5*time.Second)
	return c
}

// Forget drops a durable consumer that does not run, with its cursors: nothing is kept for it any more.
func (b *JournalBroker) Forget(ctx context.Context, consumer string) error {
	b.mu.Lock()
	_, runs := b.groups[consumer]
	b.mu.Unlock()
	if runs {
		return fmt.Errorf("forget consumer %q: it is running", consumer)
	}
	var errs []error
	for _, l := range b.journal.Lanes("#") {
		errs = append(errs, l.Detach(ctx, consumer))
	}
	return errors.Join(errs...)
}

// Consumers returns the figures of the running consumers, one per lane, sorted by name and lane.
func (b *JournalBroker) Consumers() []ConsumerStat {
	b.mu.Lock()
	groups := make([]*group, 0, len(b.groups))
	for _, g := range b.groups {
		groups = append(groups, g)
	}
	b.mu.Unlock()
	var out []ConsumerStat
	for _, g := range groups {
		out = append(out, g.stats()...)
	}
	slices.SortFunc(out, func(a, b ConsumerStat) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Lane, b.Lane))
	})
	return out
}

// Close closes all subscriptions, each with its drain deadline, and the journal. It may be called twice.
func (b *JournalBroker) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	var members []*member
	for _, g := range b.groups {
		members = append(members, g.list()...)
	}
	b.mu.Unlock()
	errs := make([]error, len(members)+1)
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { errs[i] = m.Close() })
	}
	wg.Wait()
	if c, ok := b.journal.(io.Closer); ok {
		errs[len(members)] = c.Close()
	}
	return errors.Join(errs...)
}

// ConsumerStat are the figures of one consumer in one lane, since it was started.
type ConsumerStat struct {
	Name, Filter, Lane string

	Delivered   uint64 // events handed to the handler, redeliveries included
	Acked       uint64
	Naked       uint64
	Dropped     uint64 // by the handler's verdict
	Refused     uint64 // naked, and not delivered again because the broker is volatile
	Redelivered uint64
	Expired     uint64 // between reading and delivery
	Lost        uint64 // removed from the journal while they waited for redelivery
	Failures    uint64 // handler errors: the receiver could not be reached

	Head    uint64 // the cursor
	Pending int    // waiting for redelivery
	Lag     uint64 // sequences of the lane beyond the cursor
}
