package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/edge/state/statetest"
	"github.com/edged-io/edged/store"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t testing.TB, st *store.State, key, value string) {
	t.Helper()
	must(t, st.Apply(t.Context(), []state.Op{{Key: key, Value: []byte(value)}}))
}

func TestOpen(t *testing.T) {
	t.Run("CreatesFolder", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "a", "b")
		open(t, dir, store.Options{})
		info, err := os.Stat(dir)
		must(t, err)
		if info.Mode().Perm() != 0o700 {
			t.Errorf("mode %v", info.Mode())
		}
	})
	t.Run("ErrLocked", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, store.Options{})
		_, err := store.Open(dir, store.Options{})
		var locked *store.LockedError
		if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), dir) {
			t.Fatalf("error is %v", err)
		}
		must(t, s.Close())
		must(t, open(t, dir, store.Options{}).Close())
	})
	t.Run("ErrNotAFolder", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(file, nil, 0o600))
		if _, err := store.Open(file, store.Options{}); err == nil {
			t.Fatal("opened a file")
		}
	})
	t.Run("NewerFormat", func(t *testing.T) {
		dir := t.TempDir()
		must(t, open(t, dir, store.Options{}).Close())
		setMeta(t, dir, "format", "99")
		_, err := store.Open(dir, store.Options{})
		if err == nil || !strings.Contains(err.Error(), "newer") {
			t.Fatalf("error is %v", err)
		}
	})
}

func TestStore_Reopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	st := s.State("s")
	put(t, st, "k", "v")
	before, epoch := statetest.One(t, st, "k"), s.Epoch()
	must(t, st.Apply(t.Context(), []state.Op{{Kind: state.Delete, Key: "k"}}))
	put(t, st, "other", "v")
	must(t, s.Close())
	must(t, s.Close())
	if _, err := st.Get(t.Context(), "k"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Get on a closed store: %v", err)
	}
	if err := st.Apply(t.Context(), []state.Op{{Key: "k"}}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Apply on a closed store: %v", err)
	}

	s = open(t, dir, store.Options{})
	st = s.State("s")
	if s.Epoch() != epoch || len(epoch) != 32 {
		t.Errorf("epoch %q became %q", epoch, s.Epoch())
	}
	if e := statetest.One(t, st, "other"); string(e.Value) != "v" {
		t.Errorf("got %+v", e)
	}
	put(t, st, "k", "again")
	old, _ := strconv.ParseUint(before.ETag, 10, 64)
	now, _ := strconv.ParseUint(statetest.One(t, st, "k").ETag, 10, 64)
	if now <= old || now > 1<<53 {
		t.Errorf("etag %d came after %d", now, old)
	}
	if s.State("s") != st || s.State("other") == st {
		t.Error("State does not keep components apart")
	}
}

// TestStore_Groups lets callers that fail share groups with callers that succeed.
func TestStore_Groups(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{})
	st := s.State("s")
	put(t, st, "taken", "v")
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 30 {
				op := state.Op{Key: fmt.Sprintf("w%d-%d", w, i), Value: []byte("v")}
				bad := state.Op{Key: "taken", Concurrency: state.FirstWrite}
				if w%2 == 0 {
					if err := st.Apply(t.Context(), []state.Op{op}); err != nil {
						t.Error(err)
					}
				} else if err := st.Apply(t.Context(), []state.Op{op, bad}); !errors.Is(err, state.ErrETagMismatch) {
					t.Errorf("error is %v", err)
				}
			}
		}()
	}
	wg.Wait()
	for w := range 16 {
		for i := range 30 {
			if e := statetest.One(t, st, fmt.Sprintf("w%d-%d", w, i)); e.Found != (w%2 == 0) {
				t.Fatalf("writer %d, write %d: found %t", w, i, e.Found)
			}
		}
	}
	if io := s.IOStats(); io.Commits == 0 || io.Fsyncs != 2*io.Commits || io.BytesWritten < 4096*io.Commits {
		t.Errorf("stats %+v", io)
	}
}

// TestStore_CloseDuringWrites closes under load: what was acknowledged is there, and nobody hangs.
func TestStore_CloseDuringWrites(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	st := s.State("s")
	var wg sync.WaitGroup
	acked := make([]int, 8)
	for w := range acked {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				err := st.Apply(context.Background(), []state.Op{{Key: fmt.Sprintf("w%d-%d", w, acked[w])}})
				if errors.Is(err, store.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				acked[w]++
			}
		}()
	}
	for s.IOStats().Commits < 20 {
		time.Sleep(time.Millisecond)
	}
	must(t, s.Close())
	wg.Wait()
	st = open(t, dir, store.Options{}).State("s")
	for w, n := range acked {
		for i := range n {
			if !statetest.One(t, st, fmt.Sprintf("w%d-%d", w, i)).Found {
				t.Fatalf("writer %d: write %d of %d is lost", w, i, n)
			}
		}
	}
}

