package app_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/edged-io/edged/edge/app"
	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/pubsub"
)

// callbacks is a gRPC application. Functions that are not set answer Unimplemented.
type callbacks struct {
	runtimev1.UnimplementedAppCallbackServer
	runtimev1.UnimplementedAppCallbackAlphaServer
	runtimev1.UnimplementedAppCallbackHealthCheckServer
	event   func(context.Context, *runtimev1.TopicEventRequest) (*runtimev1.TopicEventResponse, error)
	bulk    func(context.Context, *runtimev1.TopicEventBulkRequest) (*runtimev1.TopicEventBulkResponse, error)
	oldBulk func(context.Context, *runtimev1.TopicEventBulkRequest) (*runtimev1.TopicEventBulkResponse, error)
	list    func(context.Context) (*runtimev1.ListTopicSubscriptionsResponse, error)
	invoke  func(context.Context, *commonv1.InvokeRequest) (*commonv1.InvokeResponse, error)
	health  func() error
}

var errNot = status.Error(codes.Unimplemented, "not here")

func (c *callbacks) OnTopicEvent(ctx context.Context, r *runtimev1.TopicEventRequest) (*runtimev1.TopicEventResponse, error) {
	if c.event == nil {
		return nil, errNot
	}
	return c.event(ctx, r)
}

func (c *callbacks) OnBulkTopicEvent(ctx context.Context, r *runtimev1.TopicEventBulkRequest) (*runtimev1.TopicEventBulkResponse, error) {
	if c.bulk == nil {
		return nil, errNot
	}
	return c.bulk(ctx, r)
}

func (c *callbacks) OnBulkTopicEventAlpha1(ctx context.Context, r *runtimev1.TopicEventBulkRequest) (*runtimev1.TopicEventBulkResponse, error) {
	if c.oldBulk == nil {
		return nil, errNot
	}
	return c.oldBulk(ctx, r)
}

func (c *callbacks) ListTopicSubscriptions(ctx context.Context, _ *emptypb.Empty) (*runtimev1.ListTopicSubscriptionsResponse, error) {
	if c.list == nil {
		return nil, errNot
	}
	return c.list(ctx)
}

func (c *callbacks) OnInvoke(ctx context.Context, r *commonv1.InvokeRequest) (*commonv1.InvokeResponse, error) {
	if c.invoke == nil {
		return nil, errNot
	}
	return c.invoke(ctx, r)
}

func (c *callbacks) HealthCheck(context.Context, *emptypb.Empty) (*runtimev1.HealthCheckResponse, error) {
	return &runtimev1.HealthCheckResponse{}, c.health()
}

// serveGRPC starts a gRPC application and returns the channel to it.
func serveGRPC(t testing.TB, cb *callbacks, cfg app.Config, opts ...grpc.ServerOption) (*app.Channel, *grpc.Server) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.sock")
	srv := startGRPC(t, path, cb, opts...)
	cfg.Address = "unix://" + path
	if cfg.Protocol == "" {
		cfg.Protocol = app.GRPC
	}
	return open(t, cfg), srv
}

func startGRPC(t testing.TB, path string, cb *callbacks, opts ...grpc.ServerOption) *grpc.Server {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(opts...)
	runtimev1.RegisterAppCallbackServer(srv, cb)
	runtimev1.RegisterAppCallbackAlphaServer(srv, cb)
	runtimev1.RegisterAppCallbackHealthCheckServer(srv, cb)
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		srv.Stop()
		wg.Wait()
	})
	return srv
}

