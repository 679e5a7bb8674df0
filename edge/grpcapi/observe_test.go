package grpcapi_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/apitest"
	"github.com/edged-io/edged/edge/grpcapi"
	"github.com/edged-io/edged/edge/invoke"
)

func TestObserve(t *testing.T) {
	var mu sync.Mutex
	var calls []grpcapi.Call
	var errs [][2]string
	var log bytes.Buffer
	o := options(apitest.Full(t))
	o.OnCall = func(c grpcapi.Call) { mu.Lock(); calls = append(calls, c); mu.Unlock() }
	o.OnError = func(code, category string) { mu.Lock(); errs = append(errs, [2]string{code, category}); mu.Unlock() }
	o.LogCalls, o.Log = true, slog.New(slog.NewTextHandler(&log, nil))
	server, conn := start(t, o)
	c := rtv1.NewDaprClient(conn)
	ctx := testContext(t)
	_ = get(ctx, c)
	_, _ = c.GetState(ctx, &rtv1.GetStateRequest{StoreName: "nostore", Key: "k"})
	_, _ = c.SaveState(ctx, &rtv1.SaveStateRequest{StoreName: "mystore", States: []*commonv1.StateItem{{}}})
	s, err := c.SubscribeConfiguration(ctx, &rtv1.SubscribeConfigurationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Recv()
	server.GracefulStop(ctx)
	want := [][2]string{
		{"ERR_STATE_STORE_NOT_FOUND", "state"}, {"ERR_STATE_SAVE", "state"}, {"ERR_CONFIGURATION_STORE_NOT_CONFIGURED", "configuration"},
	}
	if !reflect.DeepEqual(errs, want) {
		t.Errorf("errors %v", errs)
	}
	if len(calls) != 4 || calls[0].Method != "/dapr.proto.runtime.v1.Dapr/GetState" || calls[0].Code != 0 || calls[1].Code != 3 ||
		!calls[3].Stream || calls[3].Code != uint32(codes.FailedPrecondition) || !strings.HasPrefix(calls[0].UserAgent, "grpc-go") {
		t.Errorf("calls %+v", calls)
	}
	if line, _, _ := strings.Cut(log.String(), "\n"); !strings.Contains(line, `msg="gRPC API Called" code=0 duration=`) ||
		!strings.Contains(line, "method=/dapr.proto.runtime.v1.Dapr/GetState useragent=grpc-go") {
		t.Errorf("log %s", line)
	}
}

func TestUnknownService(t *testing.T) {
	t.Run("not configured", func(t *testing.T) {
		err := dial(t, options(apitest.Bare())).Invoke(testContext(t), "/my.Service/Call", &rtv1.GetMetadataRequest{}, &rtv1.GetMetadataResponse{})
		if status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
	})
	t.Run("passed on without the API token", func(t *testing.T) {
		o := options(apitest.Bare())
		o.APIToken = "secret"
		o.Unknown = func(_ any, ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			method, _ := grpc.Method(ss.Context())
			return status.Errorf(codes.Aborted, "%s %s %d", method, md.Get("dapr-app-id"), len(md.Get("dapr-api-token")))
		}
		conn := dial(t, o)
		call := func(kv ...string) error {
			ctx := metadata.AppendToOutgoingContext(testContext(t), kv...)
			return conn.Invoke(ctx, "/my.Service/Call", &rtv1.GetMetadataRequest{}, &rtv1.GetMetadataResponse{})
		}
		if err := call("dapr-app-id", "other"); status.Code(err) != codes.Unauthenticated {
			t.Error(err)
		}
		if err := call("dapr-app-id", "other", "dapr-api-token", "secret"); status.Convert(err).Message() != "/my.Service/Call [other] 0" {
			t.Error(err)
		}
	})
}

// answering is an application that answers every call with what it was asked.
type answering struct{ status int }

func (a answering) Invoke(_ context.Context, r invoke.Request) (*invoke.Response, error) {
	body, _ := io.ReadAll(r.Body)
	text := r.Verb + " " + r.Path + "?" + r.Query + " " + http.Header(r.Header).Get("Content-Type") + " " + http.Header(r.Header).Get("X-Mine") + " " + string(body)
	return &invoke.Response{
		Status: a.status, Header: http.Header{"Content-Type": {"text/plain"}, "X-Answer": {"yes"}}, Body: io.NopCloser(strings.NewReader(text)),
	}, nil
}

func TestInvokeService(t *testing.T) {
	o := options(apitest.Bare())
	o.Invoke = invoke.NewService(func(app string) (invoke.Channel, bool) {
		return answering{map[string]int{"good": 200, "bad": 409}[app]}, true
	})
	c := rtv1.NewDaprClient(dial(t, o))
	message := &commonv1.InvokeRequest{
		Method: "orders/1", Data: &anypb.Any{Value: []byte("data")}, ContentType: "application/json",
		HttpExtension: &commonv1.HTTPExtension{Verb: commonv1.HTTPExtension_PUT, Querystring: "a=b"},
	}
	ctx := metadata.AppendToOutgoingContext(testContext(t), "x-mine", "mine")
	t.Run("OK", func(t *testing.T) {
		var header metadata.MD
		got, err := c.InvokeService(ctx, &rtv1.InvokeServiceRequest{Id: "good", Message: message}, grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		if text := string(got.GetData().GetValue()); text != "PUT orders/1?a=b application/json mine data" || got.GetContentType() != "text/plain" {
			t.Errorf("%q %q", text, got.GetContentType())
		}
		if header.Get("dapr-http-status")[0] != "200" || header.Get("x-answer")[0] != "yes" {
			t.Error(header)
		}
	})
	t.Run("an error status is an error", func(t *testing.T) {
		_, err := c.InvokeService(ctx, &rtv1.InvokeServiceRequest{Id: "bad", Message: message})
		if st := status.Convert(err); st.Code() != codes.AlreadyExists || st.Message() != "Conflict" || len(st.Details()) != 1 {
			t.Fatal(err)
		}
	})
	t.Run("not ready", func(t *testing.T) {
		o := options(apitest.Bare())
		o.Invoke = nil
		_, err := rtv1.NewDaprClient(dial(t, o)).InvokeService(ctx, &rtv1.InvokeServiceRequest{Id: "x", Message: message})
		if st := status.Convert(err); st.Code() != codes.Internal || st.Message() != "invoke API is not ready" {
			t.Fatal(err)
		}
	})
}
