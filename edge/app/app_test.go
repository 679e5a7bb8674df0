package app_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/app"
	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/pubsub"
)

const envelope = `{"id":"e1","source":"orders","type":"com.dapr.event.sent","specversion":"1.0","datacontenttype":"application/json",` +
	`"topic":"new-order","pubsubname":"pubsub","traceid":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",` +
	`"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"a=b","baggage":"k=v",` +
	`"time":"2026-01-02T03:04:05Z","count":3,"data":{"amount":7}}`

// serveApp starts an HTTP application on a Unix socket and returns the channel to it.
func serveApp(t testing.TB, h http.Handler, cfg app.Config) *app.Channel {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	cfg.Address = "unix://" + path
	return open(t, cfg)
}

func open(t testing.TB, cfg app.Config) *app.Channel {
	t.Helper()
	cfg.AppID = "orders"
	cfg.Log = slog.New(slog.DiscardHandler)
	c, err := app.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func delivery() pubsub.Delivery {
	return pubsub.Delivery{PubSub: "pubsub", Topic: "new-order", Path: "/orders", Envelope: []byte(envelope)}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for poll := time.Tick(time.Millisecond); !ok(); {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-poll:
		}
	}
}

func TestNew_BadConfig(t *testing.T) {
	for name, cfg := range map[string]app.Config{
		"NoAddress":  {},
		"NoPort":     {Address: "127.0.0.1"},
		"EmptyPort":  {Address: "127.0.0.1:"},
		"NoPath":     {Address: "unix://"},
		"Protocol":   {Address: "127.0.0.1:1", Protocol: "ftp"},
		"Interval":   {Address: "127.0.0.1:1", Health: app.Health{Interval: time.Second, Timeout: 2 * time.Second}},
		"BelowZero":  {Address: "127.0.0.1:1", Health: app.Health{Interval: -1}},
		"Threshold":  {Address: "127.0.0.1:1", Health: app.Health{Threshold: -1}},
		"BadGRPCApp": {Address: "nowhere", Protocol: app.GRPC},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := app.New(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestChannel_Deliver_Answers(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
		want   pubsub.Verdict
	}{
		"Empty":          {200, "", pubsub.Ack},
		"NoContent":      {204, "", pubsub.Ack},
		"Accepted":       {202, "", pubsub.Ack},
		"Success":        {200, `{"status":"SUCCESS"}`, pubsub.Ack},
		"SuccessSpaced":  {200, "  { \"status\" : \"SUCCESS\" }\n", pubsub.Ack},
		"NoStatus":       {200, `{"success":true}`, pubsub.Ack},
		"EmptyStatus":    {200, `{"status":""}`, pubsub.Ack},
		"NotJSON":        {200, "OK", pubsub.Ack},
		"StatusNumber":   {200, `{"status":5}`, pubsub.Ack},
		"Array":          {200, `[]`, pubsub.Ack},
		"Retry":          {200, `{"status":"RETRY"}`, pubsub.Nak},
		"RetryUpperKey":  {200, `{"Status":"RETRY"}`, pubsub.Nak},
		"RetryAndMore":   {200, `{"status":"RETRY"} trailing`, pubsub.Nak},
		"Drop":           {200, `{"status":"DROP"}`, pubsub.Drop},
		"Unknown":        {200, `{"status":"success"}`, pubsub.Nak},
		"NotFound":       {404, "", pubsub.Drop},
		"Redirect":       {302, "", pubsub.Nak},
		"BadRequest":     {400, "", pubsub.Nak},
		"ServerError":    {500, `{"status":"SUCCESS"}`, pubsub.Nak},
		"TooLargeAnswer": {200, `{"status":"` + strings.Repeat("x", 2000) + `"}`, pubsub.Ack},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}), app.Config{MaxBodySize: 1000})
			if got, err := c.Deliver(t.Context(), delivery()); got != tc.want || err != nil {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

// request is what the application saw.
type request struct {
	method, uri, host string
	header            http.Header
	body              string
}

func record(t *testing.T, cfg app.Config) (*app.Channel, func() request) {
	seen := make(chan request, 16)
	c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		seen <- request{r.Method, r.RequestURI, r.Host, r.Header, string(body)}
	}), cfg)
	return c, func() request { return <-seen }
}

