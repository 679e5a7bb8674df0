package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

// modelLane is what a lane must hold.
type modelLane struct {
	kept      []pubsub.Event // acknowledged, in order
	consumers map[string]*modelConsumer
}

type modelConsumer struct {
	filter    string
	committed pubsub.Cursor // in memory
	flushed   pubsub.Cursor // at least this is on disk
	absent    map[uint64]bool
}

// state tells whether an event has consumers, and whether one of them still has to handle it.
func (m *modelLane) state(e pubsub.Event) (handled, wanted bool) {
	for _, c := range m.consumers {
		if pubsub.MatchTopic(c.filter, e.Topic) {
			handled = true
			open := e.Sequence > c.committed.Head || slices.Contains(c.committed.Pending, e.Sequence)
			wanted = wanted || open && !c.absent[e.Sequence]
		}
	}
	return handled, wanted
}

// simulation runs random operations on a log and on a model of it.
type simulation struct {
	t         *testing.T
	r         *rand.Rand
	dir       string
	facts     *store.TestFacts
	disk      *store.TestDisk
	contracts []pubsub.Contract
	log       *store.TestLog
	lanes     map[string]*modelLane
	n         int
	faulty    bool
}

// Random publishing, consuming, faults of the disk, losses of power, kills and restarts: what was acknowledged and not
// handled is there, in order; nothing else is.
func TestEventLog_Simulation(t *testing.T) {
	rounds := 40
	if testing.Short() {
		rounds = 6
	}
	for seed := range rounds {
		t.Run(fmt.Sprintf("seed%d", seed), func(t *testing.T) {
			t.Parallel()
			s := &simulation{
				t: t, r: rand.New(rand.NewPCG(uint64(seed), 1)), dir: t.TempDir(), facts: &store.TestFacts{}, disk: &store.TestDisk{},
				contracts: []pubsub.Contract{{Match: "a/#", WhenFull: pubsub.Reject}, {Match: "b"}},
				lanes:     map[string]*modelLane{},
			}
			for _, name := range []string{"a/#", "b", "#"} {
				s.lanes[name] = &modelLane{consumers: map[string]*modelConsumer{}}
			}
			s.open()
			for range 300 {
				s.step()
			}
			s.heal()
			s.check()
			if err := s.log.Close(); err != nil {
				t.Fatal(err)
			}
			s.open()
			s.check()
			s.log.Kill()
		})
	}
}

func (s *simulation) open() {
	s.log = store.OpenTestLog(s.t, s.dir, store.TestLogOptions{Facts: s.facts, Disk: s.disk, SegmentSize: 2000}, s.contracts...)
	for name, m := range s.lanes {
		for consumer, c := range m.consumers {
			got, err := s.lane(name).Attach(s.t.Context(), consumer, c.filter, pubsub.Newest)
			if err != nil {
				s.t.Fatal(err)
			}
			if got.Head < c.flushed.Head || got.Head > c.committed.Head {
				s.t.Fatalf("cursor of %s in %s is %+v; flushed %+v, committed %+v", consumer, name, got, c.flushed, c.committed)
			}
			c.committed = got
		}
	}
}

func (s *simulation) lane(name string) pubsub.Lane {
	for _, l := range s.log.Lanes("#") {
		if l.Name() == name {
			return l
		}
	}
	s.t.Fatalf("no lane %q", name)
	return nil
}

func (s *simulation) step() {
	switch n := s.r.IntN(100); {
	case n < 45:
		s.append()
	case n < 55:
		s.appendMany()
	case n < 62:
		s.attach()
	case n < 80:
		s.consume()
	case n < 84:
		s.flush()
	case n < 85:
		s.log.Tidy()
	case n < 86:
		s.log.Compact()
	case n < 90:
		s.breakDisk()
	case n < 94:
		s.heal()
	case n < 96:
		s.restart(func() { s.log.Kill() })
	case n < 98:
		s.restart(func() {
			s.log.Kill()
			s.disk.PowerLoss(s.t, func() bool { return s.r.IntN(2) == 0 })
		})
	default:
		s.restart(func() {
			if err := s.log.Close(); err != nil && !s.faulty {
				s.t.Fatal(err)
			}
		})
	}
}

// restart ends the log in some way and opens it again, on a disk that works.
func (s *simulation) restart(end func()) {
	end()
	s.heal()
	s.open()
	s.check()
}

func (s *simulation) events() []pubsub.Event {
	topics := []string{"a/1", "a/2", "b", "c", "c/d"}
	var events []pubsub.Event
	topic := topics[s.r.IntN(len(topics))]
	for range 1 + s.r.IntN(4) {
		if s.r.IntN(10) == 0 {
			topic = topics[s.r.IntN(len(topics))]
		}
		s.n++
		events = append(events, event(topic, fmt.Sprintf("%d %s", s.n, strings.Repeat("x", s.r.IntN(200)))))
	}
	return events
}

func laneOf(topic string) string {
	switch {
	case strings.HasPrefix(topic, "a/"):
		return "a/#"
	case topic == "b":
		return "b"
	}
	return "#"
}

func (s *simulation) append() { s.settle(s.events(), nil) }

// settle appends events, or takes note of their append's result.
func (s *simulation) settle(events []pubsub.Event, done *error) {
	if done == nil {
		err := s.log.Append(s.t.Context(), events)
		done = &err
	}
	if err := *done; err != nil {
		if !s.faulty {
			s.t.Fatalf("append: %v", err)
		}
		if errors.Is(err, unix.ENOSPC) && !errors.Is(err, fault.ErrStorageFull) {
			s.t.Fatalf("a full disk is reported as %v", err)
		}
		return
	}
	for _, e := range events {
		m := s.lanes[laneOf(e.Topic)]
		m.kept = append(m.kept, e)
	}
}

