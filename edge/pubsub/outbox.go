package pubsub

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/edged-io/edged/edge/fault"
)

// Announcement is an event that is to be published to a topic later, if the transaction that it belongs to commits.
type Announcement struct {
	Via, Internal string // pub/sub component and topic where it waits
	PubSub, Topic string // where it goes
	ID            string
	Data          []byte
	ContentType   string
	Attributes    map[string]string // further attributes of the CloudEvent; data and id are not among them
}

// Announce keeps announcements of app, all for one topic, with the durability of the component where they wait.
func (s *Service) Announce(ctx context.Context, app string, list []Announcement) error {
	events := make([]Event, len(list))
	for i := range list {
		a := &list[i]
		to, ok := s.opts.Brokers.Get(app, a.PubSub)
		if !ok {
			return fault.PubSubNotFound(a.PubSub, nil)
		}
		if err := mayPublish(to, app, a.Topic); err != nil {
			return err
		}
		envelope, err := a.envelope(app, s.opts.Clock())
		if err != nil {
			return err
		}
		events[i] = Event{Topic: a.Internal, Data: envelope, ContentType: CloudEventsType, Time: s.opts.Clock()}
	}
	via, ok := s.opts.Brokers.Get(app, list[0].Via)
	if !ok {
		return fault.PubSubNotFound(list[0].Via, nil)
	}
	for i := range events { // each on its own: a broker outside may take some of them only
		if err := s.put(ctx, via, app, events[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (a *Announcement) envelope(app string, now time.Time) ([]byte, error) {
	base := attributes{ID: a.ID, Source: app, Topic: a.Topic, PubSub: a.PubSub, DataContentType: a.ContentType, Time: now}
	envelope := newEnvelope(&base, a.Data)
	if len(a.Attributes) == 0 {
		return envelope, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(envelope, &m); err != nil {
		return nil, fmt.Errorf("make CloudEvent: %w", err)
	}
	for name, value := range a.Attributes {
		switch name {
		case "data", "data_base64", "id", "topic", "pubsubname":
		default:
			m[name] = appendString(nil, value)
		}
	}
	return json.Marshal(m)
}

// Outbox is where announcements wait, and who knows which of them are to be published.
type Outbox struct {
	Name          string // durable name of the consumer
	Via, Internal string
	PubSub, Topic string
	// Settle calls publish if the event's transaction committed, and returns what becomes of the announcement.
	Settle func(ctx context.Context, id string, announced time.Time, publish func(ctx context.Context) error) (Verdict, error)
}

// Relay publishes the announcements of app, until the subscription is closed. An event is published at least once if its
// transaction committed.
func (s *Service) Relay(ctx context.Context, app string, o Outbox) (Subscription, error) {
	via, ok := s.opts.Brokers.Get(app, o.Via)
	if !ok {
		return nil, fault.PubSubNotFound(o.Via, nil)
	}
	c := Consumer{Name: o.Name, Filter: o.Internal, Start: Oldest, Backoff: Backoff{Min: time.Second, Max: 30 * time.Second}}
	return via.Value.Subscribe(ctx, c, func(ctx context.Context, events []Event) ([]Verdict, error) {
		verdicts := make([]Verdict, 0, len(events))
		for i := range events {
			v, err := s.relay(ctx, app, &o, &events[i])
			if err != nil {
				return verdicts, err // offered again, in order
			}
			verdicts = append(verdicts, v)
		}
		return verdicts, nil
	})
}

func (s *Service) relay(ctx context.Context, app string, o *Outbox, e *Event) (Verdict, error) {
	m, ok := inspect(e.Data)
	if !ok || m.id == "" {
		s.log.Error("announcement in the outbox is no CloudEvent and is dropped", "topic", o.Internal, "sequence", e.Sequence)
		return Drop, nil
	}
	return o.Settle(ctx, m.id, e.Time, func(ctx context.Context) error {
		to, ok := s.opts.Brokers.Get(app, o.PubSub)
		if !ok {
			return fault.PubSubNotFound(o.PubSub, nil)
		}
		event := Event{Topic: o.Topic, Data: e.Data, ContentType: CloudEventsType, Time: s.opts.Clock()}
		return s.send(ctx, to, app, o.Topic, []Event{event}, false)
	})
}
