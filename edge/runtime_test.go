package edge_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/edge"
)

// wallClock is a clock that tests set and that goes on by itself from there.
type wallClock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *wallClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Without its monotonic part, which would be shifted too and make a step look like time that has passed.
	return time.Now().Add(c.offset).Round(0)
}

func (c *wallClock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset = time.Until(t)
}

// startRuntime opens and runs a Runtime as the program does, with one application that listens on app.
func startRuntime(t *testing.T, folder string, clock func() time.Time, app string, resources ...string) (client *http.Client, stop func()) {
	t.Helper()
	cfg := edge.DefaultConfig()
	cfg.Device, cfg.Data, cfg.Run = "test", filepath.Join(folder, "data"), filepath.Join(folder, "run")
	cfg.Health.Interval, cfg.Resources = 0, resources
	cfg.Apps = []edge.AppConfig{{ID: "app", Channel: edge.ChannelConfig{Address: app, Protocol: "http"}}}
	rt, err := edge.Open(t.Context(), cfg, edge.Options{Log: slog.New(slog.DiscardHandler), Version: "0.0.0-test", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := rt.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(stop)
	socket := filepath.Join(cfg.Run, "app.sock")
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}, stop
}

func request(t *testing.T, c *http.Client, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://edged"+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// fakeApp subscribes to the topic numbers and sends what arrives.
func fakeApp(t *testing.T) (address string, got chan string) {
	t.Helper()
	got = make(chan string, 100)
	path := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"pubsubname":"pubsub","topic":"numbers","route":"/numbers"}]`)
	})
	mux.HandleFunc("POST /numbers", func(_ http.ResponseWriter, r *http.Request) {
		var e struct{ Data json.RawMessage }
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Errorf("decode event: %v", err)
		}
		got <- string(e.Data)
	})
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = s.Serve(l) }() // ends with Close
	t.Cleanup(func() { s.Close() })
	return "unix://" + path, got
}

// TestRuntime_ClockAt1970 starts with nothing around and a clock at the epoch, and then sets the clock right: every local
// call works at once, and nothing that was kept before is taken for 56 years old.
func TestRuntime_ClockAt1970(t *testing.T) {
	folder := t.TempDir()
	clock := &wallClock{}
	clock.set(time.Unix(12, 0))
	address, got := fakeApp(t)
	c, stop := startRuntime(t, folder, clock.now, address)
	if status, body := request(t, c, "POST", "/v1.0/state/statestore", `[{"key":"a","value":1,"metadata":{"ttlInSeconds":"3600"}},{"key":"b","value":2}]`); status != 204 {
		t.Fatalf("save: %d %s", status, body)
	}
	if status, body := request(t, c, "POST", "/v1.0/publish/pubsub/later", `{"n":0}`); status != 204 { // nobody has it yet
		t.Fatalf("publish: %d %s", status, body)
	}
	if status, body := request(t, c, "POST", "/v1.0/publish/pubsub/numbers", `1`); status != 204 {
		t.Fatalf("publish: %d %s", status, body)
	}
	expect(t, got, "1")

	clock.set(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)) // the network came, and with it the time
	if status, body := request(t, c, "GET", "/v1.0/state/statestore/a", ""); status != 200 || body != "1" {
		t.Errorf("a value with an hour to live, after the clock was set: %d %s", status, body)
	}
	if status, body := request(t, c, "POST", "/v1.0/publish/pubsub/numbers", `2`); status != 204 {
		t.Fatalf("publish: %d %s", status, body)
	}
	expect(t, got, "2")
	stop()

	c, stop = startRuntime(t, folder, clock.now, address)
	defer stop()
	if status, body := request(t, c, "GET", "/v1.0/state/statestore/a", ""); status != 200 || body != "1" {
		t.Errorf("the same after a restart: %d %s", status, body)
	}
	clock.set(time.Unix(60, 0)) // and back again
	if status, body := request(t, c, "POST", "/v1.0/publish/pubsub/numbers", `3`); status != 204 {
		t.Fatalf("publish: %d %s", status, body)
	}
	expect(t, got, "3")
	if status, body := request(t, c, "GET", "/v1.0/state/statestore/b", ""); status != 200 || body != "2" {
		t.Errorf("state after the clock went back: %d %s", status, body)
	}
}

func expect(t *testing.T, got <-chan string, want string) {
	t.Helper()
	select {
	case v := <-got:
		if v != want {
			t.Errorf("delivered %s, want %s", v, want)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s was not delivered", want)
	}
}

// TestRuntime_OpenReleasesWhatItTook opens with a port that is taken, and again when it is free.
func TestRuntime_OpenReleasesWhatItTook(t *testing.T) {
	folder := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := edge.DefaultConfig()
	cfg.Device, cfg.Data, cfg.Run = "test", filepath.Join(folder, "data"), filepath.Join(folder, "run")
	cfg.Apps = []edge.AppConfig{{ID: "one"}, {ID: "two", Listen: edge.ListenConfig{HTTP: l.Addr().String()}}}
	if _, err := edge.Open(t.Context(), cfg, edge.Options{}); err == nil {
		t.Fatal("a taken port gave no error")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	rt, err := edge.Open(t.Context(), cfg, edge.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Close(); err != nil {
		t.Error(err)
	}
	if err := rt.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}