func TestChannel_Deliver_Request(t *testing.T) {
	c, seen := record(t, app.Config{Token: "secret"})
	d := delivery()
	d.Metadata = map[string]string{
		"pubsubName": "other", "Content-Type": "x/y", "content-length": "7", "Foo": "bar", "grpc-x": "y", "a b": "c", "bin-bin": "x",
		"newline": "a\nb", "connection": "close", "dapr-api-token": "forged", "host": "h", "transfer-encoding": "chunked",
	}
	if v, err := c.Deliver(t.Context(), d); v != pubsub.Ack || err != nil {
		t.Fatal(v, err)
	}
	got := seen()
	if got.method != "POST" || got.uri != "/orders" || got.body != envelope || got.host != "localhost" {
		t.Errorf("got %s %s %s %s", got.method, got.uri, got.host, got.body)
	}
	want := http.Header{
		"Content-Type": {"application/cloudevents+json"}, "Content-Length": {fmt.Sprint(len(envelope))}, "User-Agent": {"edged"},
		"Pubsubname": {"pubsub"}, "Foo": {"bar"}, "Dapr-Grpc-X": {"y"}, "Dapr-Api-Token": {"secret"},
		"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, "Tracestate": {"a=b"}, "Baggage": {"k=v"},
	}
	if fmt.Sprint(got.header) != fmt.Sprint(want) {
		t.Errorf("header\n got %v\nwant %v", got.header, want)
	}

	t.Run("TraceOfMetadata", func(t *testing.T) {
		d := delivery()
		d.Metadata = map[string]string{"traceparent": "00-00000000000000000000000000000000-0000000000000000-00"}
		if v, err := c.Deliver(t.Context(), d); v != pubsub.Ack || err != nil {
			t.Fatal(v, err)
		}
		h := seen().header
		if h.Get("Traceparent") != "00-00000000000000000000000000000000-0000000000000000-00" || h.Get("Tracestate") != "" {
			t.Errorf("got %v", h)
		}
	})
	t.Run("TraceOfDelivery", func(t *testing.T) {
		d := delivery()
		d.ID, d.TraceParent, d.TraceState = "e1", "tp", "ts"
		if v, err := c.Deliver(t.Context(), d); v != pubsub.Ack || err != nil {
			t.Fatal(v, err)
		}
		if h := seen().header; h.Get("Traceparent") != "tp" || h.Get("Tracestate") != "ts" {
			t.Errorf("got %v", h)
		}
	})
	t.Run("Raw", func(t *testing.T) {
		d := delivery()
		d.Raw, d.Envelope = true, []byte{0, 1, 2, '"'}
		d.Metadata = map[string]string{"traceparent": "tp", "tracestate": "ts"}
		if v, err := c.Deliver(t.Context(), d); v != pubsub.Ack || err != nil {
			t.Fatal(v, err)
		}
		var ce map[string]string
		if err := json.Unmarshal([]byte(seen().body), &ce); err != nil {
			t.Fatal(err)
		}
		if len(ce["id"]) != 36 {
			t.Errorf("id %q", ce["id"])
		}
		delete(ce, "id")
		want := map[string]string{
			"data_base64": "AAECIg==", "datacontenttype": "application/octet-stream", "pubsubname": "pubsub", "source": "Dapr",
			"specversion": "1.0", "topic": "new-order", "traceid": "tp", "traceparent": "tp", "tracestate": "ts", "type": "com.dapr.event.sent",
		}
		if fmt.Sprint(ce) != fmt.Sprint(want) {
			t.Errorf("got %v", ce)
		}
	})
	t.Run("Paths", func(t *testing.T) {
		for route, uri := range map[string]string{
			"orders": "/orders", "/a/b": "/a/b", "/a/b/": "/a/b", "": "/", "/": "/", "//a//b": "/a/b", "/../a": "/a", "/a/../../b": "/b",
			"/a b": "/a%20b", "/a?b=c": "/a?b=c", "/é": "/%C3%A9", "/a%20b": "/a%20b", "/a#b": "/a", "/a?b c": "/a?b%20c", "/a/.b": "/a/.b", "/a.b": "/a.b",
		} {
			d := delivery()
			d.Path = route
			if v, err := c.Deliver(t.Context(), d); v != pubsub.Ack || err != nil {
				t.Fatal(route, v, err)
			}
			if got := seen().uri; got != uri {
				t.Errorf("%s: got %s, want %s", route, got, uri)
			}
		}
		d := delivery()
		d.Path = "/%zz"
		if v, err := c.Deliver(t.Context(), d); v != pubsub.Nak || err != nil {
			t.Error(v, err)
		}
	})
}

