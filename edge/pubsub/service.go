package pubsub

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
)

// Matcher is a compiled routing rule: a condition on a CloudEvent.
type Matcher interface {
	Match(event map[string]any) (bool, error)
}

// Observer is told of each publish and delivery, for metrics in Dapr's words. Its methods must be quick and safe for
// concurrent use. Status is success, retry or drop.
type Observer interface {
	Published(app, component, topic string, events int, bulk bool, err error, took time.Duration)
	Delivered(app, component, topic string, status string, took time.Duration)
	DeliveredBulk(app, component, topic string, status map[string]int, took time.Duration)
}

// ServiceOptions configure a Service. Only Brokers is needed.
type ServiceOptions struct {
	Brokers *component.Set[Broker]
	Log     *slog.Logger     // default slog.Default
	Clock   func() time.Time // default time.Now
	// Compile turns the condition of a routing rule into a Matcher. Without it, conditions are refused.
	Compile func(expression string) (Matcher, error)
	// Inbound and Outbound return the policy for deliveries to, and publishes of, an application; nil for none.
	Inbound, Outbound func(app, component string) Policy
	Observer          Observer
}

// Service is the publish and subscribe API over all pub/sub components, for every application: what Dapr's API means,
// in plain Go. It is safe for concurrent use.
type Service struct {
	opts ServiceOptions
	log  *slog.Logger

	mu   sync.Mutex
	apps map[string]*application
	down map[string]bool // components that are being replaced
}

// NewService returns the API over the brokers.
func NewService(opts ServiceOptions) *Service {
	opts.Log = cmp.Or(opts.Log, slog.Default())
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.Compile == nil {
		opts.Compile = func(string) (Matcher, error) { return nil, errors.New("routing conditions are not built in") }
	}
	return &Service{opts: opts, log: opts.Log, apps: map[string]*application{}, down: map[string]bool{}}
}

// Publication is one event as an application publishes it.
type Publication struct {
	PubSub, Topic string
	Data          []byte // not kept: the caller may reuse it
	ContentType   string
	// Metadata is rawPayload, ttlInSeconds, cloudevent.* and whatever the component knows; subscribers get it too. It must
	// not be changed afterwards.
	Metadata                map[string]string
	TraceParent, TraceState string // W3C trace context
}

// BulkEntry is one event of a bulk publish. Its metadata goes before the request's.
type BulkEntry struct {
	ID          string // unique in the request
	Data        []byte // not kept
	ContentType string
	Metadata    map[string]string
}

// FailedEntry is an event of a bulk publish that was not accepted.
type FailedEntry struct {
	ID  string
	Err error
}

// Publish accepts one event with the durability of its component. Errors are API errors, as Dapr's publish answers them.
func (s *Service) Publish(ctx context.Context, app string, p Publication) error {
	inst, raw, err := s.target(app, &p)
	if err != nil {
		return err
	}
	e, err := s.event(inst, app, &p, raw)
	if err != nil {
		return err
	}
	if err := mayPublish(inst, app, p.Topic); err != nil {
		return err
	}
	return s.send(ctx, inst, app, p.Topic, []Event{e}, false)
}

// BulkPublish accepts all entries or none, or as many as a broker outside takes: failed names those refused. Errors are API
// errors, as Dapr's bulk publish answers them. Data, content type and trace state of p itself are not used.
func (s *Service) BulkPublish(ctx context.Context, app string, p Publication, entries []BulkEntry) (failed []FailedEntry, err error) {
	inst, raw, err := s.target(app, &p)
	if err != nil {
		return nil, err
	}
	events := make([]Event, len(entries))
	ids := make(map[string]struct{}, len(entries))
	for i, entry := range entries {
		if _, twice := ids[entry.ID]; twice || entry.ID == "" {
			return nil, fault.PubSubEntries(p.PubSub, p.Topic, app)
		}
		ids[entry.ID] = struct{}{}
		one := p
		one.Data, one.ContentType, one.Metadata = entry.Data, entry.ContentType, merge(p.Metadata, entry.Metadata)
		if events[i], err = s.event(inst, app, &one, raw); err != nil {
			return nil, err
		}
	}
	if err := mayPublish(inst, app, p.Topic); err != nil || len(entries) == 0 {
		return nil, err
	}
	if err = s.send(ctx, inst, app, p.Topic, events, true); err == nil {
		return nil, nil
	}
	var partial *PartialError
	some := errors.As(err, &partial)
	for i, entry := range entries {
		cause := errors.Unwrap(err)
		if some {
			if cause = partial.Failed[i]; cause == nil {
				continue
			}
		}
		failed = append(failed, FailedEntry{ID: entry.ID, Err: cause})
	}
	return failed, err
}

