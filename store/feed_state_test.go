package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/edge/state/statetest"
	"github.com/edged-io/edged/store"
)

// dirty lists the dirty set as "key=value" or "-key".
func dirty(t testing.TB, st *store.State, limit int) (string, []state.Change) {
	t.Helper()
	changes, err := st.Dirty(t.Context(), limit)
	must(t, err)
	var out []string
	last := uint64(0)
	for _, c := range changes {
		if c.Sequence <= last {
			t.Errorf("sequence %d after %d", c.Sequence, last)
		}
		last = c.Sequence
		if c.Deleted {
			out = append(out, "-"+c.Key)
		} else {
			out = append(out, c.Key+"="+string(c.Value))
		}
	}
	return strings.Join(out, " "), changes
}

func wantDirty(t testing.TB, st *store.State, want string) []state.Change {
	t.Helper()
	got, changes := dirty(t, st, 100)
	if got != want {
		t.Fatalf("dirty is %q, want %q", got, want)
	}
	return changes
}

func del(t testing.TB, st *store.State, key string) {
	t.Helper()
	must(t, st.Apply(t.Context(), []state.Op{{Kind: state.Delete, Key: key}}))
}

func isUp(key string) bool { return strings.HasPrefix(key, "up") }

func TestState_Dirty(t *testing.T) {
	clock := statetest.NewClock(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	s := open(t, t.TempDir(), store.Options{Clock: clock.Now})
	st := s.State("s")
	put(t, st, "up-before", "v")
	wantDirty(t, st, "")
	must(t, st.Track(t.Context(), isUp))
	wantDirty(t, st, "")

	put(t, st, "up1", "1")
	put(t, st, "up2", "1")
	put(t, st, "local", "1")
	select {
	case <-st.Changed():
	default:
		t.Error("Changed was not signalled")
	}
	put(t, st, "up1", "2")
	changes := wantDirty(t, st, "up2=1 up1=2")
	if c := changes[1]; c.ETag != statetest.One(t, st, "up1").ETag || !c.Modified.Equal(clock.Now()) || c.Origin != "" {
		t.Errorf("change %+v", c)
	}
	if got, _ := dirty(t, st, 1); got != "up2=1" {
		t.Errorf("with limit 1: %q", got)
	}

	t.Run("Clean", func(t *testing.T) {
		put(t, st, "up2", "newer") // after Dirty, before Clean
		must(t, st.Clean(t.Context(), changes))
		changes := wantDirty(t, st, "up2=newer")
		must(t, st.Clean(t.Context(), changes))
		wantDirty(t, st, "")
		must(t, st.Clean(t.Context(), changes))
		must(t, st.Clean(t.Context(), nil))
		if v, _, d := st.Records(); v != 4 || d != 0 {
			t.Errorf("%d records, %d marks", v, d)
		}
	})
	t.Run("Delete", func(t *testing.T) {
		del(t, st, "up1")
		del(t, st, "up1")
		del(t, st, "up-before")
		del(t, st, "up-never")
		del(t, st, "local")
		changes := wantDirty(t, st, "-up1 -up-before")
		if statetest.One(t, st, "up1").Found {
			t.Error("a tombstone is shown")
		}
		seen := ""
		must(t, st.Scan(t.Context(), "", "", func(e state.Entry) bool { seen += e.Key + " "; return true }))
		if seen != "up2 " {
			t.Errorf("Scan shows %q", seen)
		}
		put(t, st, "up1", "back")
		must(t, st.Clean(t.Context(), changes))
		wantDirty(t, st, "up1=back")
		must(t, st.Clean(t.Context(), wantDirty(t, st, "up1=back")))
		if v, _, d := st.Records(); v != 2 || d != 0 {
			t.Errorf("%d records, %d marks: tombstones were left", v, d)
		}
	})
	t.Run("Expiry", func(t *testing.T) {
		must(t, st.Apply(t.Context(), []state.Op{{Key: "up-ttl", Value: []byte("v"), TTL: time.Minute}}))
		if c := wantDirty(t, st, "up-ttl=v")[0]; !c.Expires.Equal(clock.Now().Add(time.Minute)) {
			t.Errorf("expires %v", c.Expires)
		}
		clock.Add(2 * time.Minute)
		wantDirty(t, st, "-up-ttl")
		must(t, s.Sweep())
		must(t, st.Clean(t.Context(), wantDirty(t, st, "-up-ttl")))
		if v, x, d := st.Records(); v != 2 || x != 0 || d != 0 {
			t.Errorf("%d records, %d expiries, %d marks", v, x, d)
		}
	})
	t.Run("Untrack", func(t *testing.T) {
		put(t, st, "up1", "marked")
		must(t, st.Track(t.Context(), nil))
		put(t, st, "up2", "not marked")
		put(t, st, "up1", "still")
		must(t, st.Clean(t.Context(), wantDirty(t, st, "up1=still")))
	})
}

// TestState_Track writes between a restart and the first Track.
func TestState_Track(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	st := s.State("s")
	must(t, st.Track(t.Context(), isUp))
	put(t, st, "up1", "1")
	put(t, st, "gone", "1")
	must(t, s.Close())

	s = open(t, dir, store.Options{})
	st = s.State("s")
	put(t, st, "up2", "1")
	put(t, st, "local", "1")
	del(t, st, "gone")
	wantDirty(t, st, "up1=1") // of the others it is not known yet
	before := s.IOStats().Commits
	must(t, st.Track(t.Context(), isUp))
	if s.IOStats().Commits != before+1 {
		t.Error("settling marks is not one commit")
	}
	wantDirty(t, st, "up1=1 up2=1")
	if v, _, d := st.Records(); v != 3 || d != 2 {
		t.Errorf("%d records, %d marks", v, d)
	}
	must(t, st.Track(t.Context(), isUp))
	if s.IOStats().Commits != before+1 {
		t.Error("tracking what is tracked made a commit")
	}
	if s.State("other").Epoch() != s.Epoch() {
		t.Error("the epoch is not the database's")
	}
}

func TestState_MarkAll(t *testing.T) {
	st := open(t, t.TempDir(), store.Options{}).State("s")
	for i := range 300 {
		put(t, st, fmt.Sprintf("up%03d", i), "v")
	}
	put(t, st, "local", "v")
	must(t, st.Track(t.Context(), isUp))
	put(t, st, "up007", "marked already")
	n, err := st.MarkAll(t.Context(), isUp)
	if err != nil || n != 299 {
		t.Fatalf("marked %d, %v", n, err)
	}
	changes, err := st.Dirty(t.Context(), 1000)
	must(t, err)
	if len(changes) != 300 || changes[0].Key != "up000" || changes[299].Key != "up007" {
		t.Errorf("%d changes", len(changes))
	}
	must(t, st.Clean(t.Context(), changes))
	wantDirty(t, st, "")
}

func TestState_Merge(t *testing.T) {
	clock := statetest.NewClock(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	dir := t.TempDir()
	s := open(t, dir, store.Options{Clock: clock.Now})
	st := s.State("s")
	must(t, st.Track(t.Context(), isUp))
	put(t, st, "up-mine", "mine")
	put(t, st, "theirs", "old")
	now := clock.Now()
	skipped, err := st.Merge(t.Context(), []state.Change{
		{Key: "up-mine", Value: []byte("theirs")},
		{Key: "theirs", Deleted: true},
		{Key: "up-theirs", Value: []byte("v"), ContentType: "text/plain", Origin: "cloud", Modified: now.Add(-time.Hour), Expires: now.Add(time.Minute)},
		{Key: "late", Value: []byte("v"), Expires: now.Add(-time.Second)},
	}, map[string][]byte{"cursor": []byte("42"), "tracked": []byte("is a name like any other")})
	must(t, err)
	if len(skipped) != 1 || skipped[0] != 0 {
		t.Fatalf("skipped %v", skipped)
	}
	wantDirty(t, st, "up-mine=mine")
	for _, key := range []string{"theirs", "late"} {
		if statetest.One(t, st, key).Found {
			t.Errorf("%s is there", key)
		}
	}
	if e := statetest.One(t, st, "up-theirs"); string(e.Value) != "v" || e.ContentType != "text/plain" || !e.Expires.Equal(now.Add(time.Minute)) {
		t.Errorf("merged %+v", e)
	}
	must(t, s.Close())
	st = open(t, dir, store.Options{Clock: clock.Now}).State("s")
	if v, err := st.Meta(t.Context(), "cursor"); err != nil || string(v) != "42" {
		t.Errorf("meta %q, %v", v, err)
	}
	if v, err := st.Meta(t.Context(), "none"); err != nil || v != nil {
		t.Errorf("meta %q, %v", v, err)
	}
	must(t, st.Track(t.Context(), isUp))
	put(t, st, "up-theirs", "changed here")
	c := wantDirty(t, st, "up-mine=mine up-theirs=changed here")[1]
	if c.Origin != "" || !c.Expires.IsZero() {
		t.Errorf("change %+v", c)
	}
}

// TestStore_Sweep removes what has expired, in batches, and leaves the rest.
func TestStore_Sweep(t *testing.T) {
	clock := statetest.NewClock(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC))
	dir := t.TempDir()
	s := open(t, dir, store.Options{Clock: clock.Now})
	a, b := s.State("a"), s.State("b")
	var ops []state.Op
	for i := range 600 {
		ops = append(ops, state.Op{Key: fmt.Sprintf("k%03d", i), Value: []byte("v"), TTL: time.Duration(1+i%2) * time.Minute})
	}
	must(t, a.Apply(t.Context(), ops))
	must(t, b.Apply(t.Context(), ops[:100]))
	put(t, b, "k000", "no longer expires")
	del(t, b, "k001")
	if v, x, _ := b.Records(); v != 99 || x != 98 {
		t.Errorf("b has %d records, %d expiries", v, x)
	}
	clock.Add(90 * time.Second)
	before := s.IOStats().Commits
	must(t, s.Sweep())
	if n := s.IOStats().Commits - before; n != 2 { // 349 records in batches of 256
		t.Errorf("%d commits", n)
	}
	if v, x, _ := a.Records(); v != 300 || x != 300 {
		t.Errorf("a has %d records, %d expiries", v, x)
	}
	if v, x, _ := b.Records(); v != 50 || x != 49 {
		t.Errorf("b has %d records, %d expiries", v, x)
	}
	must(t, s.Sweep())
	if n := s.IOStats().Commits - before; n != 2 {
		t.Errorf("sweeping nothing made %d commits", n-2)
	}
}

// TestStore_ClockSteps lets time pass, clocks step, and devices restart with and without a right clock.
func TestStore_ClockSteps(t *testing.T) {
	right := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	unset := time.Unix(30, 0)
	for _, c := range []struct {
		name        string
		from, to    time.Time
		restart     bool
		live        bool // after the step, with a minute to live
		liveAfter50 bool // and 50 seconds later
		expiresIn   time.Duration
	}{
		{"Runs", right, right.Add(30 * time.Second), false, true, false, 30 * time.Second},
		{"SetWhileRunning", unset, right, false, true, true, time.Minute},
		{"StepBack", right, right.Add(-time.Hour), false, true, true, time.Minute},
		{"LostWhileRunning", right, unset, false, true, true, time.Minute},
		{"RestartShortly", right, right.Add(30 * time.Second), true, true, false, 30 * time.Second},
		{"RestartLate", right, right.Add(time.Hour), true, false, false, 0},
		{"RestartWithoutClock", right, unset, true, true, true, time.Minute},
		{"RestartWithClockAtLast", unset, right, true, true, true, time.Minute},
		{"RestartStepBack", right, right.Add(-time.Hour), true, true, true, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			clock := statetest.NewClock(c.from)
			s := open(t, dir, store.Options{Clock: clock.Now})
			st := s.State("s")
			must(t, st.Apply(t.Context(), []state.Op{{Key: "k", Value: []byte("v"), TTL: time.Minute}}))
			if c.restart {
				must(t, s.Close())
			}
			clock.Add(c.to.Sub(c.from))
			if c.restart {
				st = open(t, dir, store.Options{Clock: clock.Now}).State("s")
			}
			e := statetest.One(t, st, "k")
			if e.Found != c.live {
				t.Fatalf("found %t", e.Found)
			}
			if c.live && !e.Expires.Equal(c.to.Add(c.expiresIn)) {
				t.Errorf("expires %v from now", e.Expires.Sub(c.to))
			}
			clock.Add(50 * time.Second)
			if e := statetest.One(t, st, "k"); e.Found != c.liveAfter50 {
				t.Errorf("50 seconds later: found %t", e.Found)
			}
		})
	}
}
