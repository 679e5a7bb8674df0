package edge

import (
	"context"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/state"
)

const (
	// outboxWait is how long the relay waits for a marker that a store outside does not show yet.
	outboxWait = 10 * time.Second
	// outboxGiveUp is the age of an announcement without a marker from which its transaction counts as refused, unless the
	// component says to discard it after outboxWait.
	outboxGiveUp = 5 * time.Minute
	// outboxPoll is how often a running transaction, or a store outside, is looked at.
	outboxPoll = 20 * time.Millisecond
)

// outbox joins the halves of the transactional outbox: state's transactions and the topics of pub/sub.
type outbox struct{ rt *Runtime }

var _ state.Outbox = outbox{}

// internalTopic is where the announcements of an application wait, by Dapr's rule.
func (o outbox) internalTopic(app, topic string) string {
	return o.rt.opts.Getenv("NAMESPACE") + app + topic + "outbox"
}

// Announce keeps the events of a transaction.
func (o outbox) Announce(ctx context.Context, app string, to state.OutboxTarget, events []state.OutboxEvent) error {
	list := make([]pubsub.Announcement, len(events))
	for i, e := range events {
		list[i] = pubsub.Announcement{
			Via: to.Via, Internal: o.internalTopic(app, to.Topic), PubSub: to.PubSub, Topic: to.Topic,
			ID: e.ID, Data: e.Data, ContentType: e.ContentType, Attributes: e.Metadata,
		}
	}
	return o.rt.pubsub.Announce(ctx, app, list)
}

// start relays the announcements of an application, for every store with an outbox that it may use.
func (o outbox) start(ctx context.Context, app string) (relays []pubsub.Subscription) {
	for _, inst := range o.rt.comps.states.All(app) {
		to, ok := state.OutboxOf(inst.Spec)
		if !ok {
			continue
		}
		relay, err := o.rt.pubsub.Relay(ctx, app, pubsub.Outbox{
			Name: "outbox:" + to.Store + ":" + app, Via: to.Via, Internal: o.internalTopic(app, to.Topic), PubSub: to.PubSub, Topic: to.Topic,
			Settle: func(ctx context.Context, id string, announced time.Time, publish func(context.Context) error) (pubsub.Verdict, error) {
				return o.settle(ctx, to, id, announced, publish)
			},
		})
		if err != nil {
			o.rt.log.Warn("could not subscribe to internal outbox topic", "app", app, "store", to.Store, "error", err)
			continue
		}
		relays = append(relays, relay)
	}
	return relays
}

// settle waits for the transaction's outcome and publishes the event if it committed. The marker goes after the event is
// published: a crash between the two publishes again.
func (o outbox) settle(ctx context.Context, to state.OutboxTarget, id string, announced time.Time, publish func(context.Context) error) (pubsub.Verdict, error) {
	outcome, err := o.outcome(ctx, to.Store, id, announced)
	if err != nil {
		return pubsub.Nak, err
	}
	switch outcome {
	case state.Committed:
		if err := publish(ctx); err != nil {
			o.rt.log.Warn("outbox event not published yet", "store", to.Store, "topic", to.Topic, "error", err)
			return pubsub.Nak, err
		}
		return pubsub.Ack, o.rt.state.OutboxDone(ctx, to.Store, id)
	case state.Missing:
		if !to.DiscardMissing && o.age(announced) < outboxGiveUp {
			return pubsub.Nak, nil
		}
		o.rt.log.Error("outbox event dropped: the store has no sign of its transaction", "store", to.Store, "topic", to.Topic, "id", id)
	}
	return pubsub.Drop, nil
}

// outcome waits while the transaction runs, and for a while when a store outside does not show its marker.
func (o outbox) outcome(ctx context.Context, store, id string, announced time.Time) (state.Outcome, error) {
	tick := time.NewTicker(outboxPoll)
	defer tick.Stop()
	for {
		outcome, err := o.rt.state.OutboxOutcome(ctx, store, id)
		waits := outcome == state.Open || outcome == state.Missing && o.age(announced) < outboxWait
		if err != nil || !waits {
			return outcome, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return outcome, ctx.Err()
		}
	}
}

// age is how long ago an announcement was made; one from the future, before the clock was set, counts as old.
func (o outbox) age(announced time.Time) time.Duration {
	d := o.rt.opts.Clock().Sub(announced)
	if d < 0 {
		return outboxGiveUp
	}
	return d
}
