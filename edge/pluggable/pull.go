package pluggable

import (
	"context"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	proto "github.com/dapr/dapr/pkg/proto/components/v1"
	"google.golang.org/grpc"

	"github.com/edged-io/edged/edge/pubsub"
)

// drainTime bounds how long Close waits for the handler's last call.
const drainTime = 5 * time.Second

// finishTime bounds how long a closed subscription waits for the component to end the stream.
const finishTime = time.Second

// featureImmediate is how a component says that its events are not to be held back for a batch.
const featureImmediate = "BULK_SUBSCRIBE_IMMEDIATE"

// puller is a subscription to one topic of a component.
type puller struct {
	link     *link
	consumer pubsub.Consumer
	handle   pubsub.Handler

	cancel context.CancelFunc
	stop   chan struct{} // closed by Close: no more events are taken
	once   sync.Once
	done   chan struct{}
}

type pullStream = grpc.BidiStreamingClient[proto.PullMessagesRequest, proto.PullMessagesResponse]

// Close takes no more events, lets the handler finish what it has, and ends the stream.
func (p *puller) Close() error {
	p.once.Do(func() { close(p.stop) })
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	p.cancel()
	<-p.done
	return nil
}

// run keeps a stream open until Close.
func (p *puller) run(ctx context.Context) {
	defer close(p.done)
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // Close ends the wait for a connection, but not the handler
		select {
		case <-p.stop:
		case <-waiting.Done():
		}
		cancel()
	}()
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		conn, err := p.link.await(waiting)
		if err != nil {
			return
		}
		began := time.Now()
		err = p.pull(ctx, conn)
		if p.stopped() || ctx.Err() != nil {
			return
		}
		p.link.log.Warn("subscription ended and is opened again", "component", p.link.name, "topic", p.consumer.Filter, "error", err)
		if time.Since(began) > time.Minute {
			pause = retryMin
		}
		if !p.rest(waiting, pause) {
			return
		}
	}
}

func (p *puller) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

// rest waits, each time a little differently, and reports whether to go on.
func (p *puller) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.stop:
	case <-ctx.Done():
	}
	return false
}

// pull subscribes and handles events until the stream ends or Close.
func (p *puller) pull(ctx context.Context, conn *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := proto.NewPubSubClient(conn).PullMessages(ctx)
	if err != nil {
		cancel()
		return err
	}
	messages, ended := make(chan *proto.PullMessagesResponse), make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	topic := &proto.Topic{Name: p.consumer.Filter, Metadata: p.consumer.Metadata}
	if err := stream.Send(&proto.PullMessagesRequest{Topic: topic}); err != nil {
		_, err = stream.Recv() // says why
		return err
	}
	wg.Go(func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		select {
		case <-p.stop:
			return finish(stream, messages, ended)
		case err := <-ended:
			return err
		case m := <-messages:
			if err := p.deliver(ctx, stream, p.batch(m, messages)); err != nil {
				return err
			}
		}
	}
}

// finish tells the component that no ack follows, and waits a moment until it ends the stream: a stream that is cut off
// may lose the last acks on their way. What arrives meanwhile is not acked and comes again.
func finish(stream pullStream, messages <-chan *proto.PullMessagesResponse, ended <-chan error) error {
	if err := stream.CloseSend(); err != nil {
		return err
	}
	timer := time.NewTimer(finishTime)
	defer timer.Stop()
	for {
		select {
		case <-messages:
		case <-ended:
			return nil
		case <-timer.C:
			return nil
		}
	}
}

// batch takes more messages, as many as one handler call may have and as long as it waits for them.
func (p *puller) batch(first *proto.PullMessagesResponse, more <-chan *proto.PullMessagesResponse) []*proto.PullMessagesResponse {
	batch := []*proto.PullMessagesResponse{first}
	if p.consumer.MaxBatch == 1 || slices.Contains(p.link.Features(), featureImmediate) {
		return batch
	}
	timer := time.NewTimer(p.consumer.MaxWait)
	defer timer.Stop()
	for len(batch) < p.consumer.MaxBatch {
		select {
		case m := <-more:
			batch = append(batch, m)
		case <-timer.C:
			return batch
		case <-p.stop:
			return batch
		}
	}
	return batch
}

// deliver hands messages to the handler and tells the component what became of them. While the receiver cannot be
// reached it tries again; what is left when the subscription closes is not acked and comes again.
func (p *puller) deliver(ctx context.Context, stream pullStream, batch []*proto.PullMessagesResponse) error {
	events := make([]pubsub.Event, len(batch))
	now := time.Now()
	for i, m := range batch {
		topic := m.GetTopicName()
		if topic == "" {
			topic = p.consumer.Filter
		}
		events[i] = pubsub.Event{Topic: topic, Data: m.GetData(), ContentType: m.GetContentType(), Metadata: m.GetMetadata(), Time: now}
	}
	for pause := retryMin; len(events) > 0; pause = min(2*pause, retryMax) {
		verdicts, err := p.handle(ctx, events)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for i, v := range verdicts[:min(len(verdicts), len(events))] {
			if err := stream.Send(answer(batch[i], v)); err != nil {
				if err == io.EOF { // Recv says why
					return nil
				}
				return err
			}
		}
		n := min(len(verdicts), len(events))
		events, batch = events[n:], batch[n:]
		if err == nil {
			for _, m := range batch { // a handler without a verdict has refused
				if err := stream.Send(answer(m, pubsub.Nak)); err != nil {
					return err
				}
			}
			return nil
		}
		if len(events) > 0 && !p.rest(ctx, pause) {
			return ctx.Err()
		}
	}
	return nil
}

func answer(m *proto.PullMessagesResponse, v pubsub.Verdict) *proto.PullMessagesRequest {
	r := &proto.PullMessagesRequest{AckMessageId: m.GetId()}
	if v == pubsub.Nak {
		r.AckError = &proto.AckMessageError{Message: "the application asks for the event again"}
	}
	return r
}
