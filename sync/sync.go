package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/state"
)

// Store is what sync needs of a state store component.
type Store interface {
	state.Feed
	state.Scanner
	Get(ctx context.Context, keys ...string) ([]state.Entry, error)
}

// Deps are what sync works with. The lookups may answer false for a component that is not there yet: it is asked again.
type Deps struct {
	Device   string // id: lower case, no dots
	Log      *slog.Logger
	Clock    func() time.Time // for stamps only: nothing is ordered by it
	Meta     Meta             // keeps the checkpoints of event lanes; it must be as durable as the journals
	Journals func(pubsub string) (pubsub.Journal, bool)
	Stores   func(store string) (Store, bool)
	Secret   func(ctx context.Context, store, name string) (map[string]string, error) // nil: there are no secrets
	Conflict func(Conflict)                                                           // told of conflicts; may be nil; must not block
}

// Conflict is a local write to a key that the cloud owns. The cloud's value has replaced it.
type Conflict struct {
	Store   string    `json:"store"`
	Key     string    `json:"key"`
	Deleted bool      `json:"deleted,omitempty"` // the local write was a delete
	Value   []byte    `json:"value,omitempty"`   // what was written here
	Rev     uint64    `json:"revision"`          // upstream revision that won
	Time    time.Time `json:"time"`
}

// Sync keeps a device in sync with its upstream.
type Sync struct {
	cfg    Config
	deps   Deps
	link   *link
	up     Upstream
	turns  *turns
	report reporter

	stop  context.CancelFunc
	ended chan struct{}
	mu    sync.Mutex
	ran   bool
}

// unit is a lane, or the downlink of a store: one flow that works as long as there is a session.
type unit interface {
	// open prepares what needs no upstream. It is tried again until it succeeds.
	open(ctx context.Context) error
	// session works until ctx is done, or something has to be found out with a new session.
	session(ctx context.Context) error
	name() string
	// close writes down what is not written yet.
	close(ctx context.Context) error
}

