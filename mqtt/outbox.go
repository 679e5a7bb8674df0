package mqtt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/bits"
	"syscall"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// sender returns the consumer that feeds an outbox. A batch holds several windows of publications, so that the window is
// seldom empty at a batch's end. What is held back is offered again now and then, and what the end of a link left over at
// once, because handle itself waits for the next link.
func sender(name, filter string, window int) pubsub.Consumer {
	return pubsub.Consumer{
		Name: name, Filter: filter, Start: pubsub.Oldest, MaxBatch: 4 * window,
		Backoff:   pubsub.Backoff{Min: time.Second, Max: time.Minute},
		Reconnect: pubsub.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond},
	}
}

// outbox publishes batches of events, as the handler of a pub/sub consumer: events leave the journal when the broker has
// acknowledged them. It is safe for concurrent use.
type outbox struct {
	client *Client
	log    *slog.Logger
	count  *traffic
	clock  func() time.Time
	encode func(*pubsub.Event) (Message, error) // a dropError drops the event

	accused accused
}

// dropError drops an event for good, under a cause that is counted.
type dropError struct {
	cause string
	err   error
}

var errExpired = errors.New("its time to live is over")

func (e *dropError) Error() string { return e.cause + ": " + e.err.Error() }
func (e *dropError) Unwrap() error { return e.err }

// handle is a pubsub.Handler. It waits for a connection as long as ctx allows.
func (o *outbox) handle(ctx context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
	if _, err := o.client.wait(ctx); err != nil { // what expires or is held meanwhile is looked at after
		return nil, err
	}
	o.count.received.Add(uint64(len(events)))
	verdicts := make([]pubsub.Verdict, len(events))
	batch := make([]Message, 0, len(events))
	places := make([]int, 0, len(events))
	for i := range events {
		m, err := o.message(&events[i])
		var drop *dropError
		switch {
		case errors.As(err, &drop):
			verdicts[i] = pubsub.Drop
			o.dropped(drop, events[i].Topic)
		case err != nil:
			return verdicts[:i], err
		case o.accused.held(m.Topic, events[i].Sequence, o.clock()):
			verdicts[i] = pubsub.Nak
		default:
			batch, places = append(batch, m), append(places, i)
		}
	}
	seq := func(i int) uint64 { return events[places[i]].Sequence }
	arrived, err := o.publish(ctx, batch, seq)
	o.count.handled.Add(uint64(arrived)) //nolint:gosec // not negative
	if err == nil {
		return verdicts, nil
	}
	if arrived < len(batch) && o.accused.held(batch[arrived].Topic, seq(arrived), o.clock()) {
		verdicts[places[arrived]] = pubsub.Nak // just found to be refused: let the others pass
		return verdicts[:places[arrived]+1], err
	}
	return verdicts[:places[arrived]], err
}

// message encodes an event that is still wanted.
func (o *outbox) message(e *pubsub.Event) (Message, error) {
	if !e.Expires.IsZero() && !e.Expires.After(o.clock()) {
		return Message{}, &dropError{CauseExpired, errExpired}
	}
	return o.encode(e)
}

// dropped counts and reports, without flooding the log.
func (o *outbox) dropped(d *dropError, topic string) {
	if n := o.count.drop(d.cause); bits.OnesCount64(n) == 1 {
		o.log.Warn("event not sent to the MQTT broker", "topic", topic, "cause", d.cause, "err", d.err, "dropped", n)
	}
}

// publish sends all at once, or one by one while a topic is suspected of ending connections, to find which message it is.
func (o *outbox) publish(ctx context.Context, batch []Message, seq func(int) uint64) (arrived int, err error) {
	for arrived < len(batch) {
		step := len(batch) - arrived
		if o.accused.among(batch[arrived:]) {
			step = 1
		}
		n, err := o.client.Publish(ctx, batch[arrived:arrived+step])
		for i := range n {
			o.accused.acquit(batch[arrived+i].Topic, seq(arrived+i))
		}
		arrived += n
		if err == nil {
			continue
		}
		if closedByPeer(err) && arrived < len(batch) {
			if step > 1 {
				o.accused.suspect(batch[arrived:])
			} else if hold := o.accused.strike(batch[arrived].Topic, seq(arrived), o.clock(), err); hold > 0 {
				o.log.Error("the MQTT broker closes the connection whenever this message is published: access rules or a size limit; it is kept and tried again later",
					"topic", batch[arrived].Topic, "bytes", len(batch[arrived].Payload), "retry", hold, "err", err)
			}
		}
		return arrived, err
	}
	return arrived, nil
}

// closedByPeer reports whether the other side ended the connection; a broker that refuses a message does that.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
