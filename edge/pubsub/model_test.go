package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// TestJournalBroker_Model plays random publishers, verdicts, unreachable receivers, closes and crashes, and checks what
// the engine promises: every event is handled, in order within its topic and consumer except for those that were naked
// or offered again after a crash, and never after it was acked by a run whose cursor was kept.
func TestJournalBroker_Model(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playModel(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

type model struct {
	mu      sync.Mutex
	rnd     *rand.Rand
	run     int
	handled map[string]int // data -> run in which it got its final verdict
	naked   map[string]bool
	offered map[string]int // data -> run in which it was last offered
	newest  map[string]int // per topic, in this run
	away    bool
	errs    []error
}

func (m *model) handle(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away || m.rnd.IntN(20) == 0 {
		return nil, errors.New("away")
	}
	var out []pubsub.Verdict
	for _, e := range events {
		if m.rnd.IntN(40) == 0 {
			return out, errors.New("went away")
		}
		data := string(e.Data)
		n, _ := strconv.Atoi(data[len(e.Topic)+1:])
		if run, done := m.handled[data]; done && run == m.run {
			m.errs = append(m.errs, fmt.Errorf("%s was delivered again after its verdict", data))
		}
		if again := m.naked[data] || m.offered[data] > 0; !again && n <= m.newest[e.Topic] {
			m.errs = append(m.errs, fmt.Errorf("%s came after %d", data, m.newest[e.Topic]))
		}
		m.newest[e.Topic] = max(m.newest[e.Topic], n)
		m.offered[data] = m.run
		switch m.rnd.IntN(10) {
		case 0, 1:
			m.naked[data] = true
			out = append(out, pubsub.Nak)
		case 2:
			m.handled[data] = m.run
			out = append(out, pubsub.Drop)
		default:
			m.handled[data] = m.run
			out = append(out, pubsub.Ack)
		}
	}
	if len(out) > 0 && m.rnd.IntN(30) == 0 {
		panic("the handler is broken, and nothing of this counts")
	}
	return out, nil
}

// restore undoes what a panic made void: the model sees it as offered, not as handled.
func (m *model) wrapped(ctx context.Context, events []pubsub.Event) (v []pubsub.Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			m.mu.Lock()
			for _, e := range events {
				delete(m.handled, string(e.Data))
			}
			m.mu.Unlock()
			panic(p)
		}
	}()
	return m.handle(ctx, events)
}

func playModel(t *testing.T, rnd *rand.Rand) {
	m := &model{rnd: rand.New(rand.NewPCG(rnd.Uint64(), 2)), run: 1, handled: map[string]int{}, naked: map[string]bool{}, offered: map[string]int{}, newest: map[string]int{}}
	j := pubsub.NewMemoryJournal(pubsub.MemoryOptions{Contracts: []pubsub.Contract{{Match: "a/#"}, {Match: "#"}}})
	b := pubsub.NewBroker(j, pubsub.BrokerOptions{Log: quiet})
	c := pubsub.Consumer{Name: "c", Filter: "#", MaxBatch: 1 + rnd.IntN(8), MaxPending: 1 + rnd.IntN(6),
		Backoff: pubsub.Backoff{Min: time.Duration(1+rnd.IntN(500)) * time.Millisecond, Max: 2 * time.Second}}
	if rnd.IntN(3) == 0 {
		c.MaxWait = time.Duration(rnd.IntN(300)) * time.Millisecond
	}
	topics := []string{"a/x", "a/y", "b"}
	next := map[string]int{}
	kept := map[string]pubsub.Cursor{}
	s := subscribe(t, b, c, m.wrapped)
	for range 60 + rnd.IntN(60) {
		switch rnd.IntN(12) {
		case 0: // the receiver goes away or comes back
			m.mu.Lock()
			m.away = !m.away
			m.mu.Unlock()
		case 1: // an orderly restart: everything is kept
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			m.restart()
			s = subscribe(t, b, c, m.wrapped)
		case 2: // a crash: the cursors are those of an earlier moment
			crashed := j.Crash(func(lane, _ string, latest pubsub.Cursor) pubsub.Cursor {
				if old, ok := kept[lane]; ok && rnd.IntN(2) == 0 {
					return old
				}
				return latest
			})
			_ = b.Close()
			j, b = crashed, pubsub.NewBroker(crashed, pubsub.BrokerOptions{Log: quiet})
			m.restart()
			s = subscribe(t, b, c, m.wrapped)
		case 3: // a moment whose cursors a later crash may go back to
			j.Crash(func(lane, _ string, latest pubsub.Cursor) pubsub.Cursor { kept[lane] = latest; return latest })
		case 4, 5:
			time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		default:
			var events []pubsub.Event
			for range 1 + rnd.IntN(5) {
				topic := topics[rnd.IntN(len(topics))]
				next[topic]++
				events = append(events, pubsub.Event{Topic: topic, Data: fmt.Appendf(nil, "%s:%d", topic, next[topic])})
			}
			if err := b.Publish(t.Context(), events); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.mu.Lock()
	m.away = false
	m.mu.Unlock()
	time.Sleep(time.Hour)
	synctest.Wait()
	_ = b.Close()
	for topic, n := range next {
		for i := 1; i <= n; i++ {
			if data := fmt.Sprintf("%s:%d", topic, i); m.handled[data] == 0 {
				t.Errorf("%s was lost", data)
			}
		}
	}
	for _, err := range m.errs {
		t.Error(err)
	}
	for _, s := range b.Consumers() {
		if s.Pending != 0 || s.Lag != 0 {
			t.Errorf("not all done: %+v", s)
		}
	}
}

func (m *model) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.run++
	m.newest = map[string]int{}
}
