package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/store"
)

// TestTorture kills edged with SIGKILL under random load, again and again, and counts what was lost, invented, reordered
// or taken back. EDGED_TORTURE_CYCLES is how often (default 20; `make torture` runs 200).
func TestTorture(t *testing.T) {
	cycles := 20
	if n, err := strconv.Atoi(os.Getenv("EDGED_TORTURE_CYCLES")); err == nil {
		cycles = n
	}
	seed := rand.Uint64()
	t.Logf("seed %d, %d cycles", seed, cycles)
	random := rand.New(rand.NewPCG(seed, 1))

	const workers = 8
	sub := newRecorder(t, workers)
	d := newDevice(t, fmt.Sprintf("apps:\n  - id: app\n    channel: {address: \"unix://%s\", protocol: http}\n", sub.socket), `topics:
  - {match: "odd/#", maxBytes: 512MiB, maxAge: 24h, whenFull: reject}
  - {match: "#", maxBytes: 512MiB, maxAge: 24h, whenFull: reject}
`)
	load := make([]*loader, workers)
	for i := range load {
		load[i] = &loader{id: i, topic: topicOf(i)}
	}
	for range cycles {
		d.start("app")
		client := unixClient(d.socket("app"))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, l := range load {
			wg.Go(func() { l.run(ctx, t, client) })
		}
		// The moment of the kill is the point of this test, so a random time it is.
		timer := time.NewTimer(time.Duration(20+random.IntN(280)) * time.Millisecond)
		<-timer.C
		d.kill()
		cancel()
		wg.Wait()
		client.CloseIdleConnections()
	}
	d.start("app")
	client := unixClient(d.socket("app"))
	for _, l := range load {
		l.checkState(t, client)
	}
	d.eventually(120*time.Second, "all acknowledged events are delivered", func() error { return sub.missing(load) })
	d.stop()
	sub.report(t, load)
	checkDatabase(t, filepath.Join(d.folder, "data"))
}

func topicOf(worker int) string {
	return [...]string{"even", "odd"}[worker%2] + "/" + strconv.Itoa(worker)
}

// loader is one client: it publishes numbers to its own topic and counts up a key of its own, with ETags.
type loader struct {
	id    int
	topic string

	tried, acked   int // events; every acked number is in ackedSet
	ackedSet       []int
	value, certain int // state: last tried and last acknowledged
	etag           string
	etagSeen       uint64
}

func (l *loader) run(ctx context.Context, t *testing.T, c *http.Client) {
	if !l.checkState(t, c) {
		return
	}
	for ctx.Err() == nil {
		l.tried++
		status, _, body, err := call(ctx, c, http.MethodPost, "/v1.0/publish/pubsub/"+l.topic, "application/json",
			fmt.Appendf(nil, `{"n":%d,"pad":%q}`, l.tried, strings.Repeat("x", rand.IntN(400))))
		switch {
		case err != nil:
			return // killed: whether the event was kept is not known
		case status == http.StatusNoContent:
			l.acked++
			l.ackedSet = append(l.ackedSet, l.tried)
		default:
			t.Errorf("publish %d to %s: %d %s", l.tried, l.topic, status, body)
			return
		}
		if !l.save(ctx, t, c) {
			return
		}
	}
}

// save writes the next value under the ETag of the last one.
func (l *loader) save(ctx context.Context, t *testing.T, c *http.Client) bool {
	l.value++
	write := map[string]any{"key": l.key(), "value": l.value, "options": map[string]string{"concurrency": "first-write"}}
	if l.etag != "" {
		write["etag"] = l.etag
	}
	b, err := json.Marshal([]any{write})
	if err != nil {
		t.Error(err)
		return false
	}
	status, _, body, err := call(ctx, c, http.MethodPost, "/v1.0/state/statestore", "application/json", b)
	if err != nil {
		return false
	}
	if status != http.StatusNoContent {
		t.Errorf("save %s=%d with etag %q: %d %s", l.key(), l.value, l.etag, status, body)
		return false
	}
	l.certain = l.value
	return l.read(t, c)
}

// checkState compares what a restarted edged holds with what was acknowledged: never less, never more than was tried.
func (l *loader) checkState(t *testing.T, c *http.Client) bool { return l.read(t, c) }

