package pubsub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
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

// AppHealthy pauses and resumes deliveries to an application; streams are not concerned. It returns at once: deliveries
// under way finish, and no new ones begin. When the application is healthy again it is asked anew what it subscribes to.
// Called before StartApp it says in which state the application starts; otherwise it is healthy.
func (s *Service) AppHealthy(id string, healthy bool) {
	a := s.app(id)
	a.mu.Lock()
	if a.unhealthy == healthy { // it changed
		a.unhealthy = !healthy
		a.asked = false
		a.asks++
	}
	a.mu.Unlock()
	a.wake()
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
