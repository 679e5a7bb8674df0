package pubsub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/component"
)

// application is one application's side of the Service: what it wants to receive, and what runs for it. Whatever
// changes calls reconcile, which makes what runs equal to what is wanted.
type application struct {
	id   string
	turn turn // held while reconciling

	mu           sync.Mutex
	channel      Channel // nil: none, only streams
	started      bool
	unhealthy    bool
	asked        bool   // the programmatic subscriptions are known
	asks         int    // counts what makes an answer out of date
	declared     []Spec // in the order of listing
	programmatic []Spec
	running      map[string]*subscription // by key
	streams      []*Stream

	kick   chan struct{} // wakes tend; capacity 1
	ready  chan struct{} // closed after the first reconcile that knew the programmatic subscriptions
	isOpen bool          // ready is still open
	cancel context.CancelFunc
	done   chan struct{}
}

// turn is a mutex whose waiters can give up: it is held while deliveries end, which takes as long as they do.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// key identifies a subscription: Dapr has one for each topic of a component.
func (s *Spec) key() string { return s.PubSub + "||" + s.Topic }

// app returns the application, known from then on.
func (s *Service) app(id string) *application {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.apps[id]
	if a == nil {
		a = &application{id: id, turn: newTurn(), running: map[string]*subscription{}, kick: make(chan struct{}, 1), ready: make(chan struct{}), isOpen: true}
		s.apps[id] = a
	}
	return a
}

func (s *Service) everyApp() []*application {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.apps))
}

// StartApp begins to deliver to an application: it asks the application for its programmatic subscriptions, again and
// again until it answers, then starts those and the declared ones; WaitReady waits for that. Without a channel the
// application can only stream. The error names each declared subscription that can never work, such as one whose rule
// does not compile; the others are started.
func (s *Service) StartApp(_ context.Context, id string, channel Channel, specs []Spec) error {
	a := s.app(id)
	a.mu.Lock()
	if a.started {
		a.mu.Unlock()
		return fmt.Errorf("start subscriptions of application %q: they are started", id)
	}
	ctx, cancel := context.WithCancel(context.Background()) // until StopApp
	a.started, a.channel, a.cancel, a.done = true, channel, cancel, make(chan struct{})
	a.declared = scoped(id, specs)
	a.mu.Unlock()
	go s.tend(ctx, a)
	return s.check(specs)
}

// scoped returns the declared subscriptions that are for the application.
func scoped(app string, specs []Spec) []Spec {
	out := make([]Spec, 0, len(specs))
	for _, spec := range specs {
		if len(spec.Scopes) == 0 || slices.Contains(spec.Scopes, app) {
			spec.Kind = Declarative
			out = append(out, spec)
		}
	}
	return out
}

func (s *Service) check(specs []Spec) error {
	var errs []error
	for _, spec := range specs {
		if _, err := s.routes(spec.Rules); err != nil {
			errs = append(errs, fmt.Errorf("subscription %s (pubsub %s, topic %s): %w", spec.Name, spec.PubSub, spec.Topic, err))
		}
	}
	return errors.Join(errs...)
}

// WaitReady returns when the application's subscriptions have been started a first time, or ctx is done.
func (s *Service) WaitReady(ctx context.Context, id string) error {
	select {
	case <-s.app(id).ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// UpdateSpecs replaces the application's declared subscriptions. Those that did not change go on undisturbed; the
// others finish what they are delivering first. As for the listing, unchanged ones keep their place and others follow.
func (s *Service) UpdateSpecs(ctx context.Context, id string, specs []Spec) error {
	a := s.app(id)
	next := scoped(id, specs)
	a.mu.Lock()
	kept := make([]Spec, 0, len(next))
	for _, old := range a.declared {
		if i := slices.IndexFunc(next, func(n Spec) bool { return reflect.DeepEqual(n, old) }); i >= 0 {
			kept = append(kept, old)
			next = slices.Delete(next, i, i+1)
		}
	}
	a.declared = append(kept, next...)
	a.mu.Unlock()
	s.settle(ctx, a)
	return s.check(specs)
}

// AppHealthy pauses and resumes deliveries to an application; streams are not concerned. Going unhealthy returns after
// deliveries under way have ended. When the application is healthy again it is asked anew what it subscribes to. Called
// before StartApp it says in which state the application starts; otherwise it is healthy.
func (s *Service) AppHealthy(id string, healthy bool) {
	a := s.app(id)
	a.mu.Lock()
	changed := a.unhealthy == healthy
	a.unhealthy = !healthy
	if changed {
		a.asked = false
		a.asks++
	}
	a.mu.Unlock()
	if !changed {
		return
	}
	if healthy {
		a.wake()
		return
	}
	s.settle(context.Background(), a)
}

// ComponentUp starts what is subscribed to a component that was added or replaced.
func (s *Service) ComponentUp(ctx context.Context, name string) {
	s.mu.Lock()
	delete(s.down, name)
	s.mu.Unlock()
	for _, a := range s.everyApp() {
		s.settle(ctx, a)
	}
}

// ComponentDown ends the subscriptions to a component that is about to be replaced or removed, after what they are
// delivering. Streams stay open, and go on after ComponentUp.
func (s *Service) ComponentDown(ctx context.Context, name string) {
	s.mu.Lock()
	s.down[name] = true
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, a := range s.everyApp() {
		wg.Go(func() { s.settle(ctx, a) })
	}
	wg.Wait()
}

// StopApp ends all deliveries to an application: no new ones begin, those under way finish, then streams end. It waits
// until ctx is done at most. The application may be started again.
func (s *Service) StopApp(ctx context.Context, id string) error {
	s.mu.Lock()
	a := s.apps[id]
	delete(s.apps, id)
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.end(a)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop subscriptions of application %q: %w", id, ctx.Err())
	}
}

// end stops what runs for a. Drain deadlines bound it.
func (s *Service) end(a *application) {
	a.mu.Lock()
	started := a.started
	a.started, a.asked = false, false
	streams := slices.Clone(a.streams)
	a.mu.Unlock()
	if started {
		a.cancel()
		<-a.done
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.reconcile(context.Background(), a) })
	for _, st := range streams {
		wg.Go(st.end)
	}
	wg.Wait()
}

