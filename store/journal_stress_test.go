package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

// accounting runs consumers of different speed on a lane that drops, and keeps the books.
type accounting struct {
	*testing.T
	r         *rand.Rand
	dir       string
	facts     *store.TestFacts
	log       *store.TestLog
	lane      pubsub.Lane
	accounts  map[string]*account
	published []pubsub.Event
	dropped   uint64 // counted by logs that were closed
}

// account is what one consumer got.
type account struct {
	filter string
	got    map[uint64]bool
	head   uint64
}

// TestEventLog_DropAccounting drops the oldest under consumers of different speed, with restarts: every event that a
// consumer did not get lies in a gap record, the counters agree with the records, and the bounds hold at each moment.
func TestEventLog_DropAccounting(t *testing.T) {
	for seed := range 12 {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			a := &accounting{
				T: t, r: rand.New(rand.NewPCG(uint64(seed), 3)), dir: t.TempDir(), facts: &store.TestFacts{},
				accounts: map[string]*account{
					"all": {filter: "#", got: map[uint64]bool{}}, "a": {filter: "a", got: map[uint64]bool{}},
					"slow": {filter: "b/+", got: map[uint64]bool{}},
				},
			}
			a.open()
			for range 600 {
				a.step()
				if s := a.lane.Stat(); s.Events > 40 || s.Bytes > 6000 {
					t.Fatalf("bounds exceeded: %+v", s)
				}
			}
			a.balance()
		})
	}
}

func (a *accounting) open() {
	a.log = store.OpenTestLog(a, a.dir, store.TestLogOptions{Facts: a.facts, SegmentSize: 700},
		pubsub.Contract{Match: "#", MaxEvents: 40, MaxBytes: 6000, WhenFull: pubsub.DropOldest})
	a.lane = a.log.Lanes("#")[0]
	for name, k := range a.accounts {
		c, err := a.lane.Attach(a.Context(), name, k.filter, pubsub.Oldest)
		if err != nil {
			a.Fatal(err)
		}
		k.head = c.Head
	}
}

func (a *accounting) step() {
	switch n := a.r.IntN(20); {
	case n < 12:
		topic := []string{"a", "b/1", "b/2", "c"}[a.r.IntN(4)]
		var events []pubsub.Event
		for range 1 + a.r.IntN(3) {
			events = append(events, event(topic, strings.Repeat("x", a.r.IntN(300))))
		}
		a.published = append(a.published, mustAppend(a, a.log, events...)...)
	case n < 19:
		name := []string{"all", "a", "a", "slow"}[a.r.IntN(4)]
		k := a.accounts[name]
		if a.lane.Stat().Last <= k.head {
			return
		}
		events, scanned, err := a.lane.Read(a.Context(), k.head, k.filter, 1+a.r.IntN(15))
		if err != nil {
			a.Fatal(err)
		}
		for _, e := range events {
			k.got[e.Sequence] = true
		}
		k.head = scanned
		a.lane.Commit(name, pubsub.Cursor{Head: scanned})
	default:
		a.count()
		if err := a.log.Close(); err != nil {
			a.Fatal(err)
		}
		a.open()
	}
}

func (a *accounting) count() {
	d := a.lane.Stat().Dropped
	a.dropped += d["events"] + d["bytes"]
}

// balance compares what consumers missed with the records and the counters.
func (a *accounting) balance() {
	a.count()
	first, gaps := a.lane.Stat().First, a.log.Gaps(1000)
	recorded, lost := uint64(0), uint64(0)
	for _, g := range gaps {
		recorded += g.Events
	}
	for _, e := range a.published {
		missed := false
		for _, k := range a.accounts {
			missed = missed || pubsub.MatchTopic(k.filter, e.Topic) && !k.got[e.Sequence] && (e.Sequence <= k.head || e.Sequence < first)
		}
		if !missed {
			continue
		}
		lost++
		if !slices.ContainsFunc(gaps, func(g pubsub.Gap) bool { return g.From <= e.Sequence && e.Sequence <= g.To }) {
			a.Fatalf("event %d (%s) is lost and in no record: %+v", e.Sequence, e.Topic, gaps)
		}
	}
	if recorded != a.dropped || lost != recorded {
		a.Errorf("%d events lost, %d on record, %d counted", lost, recorded, a.dropped)
	}
}

