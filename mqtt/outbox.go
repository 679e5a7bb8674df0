package mqtt

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/bits"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

const (
	// strikes is how often in a row a connection must end on the same message, sent alone, before its topic counts as
	// refused: MQTT 3.1.1 brokers say nothing, they close.
	strikes    = 5
	holdMin    = time.Minute
	holdMax    = time.Hour
	maxSuspect = 1024
)

// outbox publishes batches of events, as the handler of a pub/sub consumer: events leave the journal when the broker has
// acknowledged them. It is safe for concurrent use.
type outbox struct {
	client *Client
	log    *slog.Logger
	count  *traffic
	clock  func() time.Time
	encode func(*pubsub.Event) (Message, error) // a dropError drops the event

	mu       sync.Mutex
	suspects map[string]*suspect // by the broker's topic
}

// suspect is a topic on which connections ended.
type suspect struct {
	strikes int
	holds   int
	until   time.Time // held back until then
	err     string
}

// dropError drops an event for good, under a cause that is counted.
type dropError struct {
	cause string
	err   error
}

func (e *dropError) Error() string { return e.cause + ": " + e.err.Error() }
func (e *dropError) Unwrap() error { return e.err }

// handle is a pubsub.Handler. It waits for a connection as long as ctx allows.
func (o *outbox) handle(ctx context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
	if _, err := o.client.wait(ctx); err != nil { // what expires or is held meanwhile is looked at after
		return nil, err
	}
	o.count.received.Add(uint64(len(events)))
	verdicts := make([]pubsub.Verdict, len(events))
	messages := make([]Message, 0, len(events))
	places := make([]int, 0, len(events))
	for i := range events {
		m, err := o.encode(&events[i])
		var drop *dropError
		switch {
		case errors.As(err, &drop):
			verdicts[i] = pubsub.Drop
			o.dropped(drop, events[i].Topic)
		case err != nil:
			return verdicts[:i], err
		case o.held(m.Topic):
			verdicts[i] = pubsub.Nak
		default:
			messages, places = append(messages, m), append(places, i)
		}
	}
	arrived, err := o.publish(ctx, messages)
	o.count.handled.Add(uint64(arrived))
	if err == nil {
		return verdicts, nil
	}
	if arrived < len(messages) && o.held(messages[arrived].Topic) { // just found to be refused: let the others pass
		verdicts[places[arrived]] = pubsub.Nak
		return verdicts[:places[arrived]+1], err
	}
	return verdicts[:places[arrived]], err
}

// dropped counts and reports, without flooding the log.
func (o *outbox) dropped(d *dropError, topic string) {
	if n := o.count.drop(d.cause); bits.OnesCount64(n) == 1 {
		o.log.Warn("event not sent to the MQTT broker", "topic", topic, "cause", d.cause, "err", d.err, "dropped", n)
	}
}

// publish sends all at once, or one by one while a topic is suspected of ending connections, to find which it is.
func (o *outbox) publish(ctx context.Context, messages []Message) (arrived int, err error) {
	if len(messages) == 0 {
		return 0, nil
	}
	step := len(messages)
	if o.suspicious(messages) {
		step = 1
	}
	for arrived < len(messages) {
		n, err := o.client.Publish(ctx, messages[arrived:min(arrived+step, len(messages))])
		arrived += n
		if err != nil {
			if closedByPeer(err) {
				o.accuse(messages[arrived:], step == 1, err)
			}
			return arrived, err
		}
	}
	o.acquit(messages)
	return arrived, nil
}

// closedByPeer reports whether the other side ended the connection; a broker that refuses a message does that.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (o *outbox) suspicious(messages []Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.suspects) == 0 {
		return false
	}
	return slices.ContainsFunc(messages, func(m Message) bool { return o.suspects[m.Topic] != nil })
}

// accuse notes on which topics a connection ended. If the message was alone, it is a strike.
func (o *outbox) accuse(messages []Message, alone bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.suspects == nil || len(o.suspects) > maxSuspect {
		o.suspects = map[string]*suspect{}
	}
	if !alone {
		for _, m := range messages {
			if o.suspects[m.Topic] == nil {
				o.suspects[m.Topic] = &suspect{}
			}
		}
		return
	}
	topic := messages[0].Topic
	s := o.suspects[topic]
	if s == nil {
		s = &suspect{}
		o.suspects[topic] = s
	}
	s.strikes++
	s.err = err.Error()
	if s.strikes < strikes && s.holds == 0 {
		return
	}
	hold := min(holdMax, holdMin<<min(s.holds, 10))
	s.holds++
	s.until = o.clock().Add(hold)
	o.log.Error("the MQTT broker closes the connection whenever this topic is published: access rules or a size limit; its events are kept and tried again later",
		"topic", topic, "times", s.strikes, "bytes", len(messages[0].Payload), "retry", hold, "err", err)
}

// acquit clears topics whose messages have arrived.
func (o *outbox) acquit(messages []Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.suspects) == 0 {
		return
	}
	for _, m := range messages {
		delete(o.suspects, m.Topic)
	}
}

// held reports whether a topic is refused and not yet to be tried again.
func (o *outbox) held(topic string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.suspects[topic]
	return s != nil && o.clock().Before(s.until)
}

func (o *outbox) refused() []Refusal {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []Refusal
	for topic, s := range o.suspects {
		if s.holds > 0 {
			out = append(out, Refusal{Topic: topic, Times: s.strikes, Until: s.until, LastError: s.err})
		}
	}
	slices.SortFunc(out, func(a, b Refusal) int { return cmp.Compare(a.Topic, b.Topic) })
	return out
}