// appendMany appends from several goroutines, so that groups form.
func (s *simulation) appendMany() {
	calls := make([][]pubsub.Event, 2+s.r.IntN(8))
	errs := make([]error, len(calls))
	var wg sync.WaitGroup
	for i := range calls {
		calls[i] = s.events()
		wg.Go(func() { errs[i] = s.log.Append(s.t.Context(), calls[i]) })
	}
	wg.Wait()
	for i := range calls {
		s.settle(calls[i], &errs[i])
	}
	for _, m := range s.lanes {
		slices.SortFunc(m.kept, func(a, b pubsub.Event) int { return int(int64(a.Sequence) - int64(b.Sequence)) })
	}
}

func (s *simulation) attach() {
	name := []string{"a/#", "b", "#"}[s.r.IntN(3)]
	filter := map[string][]string{"a/#": {"a/1", "a/+", "#"}, "b": {"b", "#"}, "#": {"c", "c/#", "#"}}[name]
	m, consumer := s.lanes[name], fmt.Sprintf("c%d", s.r.IntN(4))
	if m.consumers[consumer] != nil {
		return
	}
	c := &modelConsumer{filter: filter[s.r.IntN(len(filter))], absent: map[uint64]bool{}}
	for _, e := range m.kept {
		if handled, wanted := m.state(e); handled && !wanted {
			c.absent[e.Sequence] = true // a new consumer may get what others have handled, or not
		}
	}
	start := pubsub.Oldest
	if s.r.IntN(2) == 0 {
		start = pubsub.Newest
	}
	cursor, err := s.lane(name).Attach(s.t.Context(), consumer, c.filter, start)
	if err != nil {
		if !s.faulty {
			s.t.Fatal(err)
		}
		return
	}
	c.committed, c.flushed = cursor, cursor
	m.consumers[consumer] = c
}

// consume reads as a consumer does, checks what it gets, and commits, perhaps with some events pending.
func (s *simulation) consume() {
	for name, m := range s.lanes {
		for consumer, c := range m.consumers {
			if s.r.IntN(3) > 0 {
				continue
			}
			l := s.lane(name)
			if l.Stat().Last <= c.committed.Head {
				continue
			}
			events, scanned, err := l.Read(s.t.Context(), c.committed.Head, c.filter, 1+s.r.IntN(20))
			if err != nil {
				s.t.Fatal(err)
			}
			var want []pubsub.Event
			for _, e := range m.kept {
				if e.Sequence > c.committed.Head && e.Sequence <= scanned && pubsub.MatchTopic(c.filter, e.Topic) {
					want = append(want, e)
				}
			}
			for _, e := range wantSubset(s.t, events, want) {
				if !c.absent[e.Sequence] {
					s.t.Fatalf("%s of %s after %d: event %d is missing", consumer, name, c.committed.Head, e.Sequence)
				}
			}
			next := pubsub.Cursor{Head: scanned}
			for _, e := range events {
				if s.r.IntN(30) == 0 {
					next.Pending = append(next.Pending, e.Sequence)
				}
			}
			c.committed = next
			l.Commit(consumer, pubsub.Cursor{Head: next.Head, Pending: slices.Clone(next.Pending)})
		}
	}
}

func (s *simulation) flush() {
	name := []string{"a/#", "b", "#"}[s.r.IntN(3)]
	if err := s.lane(name).Flush(s.t.Context()); err != nil {
		if !s.faulty {
			s.t.Fatal(err)
		}
		return
	}
	for _, c := range s.lanes[name].consumers {
		c.flushed = c.committed
	}
}

// breakDisk makes some writes, syncs, cuts or saves fail.
func (s *simulation) breakDisk() {
	s.heal() // one thing at a time: with everything broken a log cannot even note that it could not undo a write
	s.faulty = true
	seed := s.r.Uint64()
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 2))
	roll := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return r.IntN(n)
	}
	kind := s.r.IntN(5)
	s.disk.Set(func(d *store.TestDisk) {
		switch kind {
		case 0:
			d.FailPut = func(_ string, n int) (int, error) { return roll(n + 1), unix.ENOSPC }
		case 1:
			d.FailSync = func(string) error { return unix.EIO }
		case 2:
			d.FailSync = func(string) error {
				if roll(2) == 0 {
					return unix.EIO
				}
				return nil
			}
			d.FailCut = func(string) error { return unix.EIO }
		case 3:
			d.FailOpen = func(string) error { return unix.ENOSPC }
			d.FailSync = func(string) error { return unix.EIO }
		case 4:
			s.facts.SetFail(unix.EIO)
		}
	})
}

func (s *simulation) heal() {
	s.faulty = false
	s.facts.SetFail(nil)
	s.disk.Set(func(d *store.TestDisk) { d.FailPut, d.FailSync, d.FailCut, d.FailOpen = nil, nil, nil, nil })
}

// check compares what every lane holds with the model: each event that a consumer, or nobody yet, has to handle.
func (s *simulation) check() {
	s.t.Helper()
	for name, m := range s.lanes {
		l := s.lane(name)
		got := readAll(s.t, l)
		missing := wantSubset(s.t, got, m.kept)
		for _, e := range missing {
			if handled, wanted := m.state(e); wanted || !handled {
				s.t.Fatalf("lane %s: event %d (%s) is missing; %d there, stat %+v", name, e.Sequence, e.Topic, len(got), l.Stat())
			}
		}
		if d := l.Stat().Dropped; len(d) > 0 {
			s.t.Fatalf("lane %s dropped %v", name, d)
		}
	}
	if gaps := s.log.Gaps(10); len(gaps) > 0 {
		s.t.Fatalf("gaps without loss: %+v", gaps)
	}
}