// TestEventLog_Concurrent has everything happen at once, for the race detector, and checks that consumers of lanes that
// lose nothing get each event once and in order.
func TestEventLog_Concurrent(t *testing.T) {
	l := store.OpenTestLog(t, t.TempDir(), store.TestLogOptions{SegmentSize: 4000, FlushEvery: 1e6},
		pubsub.Contract{Match: "keep/#"}, pubsub.Contract{Match: "drop/#", MaxEvents: 50, MaxBytes: 5000})
	const publishers, each = 6, 150
	ctx, cancel := context.WithCancel(t.Context())
	var background, work sync.WaitGroup
	for p := range publishers {
		work.Go(func() {
			for i := range each {
				events := []pubsub.Event{event(fmt.Sprintf("keep/%d", p), strconv.Itoa(i))}
				if i%10 == p {
					events = append(events, event("drop/across", "x"))
				}
				if err := l.Append(ctx, events); err != nil {
					t.Error(err)
				}
				if err := l.Append(ctx, []pubsub.Event{event("drop/it", strings.Repeat("x", i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for p := range publishers {
		work.Go(func() { consumeInOrder(ctx, t, l.Lanes("keep/0")[0], fmt.Sprintf("keep/%d", p), each) })
	}
	work.Go(func() { consumeInOrder(ctx, t, l.Lanes("keep/0")[0], "keep/+", publishers*each) })
	background.Go(func() {
		for lane := l.Lanes("drop/it")[0]; ctx.Err() == nil; {
			c, err := lane.Attach(ctx, "visitor", "drop/+", pubsub.Oldest)
			if err != nil {
				continue
			}
			if _, scanned, err := lane.Read(ctx, c.Head, "drop/+", 20); err == nil {
				lane.Commit("visitor", pubsub.Cursor{Head: scanned})
			}
			_ = lane.Detach(ctx, "visitor") // it ends with ctx
		}
	})
	background.Go(func() {
		for ctx.Err() == nil {
			for _, lane := range l.Lanes("#") {
				lane.Stat()
			}
			l.Gaps(10)
			l.Tidy()
		}
	})
	work.Wait()
	cancel()
	background.Wait()
	if s := l.Lanes("keep/0")[0].Stat(); s.Events != 0 || len(s.Dropped) > 0 {
		t.Errorf("stat %+v after everything was handled", s)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Append(t.Context(), []pubsub.Event{event("a", "late")}); !errors.Is(err, pubsub.ErrClosed) || !errors.Is(err, store.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

// consumeInOrder handles n events of a filter and checks that each publisher's are complete and in order.
func consumeInOrder(ctx context.Context, t *testing.T, lane pubsub.Lane, filter string, n int) {
	c, err := lane.Attach(ctx, filter, filter, pubsub.Oldest)
	if err != nil {
		t.Error(err)
		return
	}
	next := map[string]int{}
	for got := 0; got < n; {
		events, scanned, err := lane.Read(ctx, c.Head, filter, 13)
		if err != nil {
			t.Error(err)
			return
		}
		for _, e := range events {
			if string(e.Data) != strconv.Itoa(next[e.Topic]) {
				t.Errorf("consumer of %s: event %s of %s, want %d", filter, e.Data, e.Topic, next[e.Topic])
				return
			}
			next[e.Topic]++
		}
		got += len(events)
		c.Head = scanned
		lane.Commit(filter, c)
	}
}

// FuzzDecodeSegment reads arbitrary bytes as a segment: it does not panic, events come in order, and what is found in
// a segment that was only cut or extended is what was written.
func FuzzDecodeSegment(f *testing.F) {
	dir := f.TempDir()
	l := store.OpenTestLog(f, dir, store.TestLogOptions{})
	mustAppend(f, l, event("a", "1"))
	mustAppend(f, l, event("b", "2"), pubsub.Event{Topic: "c", Data: []byte("3"), ContentType: "odd", Metadata: map[string]string{"k": "v"}})
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	whole := readFile(f, store.ListSegments(f, dir)[0])
	f.Add(whole, uint32(0), uint64(1))
	f.Add(whole[:len(whole)-40], uint32(1), uint64(1))
	f.Add(whole[44:], uint32(0), uint64(0))
	f.Add(slices.Concat(whole[:60], whole[70:]), uint32(0), uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, salt uint32, first uint64) {
		seqs, topics, bodies := store.ScanSegment(data, salt, first)
		for i := range seqs {
			if seqs[i] < first || i > 0 && seqs[i] <= seqs[i-1] {
				t.Fatalf("sequences %d", seqs)
			}
			if len(topics[i])+len(bodies[i]) > len(data) {
				t.Fatal("more was found than there is")
			}
		}
	})
}