func TestChannel_GRPC_Deliver(t *testing.T) {
	var got *runtimev1.TopicEventRequest
	var md metadata.MD
	c, _ := serveGRPC(t, &callbacks{event: func(ctx context.Context, r *runtimev1.TopicEventRequest) (*runtimev1.TopicEventResponse, error) {
		got = r
		md, _ = metadata.FromIncomingContext(ctx)
		return &runtimev1.TopicEventResponse{}, nil
	}}, app.Config{Token: "secret"})
	deliver := func(t *testing.T, d pubsub.Delivery) {
		t.Helper()
		if v, err := c.Deliver(t.Context(), d); v != pubsub.Ack || err != nil {
			t.Fatal(v, err)
		}
	}
	t.Run("Event", func(t *testing.T) {
		d := delivery()
		d.Metadata = map[string]string{"Foo": "bar", "a b": "c", "nl": "x\n", "grpc-x": "y", "content-length": "7", "dapr-api-token": "forged", ":path": "/"}
		deliver(t, d)
		want := &runtimev1.TopicEventRequest{
			Id: "e1", Source: "orders", Type: "com.dapr.event.sent", SpecVersion: "1.0", DataContentType: "application/json",
			Data: []byte(`{"amount":7}`), Topic: "new-order", PubsubName: "pubsub", Path: "/orders",
		}
		ext := got.GetExtensions().AsMap()
		if got.Extensions = nil; got.String() != want.String() {
			t.Errorf("got %v", got)
		}
		tp := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		wantExt := map[string]any{"topic": "new-order", "pubsubname": "pubsub", "traceid": tp, "traceparent": tp, "tracestate": "a=b",
			"baggage": "k=v", "time": "2026-01-02T03:04:05Z", "count": 3.0}
		if fmt.Sprint(ext) != fmt.Sprint(wantExt) {
			t.Errorf("extensions %v", ext)
		}
		for k, v := range map[string]string{"foo": "bar", "pubsubname": "pubsub", "traceparent": tp, "tracestate": "a=b", "baggage": "k=v", "dapr-api-token": "secret"} {
			if fmt.Sprint(md[k]) != "["+v+"]" {
				t.Errorf("%s: %v", k, md[k])
			}
		}
		if len(md["nl"])+len(md["a b"])+len(md["content-length"]) != 0 {
			t.Errorf("metadata %v", md)
		}
		bin := md["grpc-trace-bin"]
		if len(bin) != 1 || fmt.Sprintf("%x", bin[0]) != "0000"+"4bf92f3577b34da6a3ce929d0e0e4736"+"01"+"00f067aa0ba902b7"+"0201" {
			t.Errorf("grpc-trace-bin %x", bin)
		}
	})
	t.Run("Data", func(t *testing.T) {
		for _, tc := range []struct{ contentType, data, want string }{
			{"text/plain", `"data":"caf\u00e9 \"x\""`, `café "x"`},
			{"text/plain; charset=utf-8", `"data":"a"`, "a"},
			{"application/xml", `"data":"<a/>"`, "<a/>"},
			{"application/json", `"data":{"a": [1, "}"]}`, `{"a": [1, "}"]}`},
			{"Application/JSON; x=y", `"data":"s"`, `"s"`},
			{"application/cloudevents+json", `"data":{}`, `{}`},
			{"application/octet-stream", `"data_base64":"` + base64.StdEncoding.EncodeToString([]byte{1, 2}) + `"`, "\x01\x02"},
			{"foo/bar", `"data":"lost, as in daprd"`, ""},
			{"application/json", `"data":null`, ""},
			{"application/json", `"x":1`, ""},
		} {
			d := delivery()
			d.Envelope = []byte(`{"datacontenttype":"` + tc.contentType + `",` + tc.data + `}`)
			deliver(t, d)
			if string(got.Data) != tc.want || got.DataContentType != tc.contentType {
				t.Errorf("%s %s: got %q", tc.contentType, tc.data, got.Data)
			}
		}
	})
	t.Run("Raw", func(t *testing.T) {
		d := delivery()
		d.Raw, d.Envelope = true, []byte{0, 1}
		d.Metadata = map[string]string{"traceparent": "tp", "tracestate": "ts"}
		deliver(t, d)
		if len(got.Id) != 36 || got.DataContentType != "application/octet-stream" || string(got.Data) != "\x00\x01" || got.SpecVersion != "1.0" ||
			got.Type != "com.dapr.event.sent" || got.Source != "Dapr" {
			t.Errorf("got %v", got)
		}
		if ext := fmt.Sprint(got.Extensions.AsMap()); ext != "map[pubsubname:pubsub topic:new-order traceid:tp traceparent:tp tracestate:ts]" {
			t.Errorf("extensions %v", ext)
		}
	})
	t.Run("NotAnEvent", func(t *testing.T) {
		for _, envelope := range []string{"", "x", `[]`, `{"data_base64":1}`, `{"data_base64":"!"}`, `{"a":{x}}`, `{"a":1`,
			`{"datacontenttype":"text/plain","data":{}}`, `{"datacontenttype":"application/json","data":{x}}`} {
			d := delivery()
			d.Envelope = []byte(envelope)
			if v, err := c.Deliver(t.Context(), d); v != pubsub.Nak || err != nil {
				t.Errorf("%s: got %v %v", envelope, v, err)
			}
		}
	})
}

