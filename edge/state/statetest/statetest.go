// Package statetest is the contract of state.Store as tests: every implementation, components included, runs them.
package statetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/state"
)

// Open returns an empty store whose clock is the given one, or the real one if that is nil. It registers what must be
// cleaned up with t.
type Open func(t *testing.T, clock func() time.Time) state.Store

// Run runs the contract suite against stores that open makes.
func Run(t *testing.T, open Open) {
	t.Run("Get", func(t *testing.T) { testGet(t, open) })
	t.Run("ETag", func(t *testing.T) { testETag(t, open) })
	t.Run("Delete", func(t *testing.T) { testDelete(t, open) })
	t.Run("Transaction", func(t *testing.T) { testTransaction(t, open) })
	t.Run("ApplyEach", func(t *testing.T) { testApplyEach(t, open) })
	t.Run("TTL", func(t *testing.T) { testTTL(t, open) })
	t.Run("Concurrency", func(t *testing.T) { testConcurrency(t, open) })
	t.Run("Scan", func(t *testing.T) { testScan(t, open) })
	t.Run("Prefix", func(t *testing.T) { testPrefix(t, open) })
	t.Run("Model", func(t *testing.T) { testModel(t, open) })
}

// Put saves a key and returns its ETag.
func Put(t testing.TB, s state.Store, key, value string) string {
	t.Helper()
	must(t, s.Apply(t.Context(), []state.Op{{Key: key, Value: []byte(value)}}))
	return One(t, s, key).ETag
}

// One reads a key.
func One(t testing.TB, s state.Store, key string) state.Entry {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	must(t, err)
	if len(got) != 1 || got[0].Key != key {
		t.Fatalf("Get(%q) = %+v", key, got)
	}
	return got[0]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func wantValue(t testing.TB, s state.Store, key, value string) {
	t.Helper()
	if e := One(t, s, key); !e.Found || string(e.Value) != value {
		t.Fatalf("%s holds %q (found %t), want %q", key, e.Value, e.Found, value)
	}
}

func wantAbsent(t testing.TB, s state.Store, key string) {
	t.Helper()
	if e := One(t, s, key); e.Found || e.Value != nil || e.ETag != "" {
		t.Fatalf("%s holds %+v, want nothing", key, e)
	}
}

func testGet(t *testing.T, open Open) {
	s := open(t, nil)
	t.Run("Absent", func(t *testing.T) { wantAbsent(t, s, "none") })
	t.Run("NoKeys", func(t *testing.T) {
		got, err := s.Get(t.Context())
		must(t, err)
		if len(got) != 0 {
			t.Fatalf("got %v", got)
		}
	})
	t.Run("Values", func(t *testing.T) {
		for _, v := range []string{"", "v", "\x00\xff", strings.Repeat("x", 1<<20)} {
			Put(t, s, "k", v)
			wantValue(t, s, "k", v)
		}
	})
	t.Run("Keys", func(t *testing.T) {
		for _, k := range []string{"a||b", "ключ", " ", "\x00", "\xff\xfe", strings.Repeat("k", 1024)} {
			Put(t, s, k, "of "+k)
			wantValue(t, s, k, "of "+k)
		}
	})
	t.Run("Order", func(t *testing.T) {
		Put(t, s, "k1", "1")
		Put(t, s, "k3", "3")
		got, err := s.Get(t.Context(), "k3", "k2", "k1", "k3")
		must(t, err)
		text := ""
		for _, e := range got {
			text += e.Key + "=" + string(e.Value) + " "
		}
		if text != "k3=3 k2= k1=1 k3=3 " {
			t.Fatal(text)
		}
	})
	t.Run("ContentType", func(t *testing.T) {
		must(t, s.Apply(t.Context(), []state.Op{{Key: "ct", Value: []byte("{}"), ContentType: "application/json"}}))
		if e := One(t, s, "ct"); e.ContentType != "application/json" {
			t.Fatalf("content type %q", e.ContentType)
		}
	})
	t.Run("ValueIsCallers", func(t *testing.T) {
		in := []byte("mine")
		must(t, s.Apply(t.Context(), []state.Op{{Key: "own", Value: in}}))
		copy(in, "XXXX")
		out := One(t, s, "own").Value
		copy(out, "YYYY")
		wantValue(t, s, "own", "mine")
	})
	t.Run("ErrCanceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Get(ctx, "k")
		wantError(t, err, context.Canceled)
		wantError(t, s.Apply(ctx, []state.Op{{Key: "canceled"}}), context.Canceled)
		wantAbsent(t, s, "canceled")
	})
	t.Run("ErrEmptyKey", func(t *testing.T) {
		if s.Apply(t.Context(), []state.Op{{Key: "", Value: []byte("v")}}) == nil {
			t.Fatal("an empty key was accepted")
		}
	})
}

