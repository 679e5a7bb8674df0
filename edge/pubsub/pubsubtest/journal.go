// Package pubsubtest holds the contract that every pubsub.Journal keeps, as tests.
package pubsubtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// OpenJournal opens the journal in folder dir, with a clock that the test moves. A journal that is not durable may
// ignore dir. close waits until everything is durable; the test calls it at most once.
type OpenJournal func(t testing.TB, dir string, contracts []pubsub.Contract, clock func() time.Time) (j pubsub.Journal, closeJournal func())

// RunJournal tests that journals which open returns keep the contract of pubsub.Journal and pubsub.Lane. Durable ones
// are also closed and opened again.
func RunJournal(t *testing.T, open OpenJournal, durable bool) {
	cases := []struct {
		name string
		run  func(*journalTest)
	}{
		{"Append/SequencesIncrease", (*journalTest).sequencesIncrease},
		{"Append/KeepsAllFields", (*journalTest).keepsAllFields},
		{"Append/Canceled", (*journalTest).appendCanceled},
		{"Append/RejectEvents", (*journalTest).rejectEvents},
		{"Append/RejectBytes", (*journalTest).rejectBytes},
		{"Append/RejectIsAllOrNone", (*journalTest).rejectAllOrNone},
		{"Append/AcrossLanesIsAllOrNone", (*journalTest).acrossLanes},
		{"Append/DropOldestEvents", (*journalTest).dropOldestEvents},
		{"Append/DropOldestBytes", (*journalTest).dropOldestBytes},
		{"Append/LargerThanLane", (*journalTest).largerThanLane},
		{"Append/Concurrent", (*journalTest).concurrent},
		{"Lanes/FirstMatchWins", (*journalTest).firstMatchWins},
		{"Attach/OldestNewest", (*journalTest).attachStart},
		{"Attach/ContinuesAtCursor", (*journalTest).attachAgain},
		{"Detach/Forgets", (*journalTest).detach},
		{"Read/FiltersTopics", (*journalTest).readFilters},
		{"Read/LimitsEventsAndBytes", (*journalTest).readLimits},
		{"Read/AnySequence", (*journalTest).readAnywhere},
		{"Read/WaitsForEvent", (*journalTest).readWaits},
		{"Read/EndsWithContext", (*journalTest).readEnds},
		{"Read/SkipsExpired", (*journalTest).readExpired},
		{"Age/RemovesAndRecords", (*journalTest).ageRemoves},
		{"Commit/LetsGo", (*journalTest).commitLetsGo},
		{"Commit/PendingStays", (*journalTest).commitPending},
		{"Commit/EveryConsumer", (*journalTest).commitEveryConsumer},
		{"Commit/UnknownConsumer", (*journalTest).commitUnknown},
		{"Stat/Empty", (*journalTest).statEmpty},
	}
	if durable {
		cases = append(cases, []struct {
			name string
			run  func(*journalTest)
		}{
			{"Reopen/KeepsEventsAndCursors", (*journalTest).reopenKeeps},
			{"Reopen/KeepsGaps", (*journalTest).reopenGaps},
			{"Reopen/ContractRemoved", (*journalTest).reopenWithoutContract},
			{"Reopen/ContractsReordered", (*journalTest).reopenReordered},
			{"Reopen/ClockSet", (*journalTest).reopenClockSet},
			{"Age/ClockSetWhileRunning", (*journalTest).clockSet},
		}...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.run(&journalTest{T: t, open: open, dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)})
		})
	}
}

// journalTest is one test's journal and clock.
type journalTest struct {
	*testing.T
	open  OpenJournal
	dir   string
	j     pubsub.Journal
	close func()

	mu  sync.Mutex
	now time.Time
}

func (t *journalTest) clock() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

func (t *journalTest) pass(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = t.now.Add(d)
}

// start opens the journal, closing it first if it is open.
func (t *journalTest) start(contracts ...pubsub.Contract) {
	t.Helper()
	t.stop()
	j, closeJournal := t.open(t.T, t.dir, contracts, t.clock)
	var once sync.Once
	t.j, t.close = j, func() { once.Do(closeJournal) }
	t.Cleanup(t.close)
}

func (t *journalTest) stop() {
	if t.close != nil {
		t.close()
	}
}

func (t *journalTest) ctx() context.Context { return t.Context() }

// lane returns the lane of a topic.
func (t *journalTest) lane(topic string) pubsub.Lane {
	t.Helper()
	lanes := t.j.Lanes(topic)
	if len(lanes) == 0 {
		t.Fatalf("no lane for topic %q", topic)
	}
	return lanes[0]
}

// publish appends events with one call and returns them.
func (t *journalTest) publish(topic string, data ...string) []pubsub.Event {
	t.Helper()
	events := eventsOf(topic, data...)
	if err := t.j.Append(t.ctx(), events); err != nil {
		t.Fatalf("append to %q: %v", topic, err)
	}
	return events
}

func eventsOf(topic string, data ...string) []pubsub.Event {
	events := make([]pubsub.Event, len(data))
	for i := range data {
		events[i] = pubsub.Event{Topic: topic, Data: []byte(data[i]), ContentType: "text/plain"}
	}
	return events
}

// attach registers a consumer and returns where it begins.
func (t *journalTest) attach(l pubsub.Lane, consumer, filter string, start pubsub.StartFrom) pubsub.Cursor {
	t.Helper()
	c, err := l.Attach(t.ctx(), consumer, filter, start)
	if err != nil {
		t.Fatalf("attach %q: %v", consumer, err)
	}
	return c
}

// read returns what a lane holds after a sequence, without waiting at its end.
func (t *journalTest) read(l pubsub.Lane, after uint64, filter string) (data []string, scanned uint64) {
	t.Helper()
	for _, e := range t.readEvents(l, after, filter) {
		data = append(data, string(e.Data))
		after = e.Sequence
	}
	return data, after
}

func (t *journalTest) readEvents(l pubsub.Lane, after uint64, filter string) (all []pubsub.Event) {
	t.Helper()
	for after < l.Stat().Last {
		events, scanned, err := l.Read(t.ctx(), after, filter, 100)
		if err != nil {
			t.Fatalf("read after %d: %v", after, err)
		}
		if scanned <= after && len(events) == 0 {
			t.Fatalf("read after %d returned nothing and did not advance", after)
		}
		for _, e := range events {
			if e.Sequence <= after {
				t.Fatalf("read after %d returned sequence %d", after, e.Sequence)
			}
			after = e.Sequence
		}
		all = append(all, events...)
		after = max(after, scanned)
	}
	return all
}

func (t *journalTest) wantRead(l pubsub.Lane, after uint64, filter string, want ...string) {
	t.Helper()
	if got, _ := t.read(l, after, filter); !slices.Equal(got, want) {
		t.Errorf("read %q after %d: got %q, want %q", filter, after, got, want)
	}
}

func numbered(prefix string, from, to int) (data []string) {
	for i := from; i <= to; i++ {
		data = append(data, fmt.Sprintf("%s%d", prefix, i))
	}
	return data
}

func (t *journalTest) wantFull(err error) {
	t.Helper()
	if !errors.Is(err, pubsub.ErrTopicFull) {
		t.Fatalf("append to full lane: got %v, want ErrTopicFull", err)
	}
}
