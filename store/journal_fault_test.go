package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

func bodies(events []pubsub.Event) (data []string) {
	for _, e := range events {
		data = append(data, string(e.Data))
	}
	return data
}

func wantBodies(t testing.TB, l pubsub.Lane, want ...string) {
	t.Helper()
	if got := bodies(readAll(t, l)); !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

// A full disk refuses events with a clear error and keeps nothing of them; reading and committing go on, and so does
// publishing when there is space.
func TestEventLog_DiskFull(t *testing.T) {
	disk, facts := &store.TestDisk{}, &store.TestFacts{}
	dir := t.TempDir()
	l := store.OpenTestLog(t, dir, store.TestLogOptions{Disk: disk, Facts: facts})
	lane := l.Lanes("a")[0]
	if _, err := lane.Attach(t.Context(), "c", "a", pubsub.Oldest); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, event("a", "1"))
	for _, written := range []int{0, 1, 30, 1000} {
		disk.Set(func(d *store.TestDisk) {
			d.FailPut = func(_ string, n int) (int, error) { return min(n, written), unix.ENOSPC }
		})
		err := l.Append(t.Context(), []pubsub.Event{event("a", "refused")})
		if !errors.Is(err, fault.ErrStorageFull) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), `"a"`) {
			t.Fatalf("append to full disk: %v", err)
		}
		wantBodies(t, lane, "1")
		lane.Commit("c", pubsub.Cursor{Head: 0})
		if err := lane.Flush(t.Context()); err != nil {
			t.Errorf("flush on full disk: %v", err)
		}
	}
	copied := copyTree(t, dir)
	disk.Set(func(d *store.TestDisk) { d.FailPut = nil })
	if e := mustAppend(t, l, event("a", "2")); e[0].Sequence != 2 {
		t.Errorf("sequence %d after refused events, want 2", e[0].Sequence)
	}
	wantBodies(t, lane, "1", "2")
	if n := len(l.Segments(t)); n != 1 {
		t.Errorf("%d segments, want 1: a full disk is no reason for another", n)
	}
	l.Kill()
	l = store.OpenTestLog(t, copied, store.TestLogOptions{Facts: facts.Clone()})
	wantBodies(t, l.Lanes("a")[0], "1")
	l.Kill()
}

// The reserve is for acknowledgements: publishing stops before it is used.
func TestEventLog_Reserve(t *testing.T) {
	low := true
	l := store.OpenTestLog(t, t.TempDir(), store.TestLogOptions{SpaceLow: func() bool { return low }})
	if err := l.Append(t.Context(), []pubsub.Event{event("a", "1")}); !errors.Is(err, fault.ErrStorageFull) {
		t.Fatalf("append into the reserve: %v", err)
	}
	low = false
	mustAppend(t, l, event("a", "2"))
	wantBodies(t, l.Lanes("a")[0], "2")
	l.Kill()
}

// After a failed sync nobody knows what is on disk: the event is refused, and what follows goes to another file.
func TestEventLog_SyncFails(t *testing.T) {
	for _, cut := range []bool{true, false} {
		t.Run(fmt.Sprintf("cut=%v", cut), func(t *testing.T) {
			disk, facts, dir := &store.TestDisk{}, &store.TestFacts{}, t.TempDir()
			l := store.OpenTestLog(t, dir, store.TestLogOptions{Disk: disk, Facts: facts})
			lane := l.Lanes("a")[0]
			mustAppend(t, l, event("a", "1"))
			disk.Set(func(d *store.TestDisk) {
				d.FailSync = func(string) error { return unix.EIO }
				if !cut {
					d.FailCut = func(string) error { return unix.EIO }
				}
			})
			for range 3 {
				if err := l.Append(t.Context(), []pubsub.Event{event("a", "refused")}); !errors.Is(err, unix.EIO) {
					t.Fatalf("append: %v", err)
				}
			}
			wantBodies(t, lane, "1")
			disk.Set(func(d *store.TestDisk) { d.FailSync, d.FailCut = nil, nil })
			mustAppend(t, l, event("a", "2"))
			wantBodies(t, lane, "1", "2")
			l.Kill()
			l = store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts})
			wantBodies(t, l.Lanes("a")[0], "1", "2")
			if gaps := l.Gaps(10); len(gaps) > 0 {
				t.Errorf("gaps %+v", gaps)
			}
			l.Kill()
		})
	}
}