func testETag(t *testing.T, open Open) {
	s := open(t, nil)
	first := Put(t, s, "k", "1")
	second := Put(t, s, "k", "2")
	a, err1 := strconv.ParseUint(first, 10, 64)
	b, err2 := strconv.ParseUint(second, 10, 64)
	must(t, errors.Join(err1, err2))
	if b <= a {
		t.Fatalf("etag went from %d to %d", a, b)
	}
	with := func(key, etag string) state.Op {
		return state.Op{Key: key, Value: []byte("with"), ETag: etag, HasETag: true}
	}
	t.Run("Mismatch", func(t *testing.T) {
		wantError(t, s.Apply(t.Context(), []state.Op{with("k", first)}), state.ErrETagMismatch)
		wantValue(t, s, "k", "2")
	})
	t.Run("OK", func(t *testing.T) {
		must(t, s.Apply(t.Context(), []state.Op{with("k", second)}))
		wantValue(t, s, "k", "with")
	})
	t.Run("AbsentKey", func(t *testing.T) {
		wantError(t, s.Apply(t.Context(), []state.Op{with("absent", second)}), state.ErrETagMismatch)
		wantAbsent(t, s, "absent")
	})
	t.Run("NotANumber", func(t *testing.T) {
		err := s.Apply(t.Context(), []state.Op{with("k", "bad-etag")})
		if !errors.Is(err, state.ErrETagInvalid) && !errors.Is(err, state.ErrETagMismatch) {
			t.Fatalf("error is %v", err)
		}
	})
	t.Run("EmptyIsNone", func(t *testing.T) {
		must(t, s.Apply(t.Context(), []state.Op{with("k", "")}))
		must(t, s.Apply(t.Context(), []state.Op{with("new", "")}))
	})
	t.Run("FirstWrite", func(t *testing.T) {
		op := state.Op{Key: "fw", Value: []byte("1"), Concurrency: state.FirstWrite}
		must(t, s.Apply(t.Context(), []state.Op{op}))
		wantError(t, s.Apply(t.Context(), []state.Op{op}), state.ErrETagMismatch)
		op.ETag, op.HasETag = One(t, s, "fw").ETag, true
		must(t, s.Apply(t.Context(), []state.Op{op}))
		op.Kind, op.HasETag = state.Delete, false
		wantError(t, s.Apply(t.Context(), []state.Op{op}), state.ErrETagMismatch)
		wantValue(t, s, "fw", "1")
	})
	t.Run("LastWriteChecksAGivenETag", func(t *testing.T) {
		op := with("k", first)
		op.Concurrency = state.LastWrite
		wantError(t, s.Apply(t.Context(), []state.Op{op}), state.ErrETagMismatch)
	})
	t.Run("NotUsedAgain", func(t *testing.T) {
		old := Put(t, s, "again", "1")
		must(t, s.Apply(t.Context(), []state.Op{{Kind: state.Delete, Key: "again"}}))
		if fresh := Put(t, s, "again", "2"); fresh == old {
			t.Fatalf("etag %s was used again", old)
		}
		wantError(t, s.Apply(t.Context(), []state.Op{with("again", old)}), state.ErrETagMismatch)
	})
}

func testDelete(t *testing.T, open Open) {
	s := open(t, nil)
	del := func(key, etag string) error {
		return s.Apply(t.Context(), []state.Op{{Kind: state.Delete, Key: key, ETag: etag, HasETag: etag != ""}})
	}
	must(t, del("absent", ""))
	wantError(t, del("absent", "1"), state.ErrETagMismatch)
	etag := Put(t, s, "k", "v")
	wantError(t, del("k", etag+"0"), state.ErrETagMismatch)
	wantValue(t, s, "k", "v")
	must(t, del("k", etag))
	wantAbsent(t, s, "k")
	must(t, del("k", ""))
}