func (l *loader) read(t *testing.T, c *http.Client) bool {
	status, header, body, err := call(context.WithoutCancel(t.Context()), c, http.MethodGet, "/v1.0/state/statestore/"+l.key(), "", nil)
	if err != nil {
		return false // killed again
	}
	got := 0
	if status == http.StatusOK {
		if got, err = strconv.Atoi(string(body)); err != nil {
			t.Errorf("state of %s is %q", l.key(), body)
			return false
		}
	} else if status != http.StatusNoContent {
		t.Errorf("read %s: %d %s", l.key(), status, body)
		return false
	}
	if got < l.certain || got > l.value {
		t.Errorf("LOST STATE: %s is %d; %d was acknowledged, %d was tried", l.key(), got, l.certain, l.value)
	}
	l.certain, l.value, l.etag = got, got, header.Get("ETag")
	if revision, err := strconv.ParseUint(l.etag, 10, 64); err == nil {
		if revision < l.etagSeen {
			t.Errorf("ETAG WENT BACK: %s had %d and has %d", l.key(), l.etagSeen, revision)
		}
		l.etagSeen = revision
	} else if got > 0 {
		t.Errorf("etag of %s is %q", l.key(), l.etag)
	}
	return true
}

func (l *loader) key() string { return "counter-" + strconv.Itoa(l.id) }

// recorder is the application: it subscribes to every worker's topic and writes down what comes.
type recorder struct {
	socket string
	mu     sync.Mutex
	seen   map[string][]int // topic -> numbers in order of arrival
	random *rand.Rand
	naks   int
}

func newRecorder(t *testing.T, workers int) *recorder {
	t.Helper()
	dir, err := os.MkdirTemp("", "recorder-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &recorder{socket: filepath.Join(dir, "app.sock"), seen: map[string][]int{}, random: rand.New(rand.NewPCG(7, 7))}
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	var subscriptions []map[string]string
	for i := range workers {
		subscriptions = append(subscriptions, map[string]string{"pubsubname": "pubsub", "topic": topicOf(i), "route": "/event"})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(subscriptions) // edged may have been killed while asking
	})
	mux.HandleFunc("POST /event", func(w http.ResponseWriter, req *http.Request) {
		var e struct {
			Topic string `json:"topic"`
			Data  struct {
				N int `json:"n"`
			} `json:"data"`
		}
		if err := json.NewDecoder(req.Body).Decode(&e); err != nil {
			return // cut in the middle by a kill
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.random.IntN(500) == 0 { // now and then the application asks for the event again
			r.naks++
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		r.seen[e.Topic] = append(r.seen[e.Topic], e.Data.N)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	t.Cleanup(func() { server.Close() })
	return r
}

// missing says which acknowledged events have not come yet.
func (r *recorder) missing(load []*loader) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range load {
		got := map[int]bool{}
		for _, n := range r.seen[l.topic] {
			got[n] = true
		}
		for _, n := range l.ackedSet {
			if !got[n] {
				return fmt.Errorf("LOST EVENT: %s number %d was acknowledged and not delivered", l.topic, n)
			}
		}
	}
	return nil
}

// report counts duplicates and wants that nothing was invented, and order among first deliveries: a number may come late
// only if the application refused it before.
func (r *recorder) report(t *testing.T, load []*loader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	acked, delivered, duplicates, late := 0, 0, 0, 0
	for _, l := range load {
		acked += l.acked
		first, highest := map[int]bool{}, 0
		for _, n := range r.seen[l.topic] {
			delivered++
			switch {
			case n < 1 || n > l.tried:
				t.Errorf("INVENTED: %s number %d, of %d tried", l.topic, n, l.tried)
			case first[n]:
				duplicates++
			case n < highest:
				late++
			}
			first[n] = true
			highest = max(highest, n)
		}
	}
	if late > r.naks {
		t.Errorf("REORDERED: %d events came late for the first time, and only %d were refused", late, r.naks)
	}
	t.Logf("%d events acknowledged, 0 lost; %d deliveries, %d duplicates, %d refused by the application, %d late", acked, delivered, duplicates, r.naks, late)
}

// checkDatabase opens the data folder and runs the database's own check.
func checkDatabase(t *testing.T, folder string) {
	t.Helper()
	s, err := store.Open(folder, store.Options{})
	if err != nil {
		t.Fatalf("open after the torture: %v", err)
	}
	defer s.Close()
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("database check: %v", err)
	}
	if q := s.Quarantined(); len(q) != 0 {
		t.Errorf("quarantined: %v", q)
	}
}