// An append to several lanes is there as a whole or not at all, whenever the process ends.
func TestEventLog_AcrossLanesCrash(t *testing.T) {
	dir, facts := t.TempDir(), &store.TestFacts{}
	contracts := []pubsub.Contract{{Match: "a"}, {Match: "b"}}
	l := store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts}, contracts...)
	both := func(n string) []pubsub.Event { return []pubsub.Event{event("a", "a"+n), event("b", "b"+n)} }
	mustAppend(t, l, both("1")...)

	var before string
	var factsBefore *store.TestFacts
	facts.SetHook(func() { before, factsBefore = copyTree(t, dir), facts.Clone() })
	mustAppend(t, l, both("2")...)
	facts.SetHook(nil)
	after, factsAfter := copyTree(t, dir), facts.Clone()

	facts.SetFail(unix.EIO)
	if err := l.Append(t.Context(), both("refused")); !errors.Is(err, unix.EIO) {
		t.Fatalf("append without commit: %v", err)
	}
	facts.SetFail(nil)
	mustAppend(t, l, event("a", "a3"))
	check := func(l *store.TestLog, a, b []string) {
		t.Helper()
		wantBodies(t, l.Lanes("a")[0], a...)
		wantBodies(t, l.Lanes("b")[0], b...)
	}
	check(l, []string{"a1", "a2", "a3"}, []string{"b1", "b2"})
	l.Kill()
	l = store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts}, contracts...)
	check(l, []string{"a1", "a2", "a3"}, []string{"b1", "b2"})
	l.Kill()
	l = store.OpenTestLog(t, before, store.TestLogOptions{Facts: factsBefore}, contracts...)
	check(l, []string{"a1"}, []string{"b1"})
	mustAppend(t, l, both("4")...)
	check(l, []string{"a1", "a4"}, []string{"b1", "b4"})
	l.Kill()
	l = store.OpenTestLog(t, after, store.TestLogOptions{Facts: factsAfter}, contracts...)
	check(l, []string{"a1", "a2"}, []string{"b1", "b2"})
	l.Kill()
}

// Cursors are saved a little later, together; when saving fails the consumers go on and it is tried again.
func TestEventLog_CursorsAreLazy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, facts := t.TempDir(), &store.TestFacts{}
		l := store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts})
		lane := l.Lanes("a")[0]
		for _, name := range []string{"c", "d"} {
			if _, err := lane.Attach(t.Context(), name, "a", pubsub.Oldest); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, l, event("a", "1"), event("a", "2"), event("a", "3"))
		saves := facts.Saves()
		lane.Commit("c", pubsub.Cursor{Head: 2})
		lane.Commit("d", pubsub.Cursor{Head: 1})
		if facts.Saves() != saves {
			t.Error("commit waits for the disk")
		}
		time.Sleep(time.Second)
		if facts.Saves() != saves+1 {
			t.Errorf("%d saves after two commits", facts.Saves()-saves)
		}
		facts.SetFail(unix.EIO)
		lane.Commit("c", pubsub.Cursor{Head: 3})
		time.Sleep(10 * time.Second)
		if err := lane.Flush(t.Context()); !errors.Is(err, unix.EIO) {
			t.Errorf("flush: %v", err)
		}
		reopened := func(want uint64) {
			t.Helper()
			l := store.OpenTestLog(t, copyTree(t, dir), store.TestLogOptions{Facts: facts.Clone()})
			defer l.Kill()
			if got := l.Lanes("a")[0].Stat().Consumers["c"]; got != want {
				t.Errorf("cursor on disk is %d, want %d", got, want)
			}
		}
		reopened(2)
		facts.SetFail(nil)
		time.Sleep(time.Minute)
		reopened(3)
		l.Kill()
	})
}

