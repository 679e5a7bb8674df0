package pubsub

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/component"
)

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
			s.log.Warn("subscriptions are not complete yet", "app", a.id, "error", err, "failures", failures)
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
		s.log.Warn("subscriptions are not complete yet", "app", a.id, "error", err)
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
		log.Error("subscription cannot start", "error", err)
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
	c := Consumer{Name: kind + ":" + or(id, app) + ":" + p.spec.Topic, Filter: p.spec.Topic, Start: Oldest, Metadata: p.spec.Metadata}
	if strings.EqualFold(start, string(Newest)) {
		c.Start = Newest
	}
	return c
}