func mayPublish(inst component.Instance[Broker], app, topic string) error {
	if !topicAllowed(inst.Spec.Properties, publishingScopes, app, topic) {
		return fault.PubSubForbidden(inst.Spec.Name, topic, app)
	}
	return nil
}

func merge(request, entry map[string]string) map[string]string {
	if len(entry) == 0 {
		return request
	}
	m := maps.Clone(entry)
	for k, v := range request {
		if _, ok := m[k]; !ok {
			m[k] = v
		}
	}
	return m
}

// target checks what every publish checks first.
func (s *Service) target(app string, p *Publication) (inst component.Instance[Broker], raw bool, err error) {
	if p.PubSub == "" {
		return inst, false, fault.PubSubNameEmpty(p.Metadata)
	}
	inst, ok := s.opts.Brokers.Get(app, p.PubSub)
	if !ok {
		return inst, false, fault.PubSubNotFound(p.PubSub, p.Metadata)
	}
	if p.Topic == "" {
		return inst, false, fault.PubSubTopicEmpty(p.PubSub, p.Metadata)
	}
	raw, err = rawPayload(p.Metadata)
	if err != nil {
		return inst, false, fault.PubSubMetadata(p.PubSub, p.Metadata, err)
	}
	return inst, raw, nil
}

// event makes the event that is kept: a CloudEvent, or the bytes as they are.
func (s *Service) event(inst component.Instance[Broker], app string, p *Publication, raw bool) (Event, error) {
	now := s.opts.Clock()
	e := Event{Topic: p.Topic, Metadata: p.Metadata, Time: now}
	if len(p.Metadata) > 0 {
		if ttl, ok := timeToLive(p.Metadata); ok {
			e.Expires = now.Add(ttl)
		}
	}
	if raw {
		e.Data, e.ContentType = bytes.Clone(p.Data), p.ContentType
		if p.TraceParent != "" {
			e.Metadata = merge(p.Metadata, map[string]string{"traceid": p.TraceParent, "tracestate": p.TraceState})
		}
		return e, nil
	}
	a := attributes{Source: app, Topic: p.Topic, PubSub: p.PubSub, DataContentType: p.ContentType,
		TraceParent: p.TraceParent, TraceState: p.TraceState, Time: now}
	if !e.Expires.IsZero() && !has(inst.Value.Features(), FeatureTTL) {
		a.Expires = e.Expires
	}
	e.ContentType = CloudEventsType
	if isCloudEventType(p.ContentType) {
		data, err := completeEnvelope(&a, p.Data)
		if err != nil {
			return e, fault.PubSubCloudEvent(p.PubSub, app, err)
		}
		e.Data = data
		return e, nil
	}
	if len(p.Metadata) > 0 {
		a.override(p.Metadata)
	}
	e.Data = newEnvelope(&a, p.Data)
	return e, nil
}

func has(features []string, feature string) bool {
	for _, f := range features {
		if f == feature {
			return true
		}
	}
	return false
}

// send hands events to the broker.
func (s *Service) send(ctx context.Context, inst component.Instance[Broker], app, topic string, events []Event, bulk bool) error {
	start := time.Now()
	err := s.put(ctx, inst, app, events)
	if s.opts.Observer != nil {
		s.opts.Observer.Published(app, inst.Spec.Name, topic, len(events), bulk, err, time.Since(start))
	}
	if err != nil {
		return fault.PubSubPublish(inst.Spec.Name, topic, err)
	}
	return nil
}

func (s *Service) put(ctx context.Context, inst component.Instance[Broker], app string, events []Event) error {
	if s.opts.Outbound != nil {
		if p := s.opts.Outbound(app, inst.Spec.Name); p != nil {
			return p.Run(ctx, func(ctx context.Context) error { return inst.Value.Publish(ctx, events) })
		}
	}
	return inst.Value.Publish(ctx, events)
}