func TestChannel_GRPC_Deliver_Answers(t *testing.T) {
	for name, tc := range map[string]struct {
		status runtimev1.TopicEventResponse_TopicEventResponseStatus
		code   codes.Code
		want   pubsub.Verdict
	}{
		"Success":       {runtimev1.TopicEventResponse_SUCCESS, codes.OK, pubsub.Ack},
		"Retry":         {runtimev1.TopicEventResponse_RETRY, codes.OK, pubsub.Nak},
		"Drop":          {runtimev1.TopicEventResponse_DROP, codes.OK, pubsub.Drop},
		"Unknown":       {77, codes.OK, pubsub.Nak},
		"Unimplemented": {0, codes.Unimplemented, pubsub.Drop},
		"Internal":      {0, codes.Internal, pubsub.Nak},
		"Unavailable":   {0, codes.Unavailable, pubsub.Nak}, // the handler says so: the application is there
		"Canceled":      {0, codes.Canceled, pubsub.Nak},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serveGRPC(t, &callbacks{event: func(context.Context, *runtimev1.TopicEventRequest) (*runtimev1.TopicEventResponse, error) {
				return &runtimev1.TopicEventResponse{Status: tc.status}, status.Error(tc.code, "x")
			}}, app.Config{})
			if v, err := c.Deliver(t.Context(), delivery()); v != tc.want || err != nil {
				t.Errorf("got %v %v", v, err)
			}
		})
	}
}

func TestChannel_GRPC_Unreachable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	c := open(t, app.Config{Address: "unix://" + path, Protocol: app.GRPC})
	if _, err := c.Deliver(t.Context(), delivery()); !errors.Is(err, app.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	if _, err := c.DeliverBulk(t.Context(), pubsub.BulkDelivery{Entries: []pubsub.Delivery{delivery()}}); !errors.Is(err, app.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Invoke(t.Context(), invoke.Request{Verb: "GET"}); !errors.Is(err, app.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Subscriptions(t.Context()); !errors.Is(err, app.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	srv := startGRPC(t, path, &callbacks{event: func(ctx context.Context, r *runtimev1.TopicEventRequest) (*runtimev1.TopicEventResponse, error) {
		if r.GetPath() == "/wait" {
			<-ctx.Done()
		}
		return &runtimev1.TopicEventResponse{}, nil
	}})
	eventually(t, "delivery after the application came", func() bool {
		v, err := c.Deliver(t.Context(), delivery())
		return v == pubsub.Ack && err == nil
	})
	wait := delivery()
	wait.Path = "/wait"
	t.Run("Deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if v, err := c.Deliver(ctx, wait); v != pubsub.Nak || err != nil {
			t.Errorf("got %v %v", v, err)
		}
	})
	t.Run("Cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := c.Deliver(ctx, wait); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("Dies", func(t *testing.T) {
		time.AfterFunc(20*time.Millisecond, srv.Stop)
		if v, err := c.Deliver(t.Context(), wait); v != pubsub.Nak || err != nil {
			t.Errorf("got %v %v", v, err)
		}
	})
}