func TestChannel_Deliver_NoAnswer(t *testing.T) {
	t.Run("Refused", func(t *testing.T) {
		c := open(t, app.Config{Address: "unix://" + filepath.Join(t.TempDir(), "none.sock")})
		if _, err := c.Deliver(t.Context(), delivery()); !errors.Is(err, app.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
	crash := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}), app.Config{})
	t.Run("HangsUp", func(t *testing.T) {
		if v, err := crash.Deliver(t.Context(), delivery()); v != pubsub.Nak || err != nil {
			t.Errorf("got %v %v", v, err)
		}
	})
	wait := delivery()
	wait.Path = "/wait"
	t.Run("HalfAnAnswer", func(t *testing.T) {
		for body, want := range map[string]pubsub.Verdict{`{"sta`: pubsub.Nak, ``: pubsub.Nak, `{"status":"DROP"}`: pubsub.Drop} {
			c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "99")
				_, _ = io.WriteString(w, body)
			}), app.Config{})
			if v, err := c.Deliver(t.Context(), delivery()); v != want || err != nil {
				t.Errorf("%s: got %v %v", body, v, err)
			}
		}
	})
	t.Run("Deadline", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if v, err := crash.Deliver(ctx, wait); v != pubsub.Nak || err != nil {
			t.Errorf("got %v %v", v, err)
		}
	})
	t.Run("Cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		if _, err := crash.Deliver(ctx, wait); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("Closed", func(t *testing.T) {
		if err := crash.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := crash.Deliver(t.Context(), delivery()); !errors.Is(err, app.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}

func TestChannel_Deliver_Protocols(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != envelope || r.Header.Get("Dapr-Api-Token") != "secret" {
			t.Errorf("got %v %s", r.Header, body)
		}
		fmt.Fprintf(w, `{"status":"%s"}`, map[int]string{1: "RETRY", 2: "DROP"}[r.ProtoMajor])
	})
	for _, tc := range []struct {
		protocol app.Protocol
		want     pubsub.Verdict
	}{{app.HTTPS, pubsub.Nak}, {app.H2C, pubsub.Drop}} {
		t.Run(string(tc.protocol), func(t *testing.T) {
			addr := serveProtocol(t, tc.protocol, h)
			c := open(t, app.Config{Address: addr, Protocol: tc.protocol, Token: "secret"})
			if err := c.WaitReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			if v, err := c.Deliver(t.Context(), delivery()); v != tc.want || err != nil {
				t.Errorf("got %v %v", v, err)
			}
			dead := open(t, app.Config{Address: "127.0.0.1:1", Protocol: tc.protocol})
			if _, err := dead.Deliver(t.Context(), delivery()); !errors.Is(err, app.ErrUnreachable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestChannel_DeliverBulk(t *testing.T) {
	batch := pubsub.BulkDelivery{
		ID: "b1", PubSub: "pubsub", Topic: "new-order", Path: "/bulk", Metadata: map[string]string{"traceparent": "tp", "k": "v"},
		Entries: []pubsub.Delivery{
			{EntryID: "1", Envelope: []byte(envelope), Metadata: map[string]string{"m": "n\n"}},
			{EntryID: "2", Envelope: []byte("raw"), Raw: true},
			{EntryID: "3", Envelope: []byte("{broken")},
			{EntryID: "4", Envelope: []byte(`{"id":"x"}`), ContentType: "a/b"},
			{EntryID: "5", Envelope: []byte(`{}`)},
			{EntryID: "6", Envelope: []byte(`{}`)},
			{EntryID: "7", Envelope: []byte(`{}`)},
		},
	}
	answer := `{"statuses":[{"entryId":"1","status":"SUCCESS"},{"entryId":"2","status":"DROP"},{"entryId":"3","status":"SUCCESS"},
		{"entryId":"4","status":"RETRY"},{"entryId":"5","status":""},{"entryId":"6","status":"what"},{"entryId":"99","status":"SUCCESS"}]}`
	n := pubsub.Nak
	for name, tc := range map[string]struct {
		status int
		body   string
		want   []pubsub.Verdict
	}{
		"OK":       {200, answer, []pubsub.Verdict{pubsub.Ack, pubsub.Drop, n, n, n, n, n}},
		"Empty":    {200, "", []pubsub.Verdict{n, n, n, n, n, n, n}},
		"NotJSON":  {200, "OK", []pubsub.Verdict{n, n, n, n, n, n, n}},
		"NotFound": {404, answer, []pubsub.Verdict{pubsub.Drop, pubsub.Drop, n, pubsub.Drop, pubsub.Drop, pubsub.Drop, pubsub.Drop}},
		"Error":    {500, answer, []pubsub.Verdict{n, n, n, n, n, n, n}},
	} {
		t.Run(name, func(t *testing.T) {
			var body []byte
			var header http.Header
			c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ = io.ReadAll(r.Body)
				header = r.Header
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}), app.Config{})
			got, err := c.DeliverBulk(t.Context(), batch)
			if err != nil || !slices.Equal(got, tc.want) {
				t.Errorf("got %v %v", got, err)
			}
			if header.Get("Content-Type") != "application/json" || header.Get("Traceparent") != "tp" || header.Get("K") != "v" {
				t.Errorf("header %v", header)
			}
			var sent, want any
			if err := json.Unmarshal(body, &sent); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			wantJSON := `{"id":"b1","type":"com.dapr.event.sent.bulk","topic":"new-order","pubsubname":"pubsub",
				"metadata":{"pubsubName":"pubsub","traceparent":"tp","k":"v"},"entries":[
				{"entryId":"1","event":` + envelope + `,"metadata":{"m":"n\n"},"contentType":"application/cloudevents+json"},
				{"entryId":"2","event":"cmF3","metadata":{},"contentType":"application/octet-stream"},
				{"entryId":"4","event":{"id":"x"},"metadata":{},"contentType":"a/b"},
				{"entryId":"5","event":{},"metadata":{},"contentType":"application/cloudevents+json"},
				{"entryId":"6","event":{},"metadata":{},"contentType":"application/cloudevents+json"},
				{"entryId":"7","event":{},"metadata":{},"contentType":"application/cloudevents+json"}]}`
			if err := json.Unmarshal([]byte(wantJSON), &want); err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(sent) != fmt.Sprint(want) {
				t.Errorf("got  %v\nwant %v", sent, want)
			}
		})
	}
	t.Run("Refused", func(t *testing.T) {
		c := open(t, app.Config{Address: "unix://" + filepath.Join(t.TempDir(), "none.sock")})
		if _, err := c.DeliverBulk(t.Context(), batch); !errors.Is(err, app.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
}

func TestChannel_Subscriptions(t *testing.T) {
	body := `[
		{"pubsubname":"p","topic":"a","route":"/a","metadata":{"rawPayload":"true"},"deadLetterTopic":"dead"},
		{"pubsubname":"p","topic":"b","routes":{"rules":[{"match":" event.type == \"x\" ","path":"/x"},{"match":"","path":"/y"}],"default":"/d"},
		 "bulkSubscribe":{"enabled":true,"maxMessagesCount":10,"maxAwaitDurationMs":20}},
		{"pubsubname":"p","topic":"none"},
		{"pubsubname":"p","topic":"both","route":"/r","routes":{"default":"/d"}}]`
	want := []pubsub.Spec{
		{PubSub: "p", Topic: "a", Kind: pubsub.Programmatic, Rules: []pubsub.Rule{{Path: "/a"}}, DeadLetterTopic: "dead",
			Metadata: map[string]string{"rawPayload": "true"}},
		{PubSub: "p", Topic: "b", Kind: pubsub.Programmatic,
			Rules: []pubsub.Rule{{Match: `event.type == "x"`, Path: "/x"}, {Path: "/y"}, {Path: "/d"}},
			Bulk:  pubsub.BulkSubscribe{Enabled: true, MaxMessagesCount: 10, MaxAwaitDurationMs: 20}},
		{PubSub: "p", Topic: "both", Kind: pubsub.Programmatic, Rules: []pubsub.Rule{{Path: "/d"}}},
	}
	for name, tc := range map[string]struct {
		status int
		body   string
		want   []pubsub.Spec
	}{
		"OK":        {200, body, want},
		"Empty":     {200, "", nil},
		"NotFound":  {404, "", nil},
		"Forbidden": {403, "", nil},
		"NotJSON":   {200, "hello", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got request
			c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = request{method: r.Method, uri: r.RequestURI, header: r.Header}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}), app.Config{Token: "secret"})
			specs, err := c.Subscriptions(t.Context())
			if err != nil || fmt.Sprintf("%+v", specs) != fmt.Sprintf("%+v", tc.want) && len(specs)+len(tc.want) > 0 {
				t.Errorf("got %+v, %v", specs, err)
			}
			if got.method != "GET" || got.uri != "/dapr/subscribe" || got.header.Get("Dapr-App-Id") != "orders" || got.header.Get("Dapr-Api-Token") != "secret" {
				t.Errorf("asked %+v", got)
			}
		})
	}
	t.Run("SecondTry", func(t *testing.T) {
		var n atomic.Int64
		c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				w.WriteHeader(503)
				return
			}
			_, _ = io.WriteString(w, `[{"pubsubname":"p","topic":"a","route":"/a"}]`)
		}), app.Config{})
		if specs, err := c.Subscriptions(t.Context()); len(specs) != 1 || err != nil {
			t.Errorf("got %v %v", specs, err)
		}
	})
	t.Run("Unreachable", func(t *testing.T) {
		c := open(t, app.Config{Address: "127.0.0.1:1"})
		if _, err := c.Subscriptions(t.Context()); !errors.Is(err, app.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("Cancelled", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }), app.Config{})
		if _, err := c.Subscriptions(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestChannel_Hosting(t *testing.T) {
	status, body := 200, `{"entities":["cart"],"actorIdleTimeout":"1h","reentrancy":{"enabled":true,"maxStackDepth":5},"drainRebalancedActors":true,
		"entitiesConfig":[{"entities":["order"],"actorIdleTimeout":"10s"}]}`
	c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/dapr/config" {
			t.Error(r.URL)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}), app.Config{})
	cfg, err := c.Hosting(t.Context())
	if err != nil || cfg.Entities[0] != "cart" || cfg.ActorIdleTimeout != "1h" || *cfg.Reentrancy.MaxStackDepth != 5 ||
		!*cfg.DrainRebalancedActors || cfg.EntitiesConfig[0].ActorIdleTimeout != "10s" {
		t.Errorf("got %+v %v", cfg, err)
	}
	if status = 404; true {
		if cfg, err := c.Hosting(t.Context()); err != nil || cfg.Entities != nil {
			t.Errorf("got %+v %v", cfg, err)
		}
	}
	if status, body = 200, "x"; true {
		if _, err := c.Hosting(t.Context()); err == nil {
			t.Error("accepted")
		}
	}
}

