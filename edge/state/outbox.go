package state

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
)

// The transactional outbox (Dapr's outbox pattern): a transaction on a store that has one publishes an event for each
// upsert, if and only if it commits. The events are announced on an internal topic first, each with the name of a marker
// that the transaction writes along. Whoever reads the internal topic publishes the events whose marker is there.

// OutboxTarget is what a state component's metadata says about its outbox.
type OutboxTarget struct {
	Store, PubSub, Topic string // where events go in the end
	Via                  string // pub/sub component of the internal topic
	DiscardMissing       bool   // give up early on an event whose marker is not found
}

// OutboxEvent is an event that a transaction announces.
type OutboxEvent struct {
	ID          string // names the marker in the store
	Data        []byte
	ContentType string
	Metadata    map[string]string // of the write; becomes attributes of the CloudEvent
}

// Outbox keeps announcements. When Announce returns an error the transaction is not tried.
type Outbox interface {
	Announce(ctx context.Context, app string, to OutboxTarget, events []OutboxEvent) error
}

// WithOutbox sets who keeps announcements. Without it, stores have no outbox.
func WithOutbox(o Outbox) ServiceOption { return func(s *Service) { s.outbox.keeper = o } }

// Outcome is what became of the transaction that announced an event.
type Outcome uint8

// Open: it is still running. Committed: its event is to be published. Missing: a store outside does not show the marker
// (now). Over: it was refused, or its event was published already.
const (
	Open Outcome = iota
	Committed
	Missing
	Over
)

// outbox knows which transactions with announcements are running.
type outbox struct {
	keeper Outbox
	mu     sync.Mutex
	open   map[string]struct{} // markers
}

// OutboxOf returns the outbox of a state component, if its metadata gives it one.
func OutboxOf(spec component.Spec) (OutboxTarget, bool) {
	p := spec.Read()
	t := OutboxTarget{
		Store: spec.Name, PubSub: p.String("", "outboxPublishPubsub"), Topic: p.String("", "outboxPublishTopic"),
		DiscardMissing: truthy(p.String("", "outboxDiscardWhenMissingState")),
	}
	t.Via = p.String(t.PubSub, "outboxPubsub")
	return t, t.PubSub != "" && t.Topic != ""
}

func truthy(text string) bool {
	return slices.Contains([]string{"y", "yes", "true", "t", "on", "1"}, strings.ToLower(strings.TrimSpace(text)))
}

// commit announces the events of writes and commits ops with a marker for each. Projections are not stored: their values
// stand in for those of the writes with the same keys in the events.
func (o *outbox) commit(ctx context.Context, t *target, writes []Write, ops []Op) error {
	projections := map[string]*Write{}
	keep := ops[:0]
	var upserts []*Write
	for i := range writes {
		w := &writes[i]
		switch {
		case !w.Delete && truthy(w.Metadata["outbox.projection"]):
			projections[w.Key] = w
			continue
		case !w.Delete:
			upserts = append(upserts, w)
		}
		keep = append(keep, ops[i])
	}
	events := make([]OutboxEvent, 0, len(upserts))
	for _, w := range upserts {
		value := w
		if p := projections[w.Key]; p != nil {
			value = p
		}
		e := OutboxEvent{ID: newMarker(), Metadata: w.Metadata}
		e.Data, e.ContentType = value.payload()
		events = append(events, e)
		keep = append(keep, Op{Kind: Upsert, Key: e.ID, Value: []byte("0")})
	}
	defer o.begin(events)()
	if len(events) > 0 {
		if err := o.keeper.Announce(ctx, t.app, *t.settings.outbox, events); err != nil {
			return fault.PubSubOutbox(t.app, err)
		}
	}
	if len(keep) == 0 {
		return nil
	}
	return t.Apply(ctx, keep)
}

// begin marks a transaction as running until the returned function is called.
func (o *outbox) begin(events []OutboxEvent) (end func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = map[string]struct{}{}
	}
	for _, e := range events {
		o.open[e.ID] = struct{}{}
	}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, e := range events {
			delete(o.open, e.ID)
		}
	}
}

// isOutbox reports whether a transaction was not tried because its events could not be announced.
func isOutbox(err error) bool {
	var e *fault.Error
	return errors.As(err, &e) && e.ErrorCode == "ERR_PUBLISH_OUTBOX"
}

func newMarker() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return "outbox-" + hex.EncodeToString(b[:])
}

// payload is the data of an event: what an application wrote as text is text, and JSON stays JSON.
func (w *Write) payload() (data []byte, contentType string) {
	contentType = w.Metadata["contentType"]
	data = bytes.Clone(w.Value)
	if !w.JSON || strings.EqualFold(contentType, "application/json") {
		return data, contentType
	}
	var text string
	if json.Unmarshal(data, &text) == nil {
		return []byte(text), contentType
	}
	if contentType == "" && len(data) > 0 && (data[0] == '{' || data[0] == '[') {
		contentType = "application/json"
	}
	return data, contentType
}

// OutboxOutcome tells what became of the transaction that announced event id. A store of this process knows: a marker
// that is not there, of a transaction that does not run, will never be there.
func (s *Service) OutboxOutcome(ctx context.Context, store, id string) (Outcome, error) {
	inst, ok := s.stores.Get("", store)
	if !ok {
		return Open, fault.StateStoreNotFound(store, "")
	}
	s.outbox.mu.Lock() // first: what is not running now has its marker, or never will
	_, open := s.outbox.open[id]
	s.outbox.mu.Unlock()
	if open {
		return Open, nil
	}
	entries, err := inst.Value.Get(ctx, id)
	if err != nil {
		return Open, err
	}
	if entries[0].Found {
		return Committed, nil
	}
	if _, local := inst.Value.(Scanner); local {
		return Over, nil
	}
	return Missing, nil
}

// OutboxDone removes the marker of an event that was published.
func (s *Service) OutboxDone(ctx context.Context, store, id string) error {
	inst, ok := s.stores.Get("", store)
	if !ok {
		return fault.StateStoreNotFound(store, "")
	}
	return inst.Value.Apply(ctx, []Op{{Kind: Delete, Key: id}})
}
