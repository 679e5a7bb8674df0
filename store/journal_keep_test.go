package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

// Segments go when everybody has handled them, wherever they are, and no sooner.
func TestEventLog_RemovesHandledSegments(t *testing.T) {
	facts := &store.TestFacts{}
	l := store.OpenTestLog(t, t.TempDir(), store.TestLogOptions{SegmentSize: 1000, Facts: facts})
	lane := l.Lanes("a")[0]
	if _, err := lane.Attach(t.Context(), "c", "a", pubsub.Oldest); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, event("nobody reads", "1"))
	for range 50 {
		mustAppend(t, l, event("a", strings.Repeat("x", 100)))
	}
	mustAppend(t, l, event("nobody reads", "2"))
	before := len(l.Segments(t))
	commit := func(head uint64) {
		t.Helper()
		lane.Commit("c", pubsub.Cursor{Head: head})
		l.Tidy()
	}
	commit(5)
	if n := len(l.Segments(t)); n != before {
		t.Errorf("%d of %d segments after commit of 5", n, before)
	}
	commit(51)
	if n := len(l.Segments(t)); n > 3 {
		t.Errorf("%d of %d segments after commit of everything", n, before)
	}
	events, _, err := lane.Read(t.Context(), 0, "nobody reads", 10)
	if err == nil && len(events) < 2 {
		var more []pubsub.Event
		more, _, err = lane.Read(t.Context(), events[0].Sequence, "nobody reads", 10)
		events = append(events, more...)
	}
	if err != nil || !slices.Equal(bodies(events), []string{"1", "2"}) {
		t.Errorf("events that nobody has read: %q, %v", bodies(events), err)
	}
	if gaps := l.Gaps(10); len(gaps) > 0 {
		t.Errorf("gaps %+v", gaps)
	}
	l.Kill()
}

// What waits for a consumer that is away does not keep the handled events of others: neither does a busy topic push out
// the events of one whose consumer is away, nor does it make a lane refuse events.
func TestEventLog_Compacts(t *testing.T) {
	for _, full := range []pubsub.Full{pubsub.Reject, pubsub.DropOldest} {
		t.Run(string(full), func(t *testing.T) {
			dir, facts := t.TempDir(), &store.TestFacts{}
			options := store.TestLogOptions{SegmentSize: 5000, Facts: facts}
			contract := pubsub.Contract{Match: "#", MaxBytes: 50_000, WhenFull: full}
			l := store.OpenTestLog(t, dir, options, contract)
			rare := publishBusyAndRare(t, l)
			wantRare(t, l, rare)
			l.Kill()
			l = store.OpenTestLog(t, dir, options, contract)
			wantRare(t, l, rare)
			lane := l.Lanes("#")[0]
			for _, name := range []string{"busy", "rare"} {
				lane.Commit(name, pubsub.Cursor{Head: lane.Stat().Last})
			}
			l.Tidy()
			if n := len(l.Segments(t)); n > 2 {
				t.Errorf("%d segments after everything was handled", n)
			}
			l.Kill()
		})
	}
}

// publishBusyAndRare publishes many times a lane's bound of events that are handled at once, and among them some that
// are not. It returns those.
func publishBusyAndRare(t *testing.T, l *store.TestLog) (rare []pubsub.Event) {
	t.Helper()
	lane := l.Lanes("#")[0]
	for _, name := range []string{"busy", "rare"} {
		if _, err := lane.Attach(t.Context(), name, name, pubsub.Oldest); err != nil {
			t.Fatal(err)
		}
	}
	busy := strings.Repeat("x", 200)
	for i := range 2000 {
		events := []pubsub.Event{event("busy", busy)}
		if i%25 == 0 {
			events = append(events, event("rare", fmt.Sprint(i)), event("busy", busy))
		}
		mustAppend(t, l, events...)
		if i%25 == 0 {
			rare = append(rare, events[1])
		}
		lane.Commit("busy", pubsub.Cursor{Head: events[len(events)-1].Sequence})
		if s := lane.Stat(); s.Bytes > 50_000 {
			t.Fatalf("%d bytes kept", s.Bytes)
		}
	}
	return rare
}

// wantRare checks that all of them are there and nothing was lost.
func wantRare(t *testing.T, l *store.TestLog, rare []pubsub.Event) {
	t.Helper()
	lane := l.Lanes("#")[0]
	var got []pubsub.Event
	for after := uint64(0); after < lane.Stat().Last; {
		events, scanned, err := lane.Read(t.Context(), after, "rare", 10)
		if err != nil {
			t.Fatal(err)
		}
		got, after = append(got, events...), scanned
	}
	if missing := wantSubset(t, got, rare); len(missing) > 0 {
		t.Errorf("%d events are missing", len(missing))
	}
	if s := lane.Stat(); len(s.Dropped) > 0 || len(l.Gaps(1)) > 0 {
		t.Errorf("stat %+v, gaps %+v", s, l.Gaps(10))
	}
}
