package grpcapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/apitest"
)

const deadline = 10 * time.Second

// subscribe opens a stream to topic and waits until it is open.
func subscribe(ctx context.Context, t *testing.T, c rtv1.DaprClient, topic string) rtv1.Dapr_SubscribeTopicEventsAlpha1Client {
	t.Helper()
	s, err := c.SubscribeTopicEventsAlpha1(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(initial("durable", topic)); err != nil {
		t.Fatal(err)
	}
	m, err := s.Recv()
	if err != nil || m.GetInitialResponse() == nil {
		t.Fatalf("first answer %v, %v", m, err)
	}
	return s
}

func initial(pubsub, topic string) *rtv1.SubscribeTopicEventsRequestAlpha1 {
	return &rtv1.SubscribeTopicEventsRequestAlpha1{
		SubscribeTopicEventsRequestType: &rtv1.SubscribeTopicEventsRequestAlpha1_InitialRequest{
			InitialRequest: &rtv1.SubscribeTopicEventsRequestInitialAlpha1{PubsubName: pubsub, Topic: topic},
		},
	}
}

func processed(id string, s rtv1.TopicEventResponse_TopicEventResponseStatus) *rtv1.SubscribeTopicEventsRequestAlpha1 {
	return &rtv1.SubscribeTopicEventsRequestAlpha1{
		SubscribeTopicEventsRequestType: &rtv1.SubscribeTopicEventsRequestAlpha1_EventProcessed{
			EventProcessed: &rtv1.SubscribeTopicEventsRequestProcessedAlpha1{Id: id, Status: &rtv1.TopicEventResponse{Status: s}},
		},
	}
}

func publishText(ctx context.Context, t *testing.T, c rtv1.DaprClient, topic, text string) {
	t.Helper()
	_, err := c.PublishEvent(ctx, &rtv1.PublishEventRequest{PubsubName: "durable", Topic: topic, Data: []byte(text), DataContentType: "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

func TestSubscribeTopicEvents(t *testing.T) {
	c := rtv1.NewDaprClient(dial(t, options(apitest.Full(t))))
	t.Run("events come in order, with their envelope", func(t *testing.T) {
		ctx := testContext(t)
		s := subscribe(ctx, t, c, "ordered")
		traced := metadata.AppendToOutgoingContext(ctx, "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
		for i := range 20 {
			publishText(traced, t, c, "ordered", fmt.Sprint(i))
		}
		for i := range 20 {
			m, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			e := m.GetEventMessage()
			if string(e.GetData()) != fmt.Sprint(i) || e.GetTopic() != "ordered" || e.GetPubsubName() != "durable" ||
				e.GetSource() != apitest.App || e.GetType() != "com.dapr.event.sent" || e.GetSpecVersion() != "1.0" ||
				e.GetDataContentType() != "text/plain" || e.GetPath() != "/" || e.GetId() == "" {
				t.Fatalf("event %d: %v", i, e)
			}
			if got := e.GetExtensions().AsMap()["traceparent"]; got != "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" {
				t.Fatalf("traceparent %v", got)
			}
			if err := s.Send(processed(e.GetId(), rtv1.TopicEventResponse_SUCCESS)); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("RETRY brings an event again, DROP does not", func(t *testing.T) {
		ctx := testContext(t)
		s := subscribe(ctx, t, c, "verdicts")
		publishText(ctx, t, c, "verdicts", "again")
		publishText(ctx, t, c, "verdicts", "dropped")
		publishText(ctx, t, c, "verdicts", "last")
		seen := map[string]int{}
		for seen["again"] < 2 || seen["last"] < 1 {
			m, err := s.Recv()
			if err != nil {
				t.Fatal(seen, err)
			}
			e := m.GetEventMessage()
			text := string(e.GetData())
			verdict := rtv1.TopicEventResponse_SUCCESS
			if seen[text]++; text == "again" && seen[text] == 1 {
				verdict = rtv1.TopicEventResponse_RETRY
			} else if text == "dropped" {
				verdict = rtv1.TopicEventResponse_DROP
			}
			if err := s.Send(processed(e.GetId(), verdict)); err != nil {
				t.Fatal(err)
			}
		}
		if seen["dropped"] != 1 {
			t.Fatalf("seen %v", seen)
		}
	})
	t.Run("an event without an answer comes to the next stream", func(t *testing.T) {
		ctx := testContext(t)
		leaving, leave := context.WithCancel(ctx)
		s := subscribe(leaving, t, c, "left")
		publishText(ctx, t, c, "left", "unanswered")
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		leave()
		next := subscribe(ctx, t, c, "left")
		m, err := next.Recv()
		if err != nil || string(m.GetEventMessage().GetData()) != "unanswered" {
			t.Fatal(m, err)
		}
	})
	t.Run("a second initial request is refused", func(t *testing.T) {
		s := subscribe(testContext(t), t, c, "twice")
		if err := s.Send(initial("durable", "twice")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); status.Convert(err).Message() != "duplicate initial request received" {
			t.Fatal(err)
		}
	})
	t.Run("closing the sending side ends the stream", func(t *testing.T) {
		s := subscribe(testContext(t), t, c, "closed")
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Recv(); err == nil {
			t.Fatal(m)
		}
	})
}

func TestServer_GracefulStop(t *testing.T) {
	t.Run("ends open streams", func(t *testing.T) {
		server, conn := start(t, options(apitest.Full(t)))
		ctx := testContext(t)
		c := rtv1.NewDaprClient(conn)
		s := subscribe(ctx, t, c, "t")
		silent, err := c.SubscribeTopicEventsAlpha1(ctx) // says nothing at all
		if err != nil {
			t.Fatal(err)
		}
		server.GracefulStop(ctx)
		if ctx.Err() != nil {
			t.Fatal("stopping took until the deadline")
		}
		for name, stream := range map[string]rtv1.Dapr_SubscribeTopicEventsAlpha1Client{"subscribed": s, "silent": silent} {
			if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("breaks off calls at the deadline", func(t *testing.T) {
		o := options(apitest.Full(t))
		entered, release := make(chan struct{}), make(chan struct{})
		o.Shutdown = func() { close(entered); <-release }
		server, conn := start(t, o)
		result := make(chan error, 1)
		go func() {
			_, err := rtv1.NewDaprClient(conn).Shutdown(context.Background(), &rtv1.ShutdownRequest{})
			result <- err
		}()
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		server.GracefulStop(ctx)
		if err := <-result; status.Code(err) != codes.Unavailable {
			t.Fatal(err)
		}
		close(release)
	})
}

func TestShutdown(t *testing.T) {
	var asked []string
	o := options(apitest.Bare())
	o.Shutdown = func() { asked = append(asked, "graceful") }
	o.ForceShutdown = func() { asked = append(asked, "forced") }
	c := rtv1.NewDaprClient(dial(t, o))
	ctx := testContext(t)
	if _, err := c.Shutdown(ctx, &rtv1.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Shutdown(metadata.AppendToOutgoingContext(ctx, "dapr-force-shutdown", "True"), &rtv1.ShutdownRequest{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"graceful", "forced"}) {
		t.Fatal(asked)
	}
}

func TestTooLarge(t *testing.T) {
	o := options(apitest.Full(t))
	o.MaxBodySize = 1 << 20
	c := rtv1.NewDaprClient(dial(t, o))
	_, err := c.PublishEvent(testContext(t), &rtv1.PublishEventRequest{PubsubName: "durable", Topic: "t", Data: []byte(strings.Repeat("x", 1<<20))})
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatal(err)
	}
}