// Close ends all deliveries to all applications.
func (s *Service) Close(ctx context.Context) error {
	apps := s.everyApp()
	errs := make([]error, len(apps))
	var wg sync.WaitGroup
	for i, a := range apps {
		wg.Go(func() { errs[i] = s.StopApp(ctx, a.id) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Subscriptions lists what the application is subscribed to, for the metadata API: the declared and the programmatic
// subscriptions, of which the latter replace the former for a topic, then the open streams.
func (s *Service) Subscriptions(id string) []Spec {
	s.mu.Lock()
	a := s.apps[id]
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.specs()
	for _, st := range a.streams {
		out = append(out, st.spec)
	}
	return out
}

// specs merges the declared subscriptions (the first for a topic counts) with the programmatic ones (the last does).
func (a *application) specs() []Spec {
	var out []Spec
	place := map[string]int{}
	for _, spec := range a.declared {
		if _, taken := place[spec.key()]; !taken {
			place[spec.key()] = len(out)
			out = append(out, spec)
		}
	}
	for _, spec := range a.programmatic {
		if i, taken := place[spec.key()]; taken {
			out[i] = spec
			continue
		}
		place[spec.key()] = len(out)
		out = append(out, spec)
	}
	return out
}

func (a *application) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// tend looks after an application from StartApp to StopApp: it asks for programmatic subscriptions and tries again what
// could not be started.
func (s *Service) tend(ctx context.Context, a *application) {
	defer close(a.done)
	backoff := Backoff{}.orDefault(100*time.Millisecond, 5*time.Second)
	for failures := 0; ctx.Err() == nil; {
		err := s.ask(ctx, a)
		if err == nil {
			err = s.reconcile(ctx, a)
		}
		if err == nil {
			failures = 0
			select {
			case <-a.kick:
			case <-ctx.Done():
			}
			continue
		}
		failures++
		if failures&(failures-1) == 0 && ctx.Err() == nil {
			s.log.Warn("subscriptions are not complete yet", "app", a.id, "err", err, "failures", failures)
		}
		wait, cancel := context.WithTimeout(ctx, backoff.wait(failures))
		select {
		case <-a.kick:
		case <-wait.Done():
		}
		cancel()
	}
}

// ask gets the programmatic subscriptions, if there is anything to subscribe to and somebody to ask.
func (s *Service) ask(ctx context.Context, a *application) error {
	a.mu.Lock()
	channel, asks, needless := a.channel, a.asks, a.asked || a.unhealthy
	a.mu.Unlock()
	if needless || channel == nil || len(s.opts.Brokers.All(a.id)) == 0 {
		return nil
	}
	specs, err := channel.Subscriptions(ctx)
	if err != nil {
		return fmt.Errorf("ask the application for its subscriptions: %w", err)
	}
	usable := make([]Spec, 0, len(specs))
	for _, spec := range specs {
		spec.Kind = Programmatic
		if len(spec.Rules) == 0 {
			s.log.Warn("subscription has no route and is left out", "app", a.id, "pubsub", spec.PubSub, "topic", spec.Topic)
			continue
		}
		usable = append(usable, spec)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asks == asks {
		a.asked, a.programmatic = true, usable
	}
	return nil
}

// settle reconciles now, and has what fails tried again.
func (s *Service) settle(ctx context.Context, a *application) {
	if err := s.reconcile(ctx, a); err != nil {
		s.log.Warn("subscriptions are not complete yet", "app", a.id, "err", err)
	}
	a.wake()
}

// reconcile makes what runs for a equal to what is wanted: first it stops, waiting for deliveries under way, then it
// starts.
func (s *Service) reconcile(ctx context.Context, a *application) error {
	if err := a.turn.take(ctx); err != nil {
		return err
	}
	defer a.turn.give()
	want, known := s.wanted(a)
	a.mu.Lock()
	var stop []*subscription
	for key, sub := range a.running {
		w, ok := want[key]
		if ok && w.inst.Value == sub.inst.Value && reflect.DeepEqual(w.spec, sub.spec) {
			delete(want, key)
			continue
		}
		stop = append(stop, sub)
		delete(a.running, key)
	}
	streams := slices.Clone(a.streams)
	a.mu.Unlock()
	closeAll(stop)
	var errs []error
	for key, w := range want {
		sub, err := s.start(ctx, a, w)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if sub != nil {
			a.mu.Lock()
			a.running[key] = sub
			a.mu.Unlock()
		}
	}
	for _, st := range streams {
		errs = append(errs, st.follow(ctx))
	}
	if known {
		a.mu.Lock()
		if a.isOpen {
			a.isOpen = false
			close(a.ready)
		}
		a.mu.Unlock()
	}
	return errors.Join(errs...)
}

func closeAll(subs []*subscription) {
	var wg sync.WaitGroup
	for _, sub := range subs {
		wg.Go(sub.close)
	}
	wg.Wait()
}

// plan is a subscription that should run.
type plan struct {
	spec Spec
	inst component.Instance[Broker]
}

// wanted returns what should run, and whether that is all that will be: not while the application was not asked.
func (s *Service) wanted(a *application) (want map[string]plan, known bool) {
	a.mu.Lock()
	specs := a.specs()
	on := a.started && !a.unhealthy && a.asked && a.channel != nil
	known = a.started && (on || a.channel == nil || len(s.opts.Brokers.All(a.id)) == 0)
	a.mu.Unlock()
	want = map[string]plan{}
	if !on {
		return want, known
	}
	for _, spec := range specs {
		if inst, ok := s.broker(a.id, spec.PubSub); ok {
			want[spec.key()] = plan{spec: spec, inst: inst}
		}
	}
	return want, known
}

// broker returns a component that the application may use and that is not being replaced.
func (s *Service) broker(app, name string) (component.Instance[Broker], bool) {
	s.mu.Lock()
	down := s.down[name]
	s.mu.Unlock()
	if down {
		return component.Instance[Broker]{}, false
	}
	return s.opts.Brokers.Get(app, name)
}

// start begins a subscription. It returns nil without an error for one that can never run; that is logged.
func (s *Service) start(ctx context.Context, a *application, p plan) (*subscription, error) {
	log := s.log.With("app", a.id, "pubsub", p.spec.PubSub, "topic", p.spec.Topic)
	if !topicAllowed(p.inst.Spec.Properties, subscriptionScopes, a.id, p.spec.Topic) {
		log.Error("subscription is not allowed by the component's scopes")
		return nil, nil
	}
	sub, err := s.newSubscription(a.id, p, a.channel)
	if err != nil {
		log.Error("subscription cannot start", "err", err)
		return nil, nil
	}
	c := consumer(a.id, "app", p)
	h := sub.handle
	if b := p.spec.Bulk; b.Enabled {
		h = sub.handleBulk
		c.MaxBatch, c.MaxWait = 100, time.Second
		if b.MaxMessagesCount > 0 {
			c.MaxBatch = b.MaxMessagesCount
		}
		if b.MaxAwaitDurationMs > 0 {
			c.MaxWait = time.Duration(b.MaxAwaitDurationMs) * time.Millisecond
		}
	}
	if sub.sub, err = p.inst.Value.Subscribe(ctx, c, h); err != nil {
		return nil, fmt.Errorf("subscribe to topic %s of pubsub %s: %w", p.spec.Topic, p.spec.PubSub, err)
	}
	return sub, nil
}

// consumer names the durable place of a subscription: what the component's or the subscription's consumerID says, or the
// application's id; then the topic, so that two subscriptions never share a place.
func consumer(app, kind string, p plan) Consumer {
	id := p.spec.Metadata["consumerID"]
	if id == "" {
		id = strings.TrimSpace(property(p.inst.Spec.Properties, "consumerID"))
	}
	start := p.spec.Metadata["startFrom"]
	if start == "" {
		start = property(p.inst.Spec.Properties, "startFrom")
	}
	c := Consumer{Name: kind + ":" + or(id, app) + ":" + p.spec.Topic, Filter: p.spec.Topic, Start: Oldest}
	if strings.EqualFold(start, string(Newest)) {
		c.Start = Newest
	}
	return c
}