// A log that nobody uses holds neither buffers nor files, and no timer runs.
func TestEventLog_Rests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := store.OpenTestLog(t, t.TempDir(), store.TestLogOptions{SegmentSize: 1000})
		lane := l.Lanes("a")[0]
		for range 3 {
			for range 50 {
				mustAppend(t, l, event("a", strings.Repeat("x", 100)))
			}
			readAll(t, lane)
			if _, _, err := lane.Read(t.Context(), 2, "a", 1); err != nil {
				t.Fatal(err)
			}
			if l.Idle() {
				t.Error("nothing is in memory of what was just used")
			}
			time.Sleep(time.Minute)
			if !l.Idle() {
				t.Error("buffers or files are still held")
			}
			lane.Stat()
			if !l.Idle() {
				t.Error("looking at the figures keeps files open")
			}
		}
		l.Kill()
	})
}

// Events that are too old go although nothing happens, and their files too.
func TestEventLog_AgesByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := store.OpenTestLog(t, t.TempDir(), store.TestLogOptions{SegmentSize: 1000}, pubsub.Contract{Match: "#", MaxAge: time.Hour})
		for range 50 {
			mustAppend(t, l, event("a", strings.Repeat("x", 100)))
		}
		before := len(l.Segments(t))
		time.Sleep(59 * time.Minute)
		if n := len(l.Segments(t)); n != before {
			t.Errorf("%d of %d segments after 59 minutes", n, before)
		}
		time.Sleep(12 * time.Minute)
		if n := len(l.Segments(t)); n != 1 {
			t.Errorf("%d segments after 71 minutes", n)
		}
		if gaps := l.Gaps(10); len(gaps) != 1 || gaps[0].Events != 50 || gaps[0].Reason != "age" {
			t.Errorf("gaps %+v", gaps)
		}
		l.Kill()
	})
}

// A reader is not woken by each event that it does not want, but it does not fall behind for ever.
func TestEventLog_ReadPassesOthers(t *testing.T) {
	l := store.OpenTestLog(t, t.TempDir(), store.TestLogOptions{})
	lane := l.Lanes("a")[0]
	last := mustAppend(t, l, event("a", "1"))[0].Sequence
	done := make(chan int)
	go func() {
		// A Read that begins between two appends returns at once; one that waits is woken for many events only.
		calls := 0
		for scanned := last; calls < 1000; {
			_, next, err := lane.Read(context.WithoutCancel(t.Context()), scanned, "a", 1)
			if err != nil {
				t.Error(err)
			}
			calls++
			if next >= scanned+100 {
				break
			}
			scanned = next
		}
		done <- calls
	}()
	for {
		select {
		case calls := <-done:
			if calls == 1000 {
				t.Error("every few events of others wake the reader")
			}
			l.Kill()
			return
		default:
			mustAppend(t, l, event("b", "x"), event("b", "y"), event("b", "z"))
		}
	}
}

// Damaged segments are kept for inspection, a bounded number of them, and reported once.
func TestEventLog_Quarantine(t *testing.T) {
	dir, facts := t.TempDir(), &store.TestFacts{}
	options := store.TestLogOptions{Facts: facts, SegmentSize: 1000}
	l := store.OpenTestLog(t, dir, options)
	for range 100 {
		mustAppend(t, l, event("a", strings.Repeat("x", 100)))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segments := store.ListSegments(t, dir)
	for _, path := range segments[:8] {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copy(content[300:], "damage")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for round, want := range []int{4, 0} {
		l = store.OpenTestLog(t, dir, options)
		if got := len(readAll(t, l.Lanes("a")[0])); got != 92 {
			t.Errorf("round %d: %d events, want 92", round, got)
		}
		if n := len(l.Quarantined); n != want {
			t.Errorf("round %d: %d copies, want %d", round, n, want)
		}
		for _, q := range l.Quarantined {
			if content, err := os.ReadFile(q.File); err != nil || !strings.Contains(string(content), "damage") {
				t.Errorf("copy %s: %v", q.File, err)
			}
		}
		if gaps := l.Gaps(100); len(gaps) != 8 {
			t.Errorf("round %d: %d gaps: %+v", round, len(gaps), gaps)
		}
		l.Kill()
	}
}
