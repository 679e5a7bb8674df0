package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	daprgrpc "github.com/dapr/go-sdk/service/grpc"
	daprhttp "github.com/dapr/go-sdk/service/http"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func dial(t *testing.T, address string) client.Client {
	t.Helper()
	c, err := client.NewClientWithAddress(address)
	if err != nil {
		t.Fatalf("connect to %s: %v", address, err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestGoSDK_State(t *testing.T) {
	a := newApp(t, "gostate", "")
	d := startEdged(t, a)
	for name, address := range map[string]string{"UnixSocket": "unix://" + d.socket(a.id), "TCP": a.grpcAddress()} {
		t.Run(name, func(t *testing.T) { goState(t, dial(t, address)) })
	}
}

func goState(t *testing.T, c client.Client) {
	ctx := t.Context()
	const store = "statestore"
	must(t, c.SaveState(ctx, store, "k", []byte(`"one"`), nil))
	got, err := c.GetState(ctx, store, "k", nil)
	must(t, err)
	if string(got.Value) != `"one"` || got.Etag == "" {
		t.Fatalf("got %q etag %q", got.Value, got.Etag)
	}
	must(t, c.SaveStateWithETag(ctx, store, "k", []byte(`"two"`), got.Etag, nil, client.WithConcurrency(client.StateConcurrencyFirstWrite)))
	err = c.SaveStateWithETag(ctx, store, "k", []byte(`"three"`), got.Etag, nil, client.WithConcurrency(client.StateConcurrencyFirstWrite))
	if status.Code(errors.Unwrap(err)) != codes.Aborted && status.Code(err) != codes.Aborted {
		t.Fatalf("a stale etag gave %v, want Aborted", err)
	}
	must(t, c.ExecuteStateTransaction(ctx, store, nil, []*client.StateOperation{
		{Type: client.StateOperationTypeUpsert, Item: &client.SetStateItem{Key: "t1", Value: []byte("1")}},
		{Type: client.StateOperationTypeUpsert, Item: &client.SetStateItem{Key: "t2", Value: []byte("2")}},
		{Type: client.StateOperationTypeDelete, Item: &client.SetStateItem{Key: "k"}},
	}))
	bulk, err := c.GetBulkState(ctx, store, []string{"t1", "t2", "k"}, nil, 10)
	must(t, err)
	values := map[string]string{}
	for _, i := range bulk {
		values[i.Key] = string(i.Value)
	}
	if values["t1"] != "1" || values["t2"] != "2" || values["k"] != "" {
		t.Fatalf("after the transaction: %v", values)
	}
	must(t, c.SaveState(ctx, store, "short", []byte("x"), map[string]string{"ttlInSeconds": "1"}))
	eventually(t, 5*time.Second, "expiry", func() error {
		got, err := c.GetState(ctx, store, "short", nil)
		if err == nil && len(got.Value) > 0 {
			err = errors.New("still there")
		}
		return err
	})
	must(t, c.DeleteBulkState(ctx, store, []string{"t1", "t2"}, nil))
	_, err = c.GetState(ctx, "nosuch", "k", nil)
	if err == nil {
		t.Fatal("an unknown store gave no error")
	}
}

func TestGoSDK_SecretsHealthMetadata(t *testing.T) {
	a := newApp(t, "gosecrets", "")
	d := startEdged(t, a)
	c := dial(t, "unix://"+d.socket(a.id))
	ctx := t.Context()
	must(t, c.Wait(ctx, 5*time.Second))
	s, err := c.GetSecret(ctx, "secrets", "db:password", nil)
	must(t, err)
	if s["db:password"] != "hunter2" {
		t.Fatalf("secret: %v", s)
	}
	all, err := c.GetBulkSecret(ctx, "secrets", nil)
	must(t, err)
	if all["api-key"]["api-key"] != "s3cret" || len(all) != 2 {
		t.Fatalf("all secrets: %v", all)
	}
	must(t, c.SetMetadata(ctx, "color", "green"))
	m, err := c.GetMetadata(ctx)
	must(t, err)
	if m.ID != a.id || m.ExtendedMetadata["color"] != "green" || len(m.RegisteredComponents) == 0 {
		t.Fatalf("metadata: %+v", m)
	}
}

// received collects events by id and checks their order.
type received struct {
	mu     sync.Mutex
	events []string
}

func (r *received) add(v string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, v)
}

func (r *received) want(n int) func() error {
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.events) < n {
			return fmt.Errorf("%d of %d events", len(r.events), n)
		}
		for i, e := range r.events {
			if e != fmt.Sprint(i) {
				return fmt.Errorf("event %d is %q", i, e)
			}
		}
		return nil
	}
}

func publishNumbers(t *testing.T, c client.Client, topic string, n int) {
	t.Helper()
	for i := range n {
		must(t, c.PublishEvent(t.Context(), "pubsub", topic, []byte(fmt.Sprint(i)), client.PublishEventWithContentType("text/plain")))
	}
}

func TestGoSDK_SubscribeHTTP(t *testing.T) {
	a := newApp(t, "gosubhttp", "http")
	var got received
	s := daprhttp.NewService(fmt.Sprintf("127.0.0.1:%d", a.port))
	subscribeAndServe(t, s, &got)
	d := startEdged(t, a)
	publishNumbers(t, dial(t, "unix://"+d.socket(a.id)), "numbers", 50)
	eventually(t, 20*time.Second, "delivery", got.want(50))
}

func TestGoSDK_SubscribeGRPC(t *testing.T) {
	a := newApp(t, "gosubgrpc", "grpc")
	var got received
	s, err := daprgrpc.NewService(fmt.Sprintf("127.0.0.1:%d", a.port))
	must(t, err)
	subscribeAndServe(t, s, &got)
	d := startEdged(t, a)
	publishNumbers(t, dial(t, "unix://"+d.socket(a.id)), "numbers", 50)
	eventually(t, 20*time.Second, "delivery", got.want(50))
}

func subscribeAndServe(t *testing.T, s common.Service, got *received) {
	t.Helper()
	must(t, s.AddTopicEventHandler(&common.Subscription{PubsubName: "pubsub", Topic: "numbers", Route: "/numbers"},
		func(_ context.Context, e *common.TopicEvent) (bool, error) {
			got.add(fmt.Sprint(e.Data))
			return false, nil
		}))
	done := make(chan error, 1)
	go func() { done <- s.Start() }()
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop service: %v", err)
		}
		if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("service ended with %v", err)
		}
	})
}

func TestGoSDK_SubscribeStreaming(t *testing.T) {
	a := newApp(t, "gostream", "")
	d := startEdged(t, a)
	c := dial(t, "unix://"+d.socket(a.id))
	sub, err := c.Subscribe(t.Context(), client.SubscriptionOptions{PubsubName: "pubsub", Topic: "stream"})
	must(t, err)
	publishNumbers(t, c, "stream", 20)
	for i := range 20 {
		m, err := sub.Receive()
		must(t, err)
		if string(m.RawData) != fmt.Sprint(i) {
			t.Fatalf("event %d is %q", i, m.RawData)
		}
		must(t, m.Success())
	}
	must(t, sub.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
