package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// tally counts numbered events in one place. It is safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	seen  map[int]int // number -> how often
	bad   int         // what was no numbered event
	order bool        // whether each number's first appearance came after all smaller ones
	last  int
}

func newTally() *tally { return &tally{seen: map[int]int{}, order: true} }

func (t *tally) add(number int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen[number]++
	if t.seen[number] == 1 {
		t.order = t.order && number > t.last
		t.last = number
	}
}

// addEvent counts a CloudEvent whose data has a number.
func (t *tally) addEvent(body []byte) {
	var e struct {
		Data struct{ Number int } `json:"data"`
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Data.Number == 0 {
		t.mu.Lock()
		t.bad++
		t.mu.Unlock()
		return
	}
	t.add(e.Data.Number)
}

// column is a tally against what was published.
type column struct {
	place                    string
	events, duplicates, lost int
	ordered                  bool
	foreign                  int // numbers nobody published, or events without one
}

func (t *tally) column(place string, published int) column {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := column{place: place, ordered: t.order, foreign: t.bad}
	for n, times := range t.seen {
		if n < 1 || n > published {
			c.foreign++
			continue
		}
		c.events++
		c.duplicates += times - 1
	}
	c.lost = published - c.events
	return c
}

type ledger struct {
	report   report
	columns  []column
	local    string // the aggregate in edged's state
	upstream string // the same key in the hub
}

func (s *stage) ledger(ctx context.Context, r report) (ledger, error) {
	l := ledger{report: r}
	delivered, err := readNumbers(s.file("delivered"))
	if err != nil {
		return l, err
	}
	hub, err := s.readHub(ctx)
	if err != nil {
		return l, err
	}
	l.columns = []column{
		delivered.column("delivered locally", r.Published),
		s.inMosquitto.column("in mosquitto", r.Published),
		hub.column("in the hub", r.Published),
	}
	if l.local, err = s.localState(ctx); err != nil {
		return l, err
	}
	l.upstream, err = s.hubState(ctx)
	return l, err
}

func (l ledger) print(w io.Writer) {
	fmt.Fprintf(w, "\n%-20s %8s %6s %11s %8s\n", "", "events", "lost", "duplicates", "ordered")
	fmt.Fprintf(w, "%-20s %8d %6s %11s %8s   (%d tries were repeated)\n", "published", l.report.Published, "", "", "", l.report.Retries)
	for _, c := range l.columns {
		fmt.Fprintf(w, "%-20s %8d %6d %11d %8t\n", c.place, c.events, c.lost, c.duplicates, c.ordered)
	}
	fmt.Fprintf(w, "state on the device  %s\nstate in the hub     %s\n", l.local, l.upstream)
	if err := l.check(); err != nil {
		fmt.Fprintln(w, "THE LEDGER DOES NOT BALANCE:", err)
		return
	}
	fmt.Fprintln(w, "the ledger balances: nothing is lost, and both sides hold the same state")
}

func (l ledger) check() error {
	var errs []error
	for _, c := range l.columns {
		if c.lost != 0 || c.foreign != 0 {
			errs = append(errs, fmt.Errorf("%s: %d lost, %d that nobody published", c.place, c.lost, c.foreign))
		}
	}
	if l.report.Published == 0 {
		errs = append(errs, errors.New("nothing was published"))
	}
	if l.local == "" || l.local != l.upstream {
		errs = append(errs, errors.New("the state differs"))
	}
	return errors.Join(errs...)
}

func readNumbers(file string) (*tally, error) {
	t := newTally()
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	for line := range bytes.Lines(b) {
		n, perr := strconv.Atoi(string(bytes.TrimSpace(line)))
		if perr == nil {
			t.add(n)
		}
	}
	return t, err
}

// readHub counts what the hub's stream holds, in its order.
func (s *stage) readHub(ctx context.Context) (*tally, error) {
	t := newTally()
	js, err := jetstream.New(s.hub)
	if err != nil {
		return t, err
	}
	stream, err := js.Stream(ctx, "EDGED_EV")
	if err != nil {
		return t, err
	}
	c, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"ev." + device + ".sensors.>"}})
	if err != nil {
		return t, err
	}
	for {
		batch, err := c.FetchNoWait(1000)
		if err != nil {
			return t, err
		}
		n := 0
		for m := range batch.Messages() {
			t.addEvent(m.Data())
			n++
		}
		if n == 0 {
			return t, batch.Error()
		}
	}
}

func (s *stage) localState(ctx context.Context) (string, error) {
	b, err := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/v1.0/state/statestore/aggregate", s.ports.http))
	return string(b), err
}

func (s *stage) hubState(ctx context.Context) (string, error) {
	js, err := jetstream.New(s.hub)
	if err != nil {
		return "", err
	}
	stream, err := js.Stream(ctx, "KV_edged")
	if err != nil {
		return "", err
	}
	m, err := stream.GetLastMsgForSubject(ctx, "$KV.edged."+device+".aggregator.aggregate")
	if errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, nats.ErrTimeout) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(m.Data), nil
}

func lastLine(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return lines[len(lines)-1], err
}

const requestTimeout = 5 * time.Second

func get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return b, errors.Join(err, resp.Body.Close())
}
