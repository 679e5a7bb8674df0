package mqtt

import (
	"context"
	"errors"
	"log/slog"
	"math/bits"
	"net/http"
	"sync/atomic"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
)

// intake makes received messages durable: it is the DeliverFunc of a Client. A message counts as safe when the local
// component has accepted it, or when it is dropped for good and counted.
type intake struct {
	broker  pubsub.Broker
	log     *slog.Logger
	count   traffic
	decode  func(Message) (pubsub.Event, error) // a dropError drops the message
	blocked atomic.Pointer[string]
}

func (in *intake) deliver(ctx context.Context, messages []Message) (safe int, err error) {
	events := make([]pubsub.Event, 0, len(messages))
	places := make([]int, 0, len(messages))
	for i, m := range messages {
		e, err := in.decode(m)
		var drop *dropError
		switch {
		case errors.As(err, &drop):
			in.dropped(drop, m.Topic)
		case err != nil:
			in.dropped(&dropError{CauseMalformed, err}, m.Topic)
		default:
			events, places = append(events, e), append(places, i)
		}
	}
	stored, err := in.store(ctx, events)
	in.count.handled.Add(uint64(stored))
	if err != nil {
		safe = places[stored]
		in.block(err)
	} else {
		safe = len(messages)
		in.blocked.Store(nil)
	}
	in.count.received.Add(uint64(safe))
	return safe, err
}

// store publishes locally in one go, and one by one if that fails, so that an event whose topic is full does not hold
// back those before it. Those after it wait: order is kept.
func (in *intake) store(ctx context.Context, events []pubsub.Event) (stored int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	err = in.broker.Publish(ctx, events)
	if err == nil {
		return len(events), nil
	}
	for ; stored < len(events); stored++ {
		if len(events) > 1 {
			err = in.broker.Publish(ctx, events[stored:stored+1])
		}
		if err != nil && !permanent(err) {
			return stored, err
		}
		if err != nil {
			in.dropped(&dropError{CauseRejected, err}, events[stored].Topic)
		}
	}
	return stored, nil
}

// permanent reports whether trying again cannot help.
func permanent(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && (f.HTTP == http.StatusBadRequest || f.HTTP == http.StatusRequestEntityTooLarge)
}

func (in *intake) block(err error) {
	text := err.Error()
	if old := in.blocked.Swap(&text); old == nil || *old != text {
		in.log.Warn("received MQTT messages cannot be kept now and stay with the broker", "err", err)
	}
}

func (in *intake) dropped(d *dropError, topic string) {
	if n := in.count.drop(d.cause); bits.OnesCount64(n) == 1 {
		in.log.Warn("MQTT message dropped", "topic", topic, "cause", d.cause, "err", d.err, "dropped", n)
	}
}

func (in *intake) blockedBy() string {
	if s := in.blocked.Load(); s != nil {
		return *s
	}
	return ""
}
