package pubsub

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edged-io/edged/edge/component"
)

// receiver takes one event at a time: an application's Channel, or a stream.
type receiver interface {
	Deliver(ctx context.Context, d Delivery) (Verdict, error)
}

// subscription delivers the events of one topic to one application.
type subscription struct {
	svc    *Service
	app    string
	spec   Spec
	inst   component.Instance[Broker]
	to     receiver
	bulk   Channel // for handleBulk
	routes []route
	raw    bool
	policy Policy
	log    *slog.Logger
	sub    Subscription
	bad    atomic.Uint64 // malformed events
}

// route is a rule ready for use; without a matcher it takes every event.
type route struct {
	matcher Matcher
	path    string
}

func (s *Service) routes(rules []Rule) ([]route, error) {
	out := make([]route, 0, len(rules))
	for _, r := range rules {
		condition := strings.TrimSpace(r.Match)
		if condition == "" {
			out = append(out, route{path: r.Path})
			continue
		}
		m, err := s.opts.Compile(condition)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Match, err)
		}
		out = append(out, route{matcher: m, path: r.Path})
	}
	return out, nil
}

func (s *Service) newSubscription(app string, p plan, to receiver) (*subscription, error) {
	routes, err := s.routes(p.spec.Rules)
	if err != nil {
		return nil, err
	}
	raw, err := rawPayload(p.spec.Metadata)
	if err != nil {
		return nil, err
	}
	sub := &subscription{svc: s, app: app, spec: p.spec, inst: p.inst, to: to, routes: routes, raw: raw,
		log: s.log.With("app", app, "pubsub", p.spec.PubSub, "topic", p.spec.Topic)}
	sub.bulk, _ = to.(Channel)
	if s.opts.Inbound != nil {
		sub.policy = s.opts.Inbound(app, p.spec.PubSub)
	}
	return sub, nil
}

func (x *subscription) close() {
	if x.sub == nil {
		return
	}
	if err := x.sub.Close(); err != nil {
		x.log.Error("subscription did not close cleanly", "error", err)
	}
}

// fate is what becomes of an event before anybody is asked.
type fate uint8

const (
	deliver   fate = iota
	unrouted       // no rule wants it
	expired        // its expiration attribute has passed
	malformed      // it is no CloudEvent, or a rule cannot be evaluated on it
)

// noTrace is what Dapr tells an application of the trace context of an event that has none.
const noTrace = "00-00000000000000000000000000000000-0000000000000000-00"

// prepare makes the delivery of an event.
func (x *subscription) prepare(e *Event) (Delivery, fate) {
	d := Delivery{PubSub: x.spec.PubSub, Topic: e.Topic, Envelope: e.Data, ContentType: CloudEventsType, Metadata: e.Metadata}
	if x.raw {
		d.ID = newID()
		d.Envelope = wrapRaw(d.ID, e.Topic, d.PubSub, e.Metadata, e.Data)
	} else {
		m, ok := inspect(e.Data)
		if !ok && isBinaryType(e.ContentType) {
			d.Envelope = binaryEvent(e, d.PubSub)
			m, ok = inspect(d.Envelope)
		}
		if !ok {
			x.warn("event is no CloudEvent and the subscription is not for raw payloads", e, "contentType", e.ContentType)
			return d, malformed
		}
		if !m.expires.IsZero() && m.expires.Before(x.svc.opts.Clock()) {
			return d, expired
		}
		d.ID, d.TraceParent, d.TraceState = m.id, or(m.traceParent, m.traceID), m.traces
	}
	if len(e.Metadata) > 0 {
		d.TraceParent = or(d.TraceParent, or(e.Metadata["traceparent"], e.Metadata["traceid"]))
		d.TraceState = or(d.TraceState, e.Metadata["tracestate"])
	}
	d.TraceParent = or(d.TraceParent, noTrace)
	path, ok, err := x.route(d.Envelope)
	if err != nil {
		x.warn("routing rule cannot be evaluated", e, "error", err)
		return d, malformed
	}
	if !ok {
		return d, unrouted
	}
	d.Path = path
	return d, deliver
}

// warn logs the 1st, 2nd, 4th, 8th ... event that cannot be delivered.
func (x *subscription) warn(msg string, e *Event, args ...any) {
	if n := x.bad.Add(1); n&(n-1) == 0 {
		x.log.Warn(msg, append(args, "topic", e.Topic, "sequence", e.Sequence, "count", n)...)
	}
}