// New checks the configuration and prepares. It starts nothing and needs nobody to be there.
func New(cfg Config, deps Deps) (*Sync, error) {
	var errs []error
	cfg.Validate(func(field, value, problem, hint string) {
		errs = append(errs, fmt.Errorf("upstream.%s: %s: %s (%s)", field, value, problem, hint))
	})
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`).MatchString(deps.Device) {
		errs = append(errs, fmt.Errorf("device %q: not an id (lower-case letters, digits, - and _)", deps.Device))
	}
	if len(cfg.Events) > 0 && (deps.Journals == nil || deps.Meta == nil) {
		errs = append(errs, errors.New("event lanes need journals and a place for checkpoints"))
	}
	if len(cfg.State) > 0 && deps.Stores == nil {
		errs = append(errs, errors.New("state sync needs a state store"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure upstream: %w", err)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	n := names{device: deps.Device, stream: cfg.Stream, bucket: cfg.Bucket}
	s := &Sync{cfg: cfg, deps: deps, turns: newTurns(int(cfg.Batch.MaxBytes)), stop: func() {}, ended: make(chan struct{})}
	s.report.init(deps.Log, deps.Clock)
	s.link = newLink(cfg, deps.Device, deps.Log, deps.Secret)
	s.up = newJetStream(s.link, n, cfg.Timeout, deps.Clock)
	return s, nil
}

// Run connects and syncs until ctx is done or Close is called. Whatever is missing it waits for: it returns an error only
// when it is called a second time.
func (s *Sync) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s.mu.Lock()
	if s.ran {
		s.mu.Unlock()
		return errors.New("sync: run twice")
	}
	s.ran, s.stop = true, stop
	s.mu.Unlock()
	defer close(s.ended)
	defer s.link.close()
	var wg sync.WaitGroup
	wg.Go(func() { s.connect(ctx) })
	wg.Go(func() {
		if err := watchNetwork(ctx, s.link.nudge); err != nil {
			s.deps.Log.Info("reconnecting by time only", "reason", err)
		}
	})
	for _, start := range s.sources() {
		wg.Go(func() { start(ctx) })
	}
	wg.Wait()
	return nil
}

// connect tries until the connection can be configured: a secret or a file may still be missing. From then on the link
// looks after itself.
func (s *Sync) connect(ctx context.Context) {
	until(ctx, s.cfg.Backoff, func() bool {
		err := s.link.open(ctx)
		if err != nil {
			s.link.failed(nil, err)
		}
		return err == nil
	})
}

// sources are what finds the lanes and runs them: the journals behind each lane and the store.
func (s *Sync) sources() []func(ctx context.Context) {
	var out []func(ctx context.Context)
	for _, group := range groupRules(s.cfg.Events) {
		out = append(out, func(ctx context.Context) { s.runLanes(ctx, group) })
	}
	if len(s.cfg.State) > 0 {
		out = append(out, s.runState)
	}
	return out
}

// laneRules are the rules of one lane on one component, in order, and those of other lanes that come before them.
type laneRules struct {
	lane, pubsub string
	filter       string // what to read
	takes        func(topic string) bool
}

func groupRules(rules []EventRule) []laneRules {
	var out []laneRules
	seen := map[[2]string]int{}
	for _, r := range rules {
		id := [2]string{r.Lane, r.pubsub()}
		if i, ok := seen[id]; ok {
			out[i].filter = "#" // several filters in one lane: read everything, take what matches
			continue
		}
		seen[id] = len(out)
		out = append(out, laneRules{lane: r.Lane, pubsub: r.pubsub(), filter: r.Topics, takes: func(topic string) bool {
			for _, other := range rules {
				if other.pubsub() == r.pubsub() && matches(other.Topics, topic) {
					return other.Lane == r.Lane
				}
			}
			return false
		}})
	}
	return out
}

// runLanes runs one lane on every journal lane that holds its topics.
func (s *Sync) runLanes(ctx context.Context, rules laneRules) {
	var journal pubsub.Journal
	if !until(ctx, s.cfg.Backoff, func() (ok bool) { journal, ok = s.deps.Journals(rules.pubsub); return ok }) {
		return
	}
	var wg sync.WaitGroup
	for _, jl := range journal.Lanes(rules.filter) {
		u := newEventLane(s, rules, journal, jl)
		wg.Go(func() { s.runUnit(ctx, u) })
	}
	wg.Wait()
}

// runState runs the lane and the downlink of the store.
func (s *Sync) runState(ctx context.Context) {
	name := s.cfg.State[0].store()
	var store Store
	if !until(ctx, s.cfg.Backoff, func() (ok bool) { store, ok = s.deps.Stores(name); return ok }) {
		return
	}
	var wg sync.WaitGroup
	up := newStateLane(s, name, store)
	wg.Go(func() { s.runUnit(ctx, up) })
	for _, r := range s.cfg.State {
		if r.Owner == OwnerCloud {
			down := newDownlink(s, name, store)
			wg.Go(func() { s.runUnit(ctx, down) })
			break
		}
	}
	wg.Wait()
}

// runUnit opens a unit and gives it one session after the other, with backoff between those that fail.
func (s *Sync) runUnit(ctx context.Context, u unit) {
	opened := until(ctx, s.cfg.Backoff, func() bool {
		err := u.open(ctx)
		s.report.failed(u.name(), err)
		return err == nil
	})
	if !opened {
		return
	}
	for attempt := 0; ctx.Err() == nil; {
		session, end, err := s.link.wait(ctx)
		if err != nil {
			break
		}
		before := s.report.progress(u.name())
		err = u.session(session)
		if s.report.progress(u.name()) != before {
			attempt = 0
		}
		if session.Err() == nil { // the session goes on: wait before trying again
			s.report.failed(u.name(), err)
			attempt++
			pause(session, s.delay(err, attempt))
		}
		end()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := u.close(ctx); err != nil {
		s.deps.Log.Warn("close lane", "lane", u.name(), "error", err)
	}
}

const (
	closeTimeout = 5 * time.Second
	operatorWait = 15 * time.Second // between looks at something that an operator must change
)

// delay is how long to wait after a trouble that the session has survived.
func (s *Sync) delay(err error, attempt int) time.Duration {
	switch troubleOf(err) {
	case Fenced, Duplicate:
		return Backoff{Min: 5 * time.Millisecond, Max: time.Second}.delay(attempt)
	case Denied, Missing, Full:
		return Backoff{Min: s.cfg.Backoff.Min, Max: min(operatorWait, s.cfg.Backoff.Max)}.delay(attempt)
	}
	if errors.Is(err, errStopped) {
		return min(operatorWait, s.cfg.Backoff.Max)
	}
	return s.cfg.Backoff.delay(attempt)
}

// Close stops Run and waits for it. It may be called twice.
func (s *Sync) Close() error {
	s.mu.Lock()
	ran, stop := s.ran, s.stop
	s.mu.Unlock()
	stop()
	if ran {
		<-s.ended
	}
	return nil
}

// until calls ok, with backoff, until it is true; false means that ctx is done.
func until(ctx context.Context, b Backoff, ok func() bool) bool {
	for attempt := 1; !ok(); attempt++ {
		if !pause(ctx, b.delay(attempt)) {
			return false
		}
	}
	return ctx.Err() == nil
}

// pause waits, and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