func TestStore_CommitInterval(t *testing.T) {
	s := open(t, t.TempDir(), store.Options{CommitInterval: 20 * time.Millisecond})
	st := s.State("s")
	put(t, st, "first", "v")
	begin, before := time.Now(), s.IOStats()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 3 {
				put(t, st, fmt.Sprintf("w%d-%d", w, i), "v")
			}
		}()
	}
	wg.Wait()
	commits := s.IOStats().Commits - before.Commits
	if most := uint64(time.Since(begin)/(20*time.Millisecond)) + 1; commits > most {
		t.Errorf("%d commits, at most %d fit", commits, most)
	}
}

// setMeta writes a key of the meta bucket of a closed database.
func setMeta(t testing.TB, dir, key, value string) {
	t.Helper()
	db, err := openBolt(filepath.Join(dir, "state.db"))
	must(t, err)
	must(t, putMeta(db, key, value))
	must(t, db.Close())
}

// TestOpen_Quarantine damages the file and opens it again.
func TestOpen_Quarantine(t *testing.T) {
	pristine := t.TempDir()
	s := open(t, pristine, store.Options{})
	fill(t, s.State("s"))
	epoch, etag := s.Epoch(), statetest.One(t, s.State("s"), benchKey(1)).ETag
	must(t, s.Close())
	file, err := os.ReadFile(filepath.Join(pristine, "state.db"))
	must(t, err)

	for name, damage := range map[string]func(b []byte) []byte{
		"MetaPages": func(b []byte) []byte { b[20] ^= 1; b[4096+20] ^= 1; return b },
		"Truncated": func(b []byte) []byte { return b[:len(b)/4] },
		"Zeros":     func(b []byte) []byte { clear(b); return b },
		"Text":      func([]byte) []byte { return []byte("this is not a database\n") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "state.db"), damage(append([]byte(nil), file...)), 0o600))
			s := open(t, dir, store.Options{})
			q := s.Quarantined()
			if len(q) != 1 || q[0].Reason == "" || q[0].Time.IsZero() {
				t.Fatalf("quarantined %+v", q)
			}
			if _, err := os.Stat(q[0].File); err != nil || !strings.HasPrefix(q[0].File, filepath.Join(dir, "state.db.corrupt-")) {
				t.Errorf("kept as %s: %v", q[0].File, err)
			}
			if s.Epoch() == epoch {
				t.Error("the epoch is the old one")
			}
			st := s.State("s")
			if statetest.One(t, st, benchKey(1)).Found {
				t.Error("the new database is not empty")
			}
			put(t, st, benchKey(1), "new")
			if statetest.One(t, st, benchKey(1)).ETag == etag {
				t.Error("an etag of the old database was used again")
			}
			must(t, s.Close())
			if again := open(t, dir, store.Options{}); len(again.Quarantined()) != 0 {
				t.Error("quarantined again")
			}
		})
	}
	t.Run("EmptyFile", func(t *testing.T) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, "state.db"), nil, 0o600))
		if s := open(t, dir, store.Options{}); len(s.Quarantined()) != 0 {
			t.Error("quarantined")
		}
	})
}

// smallDatabase returns the bytes of a database with n keys whose values are known.
func smallDatabase(t testing.TB, n int) []byte {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	st := s.State("s")
	var ops []state.Op
	for i := range n {
		ops = append(ops, state.Op{Key: fmt.Sprintf("key%05d", i), Value: fmt.Appendf(nil, "value of %05d, %s", i, strings.Repeat("x", 100))})
	}
	must(t, st.Apply(t.Context(), ops))
	put(t, st, "more", "v")
	must(t, s.Close())
	b, err := os.ReadFile(filepath.Join(dir, "state.db"))
	must(t, err)
	return b
}

// verify reads and writes a store that may be damaged. It may give errors, but never a wrong value, and never panic.
func verify(t *testing.T, s *store.Store, n int, what string) {
	t.Helper()
	st := s.State("s")
	for i := range n {
		key := fmt.Sprintf("key%05d", i)
		got, err := st.Get(t.Context(), key)
		if err == nil && got[0].Found && !strings.HasPrefix(string(got[0].Value), fmt.Sprintf("value of %05d, xxx", i)) {
			t.Fatalf("%s: %s holds %q", what, key, got[0].Value)
		}
	}
	_ = st.Scan(t.Context(), "", "", func(state.Entry) bool { return true })
	for i := range 5 {
		_ = st.Apply(t.Context(), []state.Op{{Key: fmt.Sprintf("key%05d", i*n/5), Value: []byte("new")}, {Kind: state.Delete, Key: fmt.Sprintf("key%05d", i*n/5+1)}})
	}
	_, _ = st.Dirty(t.Context(), 10)
}