func TestChannel_MaxConcurrency(t *testing.T) {
	var now, most atomic.Int64
	release := make(chan struct{})
	c := serveApp(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		now.Add(-1)
	}), app.Config{MaxConcurrency: 2})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if v, err := c.Deliver(t.Context(), delivery()); v != pubsub.Ack || err != nil {
				t.Error(v, err)
			}
		})
	}
	eventually(t, "two calls", func() bool { return now.Load() == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Deliver(ctx, delivery()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	close(release)
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d calls at once", most.Load())
	}
}

func TestChannel_Close_Drains(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	c := serveApp(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	}), app.Config{})
	verdict := make(chan pubsub.Verdict)
	go func() {
		v, err := c.Deliver(context.Background(), delivery())
		if err != nil {
			t.Error(err)
		}
		verdict <- v
	}()
	<-entered
	closed := make(chan error)
	go func() { closed <- c.Close() }()
	eventually(t, "refusing calls", func() bool {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := c.Deliver(ctx, delivery())
		return errors.Is(err, app.ErrClosed)
	})
	select {
	case <-closed:
		t.Fatal("closed before the call ended")
	default:
	}
	close(release)
	if v := <-verdict; v != pubsub.Ack {
		t.Error(v)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestChannel_Invoke(t *testing.T) {
	c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Answer", r.Header.Get("X-Ask"))
		w.Header().Set("Keep-Alive", "1")
		w.WriteHeader(418)
		fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.RequestURI, body, r.Header.Get("Dapr-Api-Token"), r.Header.Get("X-Hop"))
	}), app.Config{Token: "secret"})
	resp, err := c.Invoke(t.Context(), invoke.Request{
		Verb: "PUT", Path: "a/b%2Fc", Query: "q=1", Header: map[string][]string{"x-ask": {"7"}, "Connection": {"x-hop"}, "X-Hop": {"no"}},
		Body: strings.NewReader("hello"), Length: 5,
	})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Body.Close() != nil || resp.Body.Close() != nil {
		t.Fatal(err)
	}
	if resp.Status != 418 || string(body) != "PUT /a/b%2Fc?q=1 hello secret " || http.Header(resp.Header).Get("X-Answer") != "7" ||
		http.Header(resp.Header).Get("Keep-Alive") != "" {
		t.Errorf("got %d %s %v", resp.Status, body, resp.Header)
	}
}