// binaryEvent makes a CloudEvent of one in binary mode: attributes in the metadata as ce_*, data as it is.
func binaryEvent(e *Event, pubsub string) []byte {
	event := map[string]string{"specversion": specVersion, "type": defaultType, "source": defaultSource, "topic": e.Topic, "pubsubname": pubsub}
	for k, v := range e.Metadata {
		if k = strings.ToLower(k); strings.HasPrefix(k, "ce_") {
			event[k[len("ce_"):]] = v
		}
	}
	if event["id"] == "" {
		event["id"] = newID()
	}
	event["datacontenttype"] = e.ContentType
	event["data_base64"] = base64.StdEncoding.EncodeToString(e.Data)
	b, _ := json.Marshal(event) // strings always encode
	return b
}

// route returns the path of the first rule that wants the event.
func (x *subscription) route(envelope []byte) (path string, ok bool, err error) {
	var event map[string]any
	for _, r := range x.routes {
		if r.matcher == nil {
			return r.path, true, nil
		}
		if event == nil {
			if event, err = eventMap(envelope); err != nil {
				return "", false, err
			}
		}
		matched, err := r.matcher.Match(event)
		if err != nil {
			return "", false, err
		}
		if matched {
			return r.path, true, nil
		}
	}
	return "", false, nil
}

// handle delivers events one after the other.
func (x *subscription) handle(ctx context.Context, events []Event) ([]Verdict, error) {
	out := make([]Verdict, 0, len(events))
	for i := range events {
		v, err := x.one(ctx, &events[i])
		if err != nil {
			return out, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (x *subscription) one(ctx context.Context, e *Event) (Verdict, error) {
	d, f := x.prepare(e)
	if f != deliver {
		return x.aside(ctx, e, f), nil
	}
	v, err := guarded(ctx, x.policy, func(ctx context.Context) (Verdict, error) { return x.deliver(ctx, d) })
	if err != nil {
		return v, err
	}
	return x.verdict(ctx, e, v), nil
}

func (x *subscription) deliver(ctx context.Context, d Delivery) (Verdict, error) {
	start := time.Now()
	v, err := x.to.Deliver(ctx, d)
	if o := x.svc.opts.Observer; o != nil && !errors.Is(err, errStreamEnded) {
		o.Delivered(x.app, x.spec.PubSub, d.Topic, status(v, err), time.Since(start))
	}
	return v, err
}

// status is a verdict in the words of Dapr's metrics.
func status(v Verdict, err error) string {
	switch {
	case err != nil || v == Nak:
		return "retry"
	case v == Drop:
		return "drop"
	}
	return "success"
}

// aside deals with an event that nobody is asked about. As in Dapr it goes to the dead letter topic if there is one.
// Without, events that no rule wants are done with, and the others are dropped, which the consumer counts: they could
// never be delivered.
func (x *subscription) aside(ctx context.Context, e *Event, f fate) Verdict {
	if o := x.svc.opts.Observer; o != nil {
		o.Delivered(x.app, x.spec.PubSub, e.Topic, "drop", 0)
	}
	if x.spec.DeadLetterTopic != "" {
		if err := x.deadLetter(ctx, e); err == nil {
			return Ack
		} else if f == malformed {
			return Nak
		}
	}
	if f == unrouted {
		return Ack
	}
	return Drop
}

// verdict turns the receiver's answer into the consumer's: what was refused or dropped goes to the dead letter topic, if
// there is one. If it cannot be kept there, the event is delivered again.
func (x *subscription) verdict(ctx context.Context, e *Event, v Verdict) Verdict {
	if v == Ack || x.spec.DeadLetterTopic == "" {
		return v
	}
	if x.deadLetter(ctx, e) != nil {
		return Nak
	}
	return Ack
}

// deadLetter publishes the event, as it is, to the dead letter topic. The application needs the right to publish there.
// The error is logged.
func (x *subscription) deadLetter(ctx context.Context, e *Event) error {
	topic := x.spec.DeadLetterTopic
	err := mayPublish(x.inst, x.app, topic)
	if err == nil {
		letter := Event{Topic: topic, Data: e.Data, ContentType: e.ContentType, Metadata: e.Metadata}
		err = x.svc.put(ctx, x.inst, x.app, []Event{letter})
	}
	if err != nil {
		x.log.Error("dead letter not kept", "deadLetterTopic", topic, "sequence", e.Sequence, "error", err)
	}
	return err
}
