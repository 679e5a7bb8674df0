package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

// readAll reads what a lane keeps.
func readAll(t testing.TB, l pubsub.Lane) (all []pubsub.Event) {
	t.Helper()
	for after := uint64(0); after < l.Stat().Last; {
		events, scanned, err := l.Read(t.Context(), after, "#", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Sequence <= after {
				t.Fatalf("sequence %d after %d", e.Sequence, after)
			}
			after = e.Sequence
		}
		if len(events) == 0 && scanned <= after {
			t.Fatalf("read after %d does not advance", after)
		}
		after = max(after, scanned)
		all = append(all, events...)
	}
	return all
}

func mustAppend(t testing.TB, j pubsub.Journal, events ...pubsub.Event) []pubsub.Event {
	t.Helper()
	if err := j.Append(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	return events
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func event(topic, data string) pubsub.Event { return pubsub.Event{Topic: topic, Data: []byte(data)} }

// copyTree copies the log in a folder, as a disk would be copied.
func copyTree(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// wantSubset checks that got are events of want, in order and unchanged, and returns those that are missing.
func wantSubset(t testing.TB, got, want []pubsub.Event) (missing []pubsub.Event) {
	t.Helper()
	for _, w := range want {
		if len(got) > 0 && got[0].Sequence == w.Sequence {
			if got[0].Topic != w.Topic || string(got[0].Data) != string(w.Data) {
				t.Fatalf("event %d is %s %q, want %s %q", w.Sequence, got[0].Topic, got[0].Data, w.Topic, w.Data)
			}
			got = got[1:]
			continue
		}
		missing = append(missing, w)
	}
	if len(got) > 0 {
		t.Fatalf("event %d %s %q was never published", got[0].Sequence, got[0].Topic, got[0].Data)
	}
	return missing
}

// wantGaps checks that gap records name all missing events as corrupt.
func wantGaps(t testing.TB, j pubsub.Journal, missing []pubsub.Event) {
	t.Helper()
	gaps := j.Gaps(1000)
	for _, e := range missing {
		if !slices.ContainsFunc(gaps, func(g pubsub.Gap) bool {
			return g.Reason == "corrupt" && g.From <= e.Sequence && e.Sequence <= g.To
		}) {
			t.Fatalf("event %d is missing and in no gap record: %+v", e.Sequence, gaps)
		}
	}
}

func published(t testing.TB, j pubsub.Journal) (all []pubsub.Event) {
	t.Helper()
	for i := range 6 {
		all = append(all, mustAppend(t, j, event("a", fmt.Sprintf("one-%d", i)))...)
		all = append(all, mustAppend(t, j, event("a", fmt.Sprintf("two-%d", i)), event("b/c", strings.Repeat("x", i)))...)
	}
	return all
}

// A log whose end is cut off anywhere, as by a crash in the middle of a write, holds what was before it and goes on.
func TestEventLog_CutAnywhere(t *testing.T) {
	dir, facts := t.TempDir(), &store.TestFacts{}
	l := store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts})
	all := published(t, l)
	l.Kill()
	path := store.ListSegments(t, dir)[0]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content = []byte(strings.TrimRight(string(content), "\x00"))
	before := -1
	for size := range len(content) + 1 {
		copied := copyTree(t, dir)
		cut := store.ListSegments(t, copied)[0]
		if err := os.WriteFile(cut, content[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		l := store.OpenTestLog(t, copied, store.TestLogOptions{Facts: facts.Clone()})
		got := readAll(t, l.Lanes("#")[0])
		missing := wantSubset(t, got, all)
		if n := len(got); n < before || n > 0 && len(missing) > 0 && missing[0].Sequence != got[n-1].Sequence+1 {
			t.Fatalf("cut at %d: %d events, before %d; missing %d", size, n, before, len(missing))
		}
		before = len(got)
		if n := len(got); n%3 == 2 {
			t.Fatalf("cut at %d: half of the events of one call", size)
		}
		if gaps := l.Gaps(10); len(gaps) > 0 {
			t.Fatalf("cut at %d: an unfinished write is reported as loss: %+v", size, gaps)
		}
		more := mustAppend(t, l, event("a", "more"))
		wantSubset(t, readAll(t, l.Lanes("#")[0]), append(slices.Clone(got), more...))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if before != len(all) {
		t.Errorf("%d of %d events without a cut", before, len(all))
	}
}

// A log that was closed knows its end: what is missing there is a loss, and reported.
func TestEventLog_CutAfterClose(t *testing.T) {
	dir, facts := t.TempDir(), &store.TestFacts{}
	l := store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts})
	all := published(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(store.ListSegments(t, dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	for size := range len(content) {
		copied := copyTree(t, dir)
		if err := os.Truncate(store.ListSegments(t, copied)[0], int64(size)); err != nil {
			t.Fatal(err)
		}
		l := store.OpenTestLog(t, copied, store.TestLogOptions{Facts: facts.Clone()})
		got := readAll(t, l.Lanes("#")[0])
		wantGaps(t, l, wantSubset(t, got, all))
		more := mustAppend(t, l, event("a", "more"))
		if more[0].Sequence <= all[len(all)-1].Sequence {
			t.Fatalf("cut at %d: sequence %d given again", size, more[0].Sequence)
		}
		wantSubset(t, readAll(t, l.Lanes("#")[0]), append(slices.Clone(got), more...))
		l.Kill()
	}
}

// Whatever bit of a log is wrong: the other events are there, and the missing ones are on record.
func TestEventLog_EveryBit(t *testing.T) {
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprintf("closed=%v", closed), func(t *testing.T) { everyBit(t, closed) })
	}
}

func everyBit(t *testing.T, closed bool) {
	dir, facts := t.TempDir(), &store.TestFacts{}
	options := store.TestLogOptions{Facts: facts, SegmentSize: 200}
	l := store.OpenTestLog(t, dir, options)
	all := published(t, l)
	lane := l.Lanes("#")[0]
	if _, err := lane.Attach(t.Context(), "c", "#", pubsub.Oldest); err != nil {
		t.Fatal(err)
	}
	lane.Commit("c", pubsub.Cursor{})
	if err := lane.Flush(t.Context()); err != nil { // from here on the log knows that all of this is on disk
		t.Fatal(err)
	}
	if closed {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	} else {
		l.Kill()
	}
	segments := store.ListSegments(t, dir)
	if len(segments) < 3 {
		t.Fatalf("%d segments", len(segments))
	}
	step := 3 // in turn every bit of a byte
	if testing.Short() {
		step = 11
	}
	for i, path := range segments {
		if i != 0 && i != len(segments)/2 && i < len(segments)-2 {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for bit := 0; bit < 8*min(len(content), 700); bit += step {
			content[bit/8] ^= 1 << (bit % 8)
			flipped(t, dir, path, content, facts, all)
			content[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// flipped opens a copy of the log in which one segment has another content.
func flipped(t *testing.T, dir, path string, content []byte, facts *store.TestFacts, all []pubsub.Event) {
	t.Helper()
	copied, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(copied)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(copied, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
	options := store.TestLogOptions{Facts: facts.Clone(), SegmentSize: 200}
	for range 2 {
		l := store.OpenTestLog(t, copied, options)
		missing := wantSubset(t, readAll(t, l.Lanes("#")[0]), all)
		if len(missing) > 2 && len(missing) != len(all) {
			// One frame holds at most two events; a file that cannot be read at all holds one segment.
			if n := missing[len(missing)-1].Sequence - missing[0].Sequence; n > 6 {
				t.Fatalf("one bit costs events %d to %d", missing[0].Sequence, missing[len(missing)-1].Sequence)
			}
		}
		wantGaps(t, l, missing)
		l.Kill()
	}
}

// Without state.db the segments tell whose they are and what is in them.
func TestEventLog_FactsLost(t *testing.T) {
	dir, facts := t.TempDir(), &store.TestFacts{}
	l := store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts, SegmentSize: 300}, pubsub.Contract{Match: "a/#"})
	var all []pubsub.Event
	for i := range 20 {
		all = append(all, mustAppend(t, l, event("a/b", fmt.Sprint(i)))...)
	}
	l.Kill()
	facts.Forget()
	l = store.OpenTestLog(t, dir, store.TestLogOptions{Facts: facts, SegmentSize: 300}) // and the contract is gone as well
	lanes := l.Lanes("a/b")
	if len(lanes) != 2 || lanes[1].Name() != "a/#" {
		t.Fatalf("lanes %v", lanes)
	}
	if missing := wantSubset(t, readAll(t, lanes[1]), all); len(missing) > 0 {
		t.Errorf("%d events are missing", len(missing))
	}
	l.Kill()
}

// Opening reads the end of the newest segment only, so that it takes no longer with many.
func TestEventLog_OpensNewestOnly(t *testing.T) {
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
	for _, path := range segments[:len(segments)-1] {
		if err := os.Truncate(path, 0); err != nil { // whoever reads it, notices
			t.Fatal(err)
		}
	}
	l = store.OpenTestLog(t, dir, options)
	mustAppend(t, l, event("a", "new"))
	if gaps := l.Gaps(10); len(gaps) > 0 {
		t.Errorf("opening read old segments: %+v", gaps)
	}
	got := readAll(t, l.Lanes("a")[0])
	if len(got) < 2 || len(got) > 20 || string(got[len(got)-1].Data) != "new" {
		t.Errorf("%d events", len(got))
	}
	lost := uint64(0)
	for _, g := range l.Gaps(1000) {
		lost += g.Events
	}
	if int(lost)+len(got) != 101 {
		t.Errorf("%d events lost on record, %d there, of 101: %+v %d", lost, len(got), l.Gaps(100), len(segments))
	}
	l.Kill()
}
