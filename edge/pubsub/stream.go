package pubsub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
)

// errStreamEnded reports that the client of a stream left before it answered.
var errStreamEnded = errors.New("stream ended")

// streamWindow is how many events a durable stream has under way at once.
const streamWindow = 16

// StreamRequest asks for a streaming subscription (Dapr's SubscribeTopicEventsAlpha1).
type StreamRequest struct {
	App             string
	PubSub, Topic   string
	DeadLetterTopic string
	Metadata        map[string]string
}

// Stream is an open streaming subscription: Recv takes events, Ack answers them by CloudEvent id. It is safe for
// concurrent use. The first stream of an application for a topic has a durable place, which the next one takes over when
// it closes; streams that are open beside it get every event too, from when they were opened.
type Stream struct {
	svc  *Service
	app  *application
	spec Spec
	out  chan Delivery
	gone chan struct{} // closed when the client left or the stream ended
	once sync.Once

	turn  turn // held while the subscription is exchanged
	mu    sync.Mutex
	wait  map[string][]chan Verdict // oldest first: ids need not be unique
	over  bool
	sub   *subscription
	owner bool // sub has the durable place
}

// OpenStream starts a streaming subscription. It needs no StartApp. Errors are API errors, as Dapr's are.
func (s *Service) OpenStream(ctx context.Context, r StreamRequest) (*Stream, error) {
	switch {
	case r.PubSub == "":
		return nil, streamFault(errors.New("pubsubName is required"))
	case r.Topic == "":
		return nil, streamFault(errors.New("topic is required"))
	}
	inst, ok := s.opts.Brokers.Get(r.App, r.PubSub)
	if !ok {
		return nil, fault.PubSubNotFound(r.PubSub, nil)
	}
	if !topicAllowed(inst.Spec.Properties, subscriptionScopes, r.App, r.Topic) {
		return nil, streamFault(fmt.Errorf("failed to create subscription for %s: subscription to topic '%s' on pubsub '%s' is not allowed", r.PubSub, r.Topic, r.PubSub))
	}
	a := s.app(r.App)
	st := &Stream{svc: s, app: a, out: make(chan Delivery), gone: make(chan struct{}), turn: newTurn(), wait: map[string][]chan Verdict{},
		spec: Spec{PubSub: r.PubSub, Topic: r.Topic, Kind: Streaming, Rules: []Rule{{Path: "/"}}, DeadLetterTopic: r.DeadLetterTopic, Metadata: r.Metadata}}
	a.mu.Lock()
	a.streams = append(a.streams, st)
	a.mu.Unlock()
	if err := st.follow(ctx); err != nil {
		st.end()
		return nil, streamFault(fmt.Errorf("failed to create subscription for %s: %w", r.PubSub, err))
	}
	return st, nil
}

func streamFault(err error) error {
	return &fault.Error{ErrorCode: "ERROR", Category: fault.PubSub, HTTP: 500, GRPC: fault.Unknown, Message: err.Error(), Cause: err}
}

// follow makes the stream's subscription fit the component that is there now, and take the durable place if it is free.
func (st *Stream) follow(ctx context.Context) error {
	if err := st.turn.take(ctx); err != nil {
		return err
	}
	defer st.turn.give()
	inst, up := st.svc.broker(st.app.id, st.spec.PubSub)
	st.mu.Lock()
	old, over := st.sub, st.over
	st.mu.Unlock()
	if over {
		return nil
	}
	owner := st.app.owns(st)
	if old != nil && up && old.inst.Value == inst.Value && owner == st.owner {
		return nil
	}
	if old != nil {
		old.close()
		st.set(nil, false)
	}
	if !up {
		return nil
	}
	sub, err := st.subscribe(ctx, inst, owner)
	if err != nil {
		return err
	}
	st.set(sub, owner)
	return nil
}

func (st *Stream) set(sub *subscription, owner bool) {
	st.mu.Lock()
	st.sub, st.owner = sub, owner
	st.mu.Unlock()
}

// owns reports whether the stream is the oldest of its kind, which has the durable place.
func (a *application) owns(st *Stream) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range a.streams {
		if o == st {
			return true
		}
		if o.spec.key() == st.spec.key() && o.spec.Metadata["consumerID"] == st.spec.Metadata["consumerID"] {
			return false
		}
	}
	return false
}