func TestChannel_GRPC_DeliverBulk(t *testing.T) {
	batch := pubsub.BulkDelivery{
		PubSub: "pubsub", Topic: "new-order", Path: "/bulk", Metadata: map[string]string{"k": "v"},
		Entries: []pubsub.Delivery{
			{EntryID: "1", Envelope: []byte(envelope)},
			{EntryID: "2", Envelope: []byte("raw"), Raw: true, Metadata: map[string]string{"m": "n"}},
			{EntryID: "3", Envelope: []byte("{broken")},
			{EntryID: "4", Envelope: []byte(`{}`)},
			{EntryID: "5", Envelope: []byte(`{}`)},
		},
	}
	var got *runtimev1.TopicEventBulkRequest
	answer := func(_ context.Context, r *runtimev1.TopicEventBulkRequest) (*runtimev1.TopicEventBulkResponse, error) {
		got = r
		return &runtimev1.TopicEventBulkResponse{Statuses: []*runtimev1.TopicEventBulkResponseEntry{
			{EntryId: "1"}, {EntryId: "2", Status: runtimev1.TopicEventResponse_DROP}, {EntryId: "4", Status: runtimev1.TopicEventResponse_RETRY}, {EntryId: "99"},
		}}, nil
	}
	n := pubsub.Nak
	for name, tc := range map[string]struct {
		cb   callbacks
		want []pubsub.Verdict
	}{
		"OK":            {callbacks{bulk: answer}, []pubsub.Verdict{pubsub.Ack, pubsub.Drop, n, n, n}},
		"Alpha":         {callbacks{oldBulk: answer}, []pubsub.Verdict{pubsub.Ack, pubsub.Drop, n, n, n}},
		"Unimplemented": {callbacks{}, []pubsub.Verdict{pubsub.Drop, pubsub.Drop, n, pubsub.Drop, pubsub.Drop}},
		"Error": {callbacks{bulk: func(context.Context, *runtimev1.TopicEventBulkRequest) (*runtimev1.TopicEventBulkResponse, error) {
			return nil, errors.New("no")
		}}, []pubsub.Verdict{n, n, n, n, n}},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serveGRPC(t, &tc.cb, app.Config{})
			for range 2 {
				if v, err := c.DeliverBulk(t.Context(), batch); err != nil || !slices.Equal(v, tc.want) {
					t.Errorf("got %v %v", v, err)
				}
			}
		})
	}
	if got.GetType() != "com.dapr.event.sent.bulk" || len(got.GetId()) != 36 || got.GetPath() != "/bulk" || len(got.GetEntries()) != 4 ||
		fmt.Sprint(got.GetMetadata()) != "map[k:v pubsubName:pubsub]" || string(got.GetEntries()[0].GetCloudEvent().GetData()) != `{"amount":7}` ||
		string(got.GetEntries()[1].GetBytes()) != "raw" || got.GetEntries()[1].GetContentType() != "application/octet-stream" ||
		got.GetEntries()[1].GetMetadata()["m"] != "n" || got.GetEntries()[0].GetContentType() != "application/cloudevents+json" {
		t.Errorf("got %v", got)
	}
}

func TestChannel_GRPC_Subscriptions(t *testing.T) {
	var tries atomic.Int64
	c, _ := serveGRPC(t, &callbacks{list: func(ctx context.Context) (*runtimev1.ListTopicSubscriptionsResponse, error) {
		if md, _ := metadata.FromIncomingContext(ctx); fmt.Sprint(md["dapr-api-token"]) != "[secret]" {
			t.Errorf("metadata %v", md)
		}
		if tries.Add(1) == 1 {
			return nil, errors.New("not yet")
		}
		return &runtimev1.ListTopicSubscriptionsResponse{Subscriptions: []*runtimev1.TopicSubscription{
			{PubsubName: "p", Topic: "a", Metadata: map[string]string{"rawPayload": "true"}, DeadLetterTopic: "dead"},
			{PubsubName: "p", Topic: "b", Routes: &runtimev1.TopicRoutes{
				Rules: []*runtimev1.TopicRule{{Match: ` event.type == "x"`, Path: "/x"}}, Default: "/d"},
				BulkSubscribe: &runtimev1.BulkSubscribeConfig{Enabled: true, MaxMessagesCount: 10, MaxAwaitDurationMs: 20}},
			{PubsubName: "p", Topic: "c", Routes: &runtimev1.TopicRoutes{}},
		}}, nil
	}}, app.Config{Token: "secret"})
	specs, err := c.Subscriptions(t.Context())
	want := []pubsub.Spec{
		{PubSub: "p", Topic: "a", Kind: pubsub.Programmatic, Rules: []pubsub.Rule{{}}, DeadLetterTopic: "dead", Metadata: map[string]string{"rawPayload": "true"}},
		{PubSub: "p", Topic: "b", Kind: pubsub.Programmatic, Rules: []pubsub.Rule{{Match: `event.type == "x"`, Path: "/x"}, {Path: "/d"}},
			Bulk: pubsub.BulkSubscribe{Enabled: true, MaxMessagesCount: 10, MaxAwaitDurationMs: 20}},
		{PubSub: "p", Topic: "c", Kind: pubsub.Programmatic, Rules: []pubsub.Rule{{}}},
	}
	if err != nil || fmt.Sprintf("%+v", specs) != fmt.Sprintf("%+v", want) {
		t.Errorf("got %+v %v", specs, err)
	}
	t.Run("Unimplemented", func(t *testing.T) {
		c, _ := serveGRPC(t, &callbacks{}, app.Config{})
		if specs, err := c.Subscriptions(t.Context()); len(specs) != 0 || err != nil {
			t.Errorf("got %v %v", specs, err)
		}
		if cfg, err := c.Hosting(t.Context()); cfg.Entities != nil || err != nil {
			t.Errorf("got %v %v", cfg, err)
		}
	})
}