func testTransaction(t *testing.T, open Open) {
	s := open(t, nil)
	Put(t, s, "a", "old")
	Put(t, s, "b", "old")
	t.Run("AllOrNone", func(t *testing.T) {
		err := s.Apply(t.Context(), []state.Op{
			{Key: "a", Value: []byte("new")}, {Kind: state.Delete, Key: "b"},
			{Key: "c", Value: []byte("new"), ETag: "7", HasETag: true}, {Key: "d", Value: []byte("new")},
		})
		wantError(t, err, state.ErrETagMismatch)
		var op *state.OpError
		if !errors.As(err, &op) || op.Index != 2 || op.Key != "c" {
			t.Fatalf("error is %#v", err)
		}
		wantValue(t, s, "a", "old")
		wantValue(t, s, "b", "old")
		wantAbsent(t, s, "d")
	})
	t.Run("OK", func(t *testing.T) {
		must(t, s.Apply(t.Context(), []state.Op{
			{Key: "a", Value: []byte("new"), ETag: One(t, s, "a").ETag, HasETag: true},
			{Kind: state.Delete, Key: "b"}, {Key: "c", Value: []byte("new")},
		}))
		wantValue(t, s, "a", "new")
		wantAbsent(t, s, "b")
		wantValue(t, s, "c", "new")
	})
	t.Run("OneKeyTwice", func(t *testing.T) {
		must(t, s.Apply(t.Context(), []state.Op{
			{Key: "twice", Value: []byte("1"), TTL: time.Hour}, {Key: "twice", Value: []byte("2")},
			{Key: "gone", Value: []byte("1")}, {Kind: state.Delete, Key: "gone"},
			{Kind: state.Delete, Key: "back"}, {Key: "back", Value: []byte("2")},
		}))
		wantValue(t, s, "twice", "2")
		if e := One(t, s, "twice"); !e.Expires.IsZero() {
			t.Fatalf("expires %v", e.Expires)
		}
		wantAbsent(t, s, "gone")
		wantValue(t, s, "back", "2")
	})
	t.Run("PreconditionsAreOfTheStateBefore", func(t *testing.T) {
		op := state.Op{Key: "before", Value: []byte("v"), Concurrency: state.FirstWrite}
		must(t, s.Apply(t.Context(), []state.Op{op, op}))
	})
	t.Run("Empty", func(t *testing.T) { must(t, s.Apply(t.Context(), nil)) })
}

func testApplyEach(t *testing.T, open Open) {
	s := open(t, nil)
	Put(t, s, "a", "old")
	errs := s.ApplyEach(t.Context(), []state.Op{
		{Key: "a", Value: []byte("new"), ETag: "7", HasETag: true},
		{Key: "b", Value: []byte("1")}, {Key: "b", Value: []byte("2")},
		{Key: "b", Value: []byte("3"), Concurrency: state.FirstWrite},
		{Kind: state.Delete, Key: "nothing"},
	})
	if len(errs) != 5 || errs[1] != nil || errs[2] != nil || errs[4] != nil {
		t.Fatalf("errors %v", errs)
	}
	wantError(t, errs[0], state.ErrETagMismatch)
	wantError(t, errs[3], state.ErrETagMismatch)
	wantValue(t, s, "a", "old")
	wantValue(t, s, "b", "2")
	if errs := s.ApplyEach(t.Context(), nil); len(errs) != 0 {
		t.Fatalf("errors %v", errs)
	}
}

// Clock is a wall clock that tests set. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at the given time.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func testTTL(t *testing.T, open Open) {
	for _, begin := range []time.Time{time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), time.Unix(100, 0)} {
		t.Run(strconv.Itoa(begin.Year()), func(t *testing.T) {
			clock := NewClock(begin)
			s := open(t, clock.Now)
			set := func(key string, ttl time.Duration) {
				must(t, s.Apply(t.Context(), []state.Op{{Key: key, Value: []byte("v"), TTL: ttl}}))
			}
			set("k", 10*time.Second)
			set("kept", 10*time.Second)
			set("forever", 0)
			if e := One(t, s, "k"); !e.Expires.Equal(begin.Add(10 * time.Second)) {
				t.Fatalf("expires %v", e.Expires)
			}
			clock.Add(9 * time.Second)
			wantValue(t, s, "k", "v")
			set("kept", 0) // a write without TTL takes it off
			etag := One(t, s, "k").ETag
			clock.Add(time.Second)
			wantAbsent(t, s, "k")
			wantValue(t, s, "kept", "v")
			wantValue(t, s, "forever", "v")
			op := state.Op{Key: "k", Value: []byte("w"), ETag: etag, HasETag: true}
			wantError(t, s.Apply(t.Context(), []state.Op{op}), state.ErrETagMismatch)
			must(t, s.Apply(t.Context(), []state.Op{{Key: "k", Value: []byte("w"), Concurrency: state.FirstWrite}}))
			wantValue(t, s, "k", "w")
			if e := One(t, s, "k"); !e.Expires.IsZero() {
				t.Fatalf("expires %v", e.Expires)
			}
		})
	}
}

// testConcurrency lets many writers count one key up with its ETag, and blindly write others: no increment may be lost.
func testConcurrency(t *testing.T, open Open) {
	s := open(t, nil)
	Put(t, s, "n", "0")
	const writers, increments = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for done := 0; done < increments; {
				e := One(t, s, "n")
				n, _ := strconv.Atoi(string(e.Value)) // the test below notices a wrong number
				err := s.Apply(t.Context(), []state.Op{
					{Key: "n", Value: []byte(strconv.Itoa(n + 1)), ETag: e.ETag, HasETag: true},
					{Key: fmt.Sprintf("w%d-%d", w, done), Value: []byte("x")},
				})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, state.ErrETagMismatch):
					t.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	wantValue(t, s, "n", strconv.Itoa(writers*increments))
	for w := range writers {
		for i := range increments {
			wantValue(t, s, fmt.Sprintf("w%d-%d", w, i), "x")
		}
	}
}
