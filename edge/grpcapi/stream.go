package grpcapi

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/pubsub"
)

var (
	errInitial   = errors.New("initial request is required")
	errDuplicate = errors.New("duplicate initial request received")
)

// SubscribeTopicEventsAlpha1 is a streaming subscription: the client's first message says what it wants, each later one
// answers an event. It lasts until the client leaves or the server stops.
func (s *service) SubscribeTopicEventsAlpha1(stream rtv1.Dapr_SubscribeTopicEventsAlpha1Server) error {
	first, err := s.firstRequest(stream)
	if err != nil {
		return err
	}
	if first == nil {
		return s.fail(errInitial)
	}
	events, err := s.PubSub.OpenStream(stream.Context(), pubsub.StreamRequest{
		App: s.AppID, PubSub: first.GetPubsubName(), Topic: first.GetTopic(),
		DeadLetterTopic: first.GetDeadLetterTopic(), Metadata: first.GetMetadata(),
	})
	if err != nil {
		return s.fail(err)
	}
	err = stream.Send(&rtv1.SubscribeTopicEventsResponseAlpha1{
		SubscribeTopicEventsResponseType: &rtv1.SubscribeTopicEventsResponseAlpha1_InitialResponse{
			InitialResponse: &rtv1.SubscribeTopicEventsResponseInitialAlpha1{},
		},
	})
	if err != nil {
		events.Close()
		return err
	}
	return s.exchange(stream, events)
}

// firstRequest waits for the client's first message, but not beyond the server's life. It is nil if the message is of
// another kind.
func (s *service) firstRequest(stream rtv1.Dapr_SubscribeTopicEventsAlpha1Server) (*rtv1.SubscribeTopicEventsRequestInitialAlpha1, error) {
	type message struct {
		r   *rtv1.SubscribeTopicEventsRequestAlpha1
		err error
	}
	got := make(chan message, 1) // when the handler returns, grpc-go lets Recv return
	go func() {
		r, err := stream.Recv()
		got <- message{r, err}
	}()
	select {
	case m := <-got:
		return m.r.GetInitialRequest(), m.err
	case <-s.stopping.Done():
		return nil, errStopping
	}
}

var errStopping = status.Error(codes.Unavailable, "api server closed")

// exchange sends events and takes answers until one side ends the stream.
func (s *service) exchange(stream rtv1.Dapr_SubscribeTopicEventsAlpha1Server, events *pubsub.Stream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	stopWatch := context.AfterFunc(s.stopping, func() { cancel(errStopping) })
	defer stopWatch()
	go func() { cancel(takeAnswers(stream, events)) }() // ends when the handler returns: grpc-go lets Recv return then
	defer events.Close()
	for {
		d, err := events.Recv(ctx)
		if err != nil {
			return s.ended(ctx, err)
		}
		event, err := topicEvent(&d)
		if err != nil {
			s.Log.Warn("event not delivered: it is no CloudEvent", "pubsub", d.PubSub, "topic", d.Topic, "id", d.ID, "error", err)
			events.Ack(d.ID, pubsub.Nak)
			continue
		}
		err = stream.Send(&rtv1.SubscribeTopicEventsResponseAlpha1{
			SubscribeTopicEventsResponseType: &rtv1.SubscribeTopicEventsResponseAlpha1_EventMessage{EventMessage: event},
		})
		if err != nil {
			return err
		}
	}
}

// ended says why a stream is over: a client that just left made no error.
func (s *service) ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil && errors.Is(err, io.EOF): // the block ended it, as the component went away
		return errStopping
	case cause == nil:
		return s.fail(err)
	case errors.Is(cause, io.EOF):
		return nil
	case errors.Is(cause, errDuplicate):
		return s.fail(cause)
	}
	return cause
}

// takeAnswers passes the client's answers on, until it sends no more.
func takeAnswers(stream rtv1.Dapr_SubscribeTopicEventsAlpha1Server, events *pubsub.Stream) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		answer := m.GetEventProcessed()
		if answer == nil {
			return errDuplicate
		}
		events.Ack(answer.GetId(), verdict(answer.GetStatus().GetStatus()))
	}
}

// verdict reads a TopicEventResponse status; one that is not known asks for the event again.
func verdict(s rtv1.TopicEventResponse_TopicEventResponseStatus) pubsub.Verdict {
	switch s {
	case rtv1.TopicEventResponse_SUCCESS:
		return pubsub.Ack
	case rtv1.TopicEventResponse_DROP:
		return pubsub.Drop
	}
	return pubsub.Nak
}

// topicEvent makes Dapr's message of a delivery.
func topicEvent(d *pubsub.Delivery) (*rtv1.TopicEventRequest, error) {
	e, err := pubsub.ParseCloudEvent(d.Envelope)
	if err != nil {
		return nil, err
	}
	extensions, err := structpb.NewStruct(e.Extensions)
	if err != nil {
		return nil, err
	}
	return &rtv1.TopicEventRequest{
		Id: e.ID, Source: e.Source, Type: e.Type, SpecVersion: e.SpecVersion, DataContentType: e.DataContentType,
		Data: e.Data, Topic: d.Topic, PubsubName: d.PubSub, Path: d.Path, Extensions: extensions,
	}, nil
}