func (st *Stream) subscribe(ctx context.Context, inst component.Instance[Broker], owner bool) (*subscription, error) {
	p := plan{spec: st.spec, inst: inst}
	sub, err := st.svc.newSubscription(st.app.id, p, st)
	if err != nil {
		return nil, err
	}
	c := consumer(st.app.id, "stream", p)
	c.Volatile = !owner
	h := sub.handle
	if sub.policy == nil {
		c.MaxBatch = streamWindow
		h = sub.handleWindow
	}
	if sub.sub, err = inst.Value.Subscribe(ctx, c, h); err != nil {
		return nil, err
	}
	return sub, nil
}

// Recv waits for the next event. It returns io.EOF when the stream has ended.
func (st *Stream) Recv(ctx context.Context) (Delivery, error) {
	select {
	case d := <-st.out:
		return d, nil
	case <-st.gone:
		return Delivery{}, io.EOF
	case <-ctx.Done():
		return Delivery{}, ctx.Err()
	}
}

// Ack answers the event with that id, the one received first if there are several. It reports whether one waits.
func (st *Stream) Ack(id string, v Verdict) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	waiting := st.wait[id]
	if len(waiting) == 0 {
		return false
	}
	waiting[0] <- v // has room
	st.remove(id, waiting[0])
	return true
}

// remove forgets a delivery that waits; st.mu is held.
func (st *Stream) remove(id string, answer chan Verdict) {
	rest := slices.DeleteFunc(st.wait[id], func(c chan Verdict) bool { return c == answer })
	if len(rest) == 0 {
		delete(st.wait, id)
		return
	}
	st.wait[id] = rest
}

// Close ends the stream because its client left: events without an answer are delivered again later.
func (st *Stream) Close() {
	st.leave()
	st.end()
}

func (st *Stream) leave() { st.once.Do(func() { close(st.gone) }) }

// end stops deliveries, waits for the answers to those under way, and ends the stream.
func (st *Stream) end() {
	_ = st.turn.take(context.Background()) // does not end
	st.mu.Lock()
	sub := st.sub
	st.sub, st.over = nil, true
	st.mu.Unlock()
	a := st.app
	if sub != nil {
		sub.close()
	}
	st.leave()
	st.turn.give()
	a.mu.Lock()
	a.streams = slices.DeleteFunc(a.streams, func(o *Stream) bool { return o == st })
	others := slices.Clone(a.streams)
	a.mu.Unlock()
	for _, o := range others { // one of them may have the durable place now
		if o.spec.key() == st.spec.key() {
			if err := o.follow(context.Background()); err != nil {
				st.svc.log.Error("stream did not take over the durable place", "app", a.id, "pubsub", st.spec.PubSub, "topic", st.spec.Topic, "error", err)
			}
		}
	}
}

// Deliver hands one event to the client and waits for its answer.
func (st *Stream) Deliver(ctx context.Context, d Delivery) (Verdict, error) {
	answer, err := st.push(ctx, d)
	if err != nil {
		return Nak, err
	}
	return st.answer(ctx, d.ID, answer)
}

// push hands one event to the client.
func (st *Stream) push(ctx context.Context, d Delivery) (chan Verdict, error) {
	answer := make(chan Verdict, 1)
	st.mu.Lock()
	st.wait[d.ID] = append(st.wait[d.ID], answer)
	st.mu.Unlock()
	var err error
	select {
	case st.out <- d:
		return answer, nil
	case <-st.gone:
		err = errStreamEnded
	case <-ctx.Done():
		err = ctx.Err()
	}
	st.mu.Lock()
	st.remove(d.ID, answer)
	st.mu.Unlock()
	return nil, err
}

// answer waits for the client's answer to an event.
func (st *Stream) answer(ctx context.Context, id string, answer chan Verdict) (Verdict, error) {
	var err error
	select {
	case v := <-answer:
		return v, nil
	case <-st.gone:
		err = errStreamEnded
	case <-ctx.Done():
		err = ctx.Err()
	}
	st.mu.Lock()
	st.remove(id, answer)
	st.mu.Unlock()
	select {
	case v := <-answer: // it came in time after all
		return v, nil
	default:
		return Nak, err
	}
}