// TestOpen_RandomDamage flips bytes anywhere in the file, before Open and while it is open.
func TestOpen_RandomDamage(t *testing.T) {
	const keys, rounds = 400, 150
	file := smallDatabase(t, keys)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("Live=%t", live), func(t *testing.T) {
			quarantined := 0
			for round := range rounds {
				b := append([]byte(nil), file...)
				offsets := make([]int, 1+rnd.IntN(4))
				for i := range offsets {
					offsets[i] = damageAt(rnd, b, live)
					b[offsets[i]] ^= byte(1 + rnd.IntN(255))
				}
				dir := t.TempDir()
				path := filepath.Join(dir, "state.db")
				first := b
				if live {
					first = file
				}
				must(t, os.WriteFile(path, first, 0o600))
				s, err := store.Open(dir, store.Options{})
				must(t, err)
				if live {
					f, err := os.OpenFile(path, os.O_WRONLY, 0)
					must(t, err)
					_, err = f.WriteAt(b[8192:], 8192)
					must(t, errors.Join(err, f.Close()))
				}
				verify(t, s, keys, fmt.Sprintf("round %d, offsets %v", round, offsets))
				quarantined += len(s.Quarantined())
				if err := s.Close(); err != nil && !live {
					t.Errorf("round %d, offsets %v: close: %v", round, offsets, err)
				}
			}
			t.Logf("%d of %d were quarantined", quarantined, rounds)
		})
	}
}

// damageAt chooses a byte of the file, every other time in a page's header or elements, which is where it hurts. With
// onlyLeaves it is one of a leaf page: a branch page that turns into a cycle under a mapped file, after it was checked, is
// more than bbolt can bear.
func damageAt(rnd *rand.Rand, b []byte, onlyLeaves bool) int {
	for {
		at := rnd.IntN(len(b))
		if rnd.IntN(2) == 0 {
			at = at&^4095 + rnd.IntN(256)
		}
		if !onlyLeaves || at >= 8192 && b[at&^4095+8] == 2 {
			return at
		}
	}
}

// TestStore_CheckRecords finds a record whose bytes are damaged though its page is well formed.
func TestStore_CheckRecords(t *testing.T) {
	file := smallDatabase(t, 50)
	at := strings.Index(string(file), "value of 00017")
	file[at] ^= 1
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "state.db"), file, 0o600))
	s, err := store.Open(dir, store.Options{})
	must(t, err)
	defer s.Close()
	if err := s.Check(t.Context()); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "key00017") {
		t.Errorf("check: %v", err)
	}
	st := s.State("s")
	if _, err := st.Get(t.Context(), "key00017"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("get: %v", err)
	}
	if e := statetest.One(t, st, "key00018"); !e.Found {
		t.Error("the neighbour is lost")
	}
	if s.IOStats().Damaged == 0 {
		t.Error("not counted")
	}
	put(t, st, "key00017", "written anew")
	must(t, s.Check(t.Context()))
}

// FuzzCheck feeds the check that Open makes with damaged files: it may only answer that they are damaged. Edits are a
// page, an offset (of two bytes) and a value each.
func FuzzCheck(f *testing.F) {
	file := smallDatabase(f, 200)
	f.Add([]byte{0, 0, 40, 7})
	f.Add([]byte{3, 0, 8, 1, 4, 0, 20, 255})
	f.Fuzz(func(t *testing.T, edits []byte) {
		b := append([]byte(nil), file...)
		for ; len(edits) >= 4; edits = edits[4:] {
			at := int(edits[0])*4096 + (int(edits[1])<<8|int(edits[2]))%4096
			b[at%len(b)] = edits[3]
		}
		store.SealMeta(b)
		if err := store.CheckBytes(b); err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("error is %v", err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	f.Add(store.EncodeState("k", []byte("value")), "k")
	f.Add(store.EncodeState("k", nil), "other")
	f.Add([]byte{1, 0, 0, 0, 0}, "")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		again, err := store.DecodeState(b, key)
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		if _, err := store.DecodeState(again, key); err != nil {
			t.Fatalf("what was encoded again is not valid: %v", err)
		}
	})
}