func TestChannel_GRPC_Run(t *testing.T) {
	var up atomic.Bool
	changes := make(chan bool, 16)
	c, srv := serveGRPC(t, &callbacks{health: func() error {
		if !up.Load() {
			return errors.New("not yet")
		}
		return nil
	}}, app.Config{
		Health:   app.Health{Enabled: true, Interval: 50 * time.Millisecond, Timeout: 50 * time.Millisecond, Threshold: 1},
		OnHealth: func(_ context.Context, healthy bool) { changes <- healthy },
	})
	run(t, c)
	up.Store(true)
	if !<-changes {
		t.Error("not healthy")
	}
	srv.Stop()
	if <-changes {
		t.Error("healthy, but gone")
	}
}

func TestChannel_GRPC_TLS(t *testing.T) {
	c, _ := serveGRPC(t, &callbacks{event: func(context.Context, *runtimev1.TopicEventRequest) (*runtimev1.TopicEventResponse, error) {
		return &runtimev1.TopicEventResponse{}, nil
	}}, app.Config{Protocol: app.GRPCS}, grpc.Creds(credentials.NewTLS(selfSigned(t))))
	if err := c.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Deliver(t.Context(), delivery()); v != pubsub.Ack || err != nil {
		t.Errorf("got %v %v", v, err)
	}
}

func TestChannel_GRPC_Invoke(t *testing.T) {
	c, _ := serveGRPC(t, &callbacks{invoke: func(ctx context.Context, r *commonv1.InvokeRequest) (*commonv1.InvokeResponse, error) {
		if r.GetMethod() == "fail" {
			return nil, status.Error(codes.NotFound, "no such thing")
		}
		md, _ := metadata.FromIncomingContext(ctx)
		if err := grpc.SetHeader(ctx, metadata.Pairs("x-answer", "7")); err != nil {
			t.Error(err)
		}
		return &commonv1.InvokeResponse{ContentType: "text/plain", Data: &anypb.Any{Value: fmt.Appendf(nil, "%s %s %s %s %s %v %v %v",
			r.GetMethod(), r.GetHttpExtension().GetVerb(), r.GetHttpExtension().GetQuerystring(), r.GetData().GetValue(), r.GetContentType(),
			md["x-ask"], md["dapr-accept"], md["dapr-api-token"])}}, nil
	}}, app.Config{Token: "secret", MaxBodySize: 1000})
	resp, err := c.Invoke(t.Context(), invoke.Request{
		Verb: "PUT", Path: "a/b%20c", Query: "q=1", Body: strings.NewReader("hello"),
		Header: map[string][]string{"Content-Type": {"x/y"}, "X-Ask": {"7"}, "Accept": {"*/*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	if resp.Status != 200 || string(body) != "a/b c PUT q=1 hello x/y [7] [*/*] [secret]" ||
		http.Header(resp.Header).Get("X-Answer") != "7" || http.Header(resp.Header).Get("Content-Type") != "text/plain" {
		t.Errorf("got %d %s %v", resp.Status, body, resp.Header)
	}
	resp, err = c.Invoke(t.Context(), invoke.Request{Verb: "GET", Path: "fail"})
	if err != nil {
		t.Fatal(err)
	}
	body, _ = io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.Status != 404 || !strings.Contains(string(body), `"no such thing"`) {
		t.Errorf("got %d %s", resp.Status, body)
	}
	for _, r := range []invoke.Request{{Verb: "BREW"}, {Verb: "POST", Body: strings.NewReader(strings.Repeat("x", 1001))}, {Verb: "GET", Path: "%zz"}} {
		if _, err := c.Invoke(t.Context(), r); err == nil {
			t.Errorf("%+v: accepted", r)
		}
	}
}
