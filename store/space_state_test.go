package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/edge/state/statetest"
	"github.com/edged-io/edged/store"
)

// smallDisk mounts a file system of the given size, or skips the test where that is not permitted.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// ballast takes space away until it is removed, all that there is if size is 0.
func ballast(t *testing.T, dir string, size int) (remove func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	must(t, err)
	for n := 0; size == 0 || n < size; n += 4096 {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break // full
		}
	}
	must(t, f.Close())
	return func() { must(t, os.Remove(path)) }
}

// fillUp writes values until one is refused, and returns how many were kept.
func fillUp(t *testing.T, st *store.State, prefix string, size int) int {
	t.Helper()
	for n := 0; ; n++ {
		err := st.Apply(t.Context(), []state.Op{{Key: fmt.Sprintf("%s%05d", prefix, n), Value: make([]byte, size)}})
		if err == nil {
			continue
		}
		if !errors.Is(err, fault.ErrStorageFull) {
			t.Fatalf("error is %v", err)
		}
		if statetest.One(t, st, fmt.Sprintf("%s%05d", prefix, n)).Found {
			t.Fatal("a refused write is there")
		}
		return n
	}
}

func checkFilled(t *testing.T, st *store.State, prefix string, n, size int) {
	t.Helper()
	for i := range n {
		if e := statetest.One(t, st, fmt.Sprintf("%s%05d", prefix, i)); len(e.Value) != size {
			t.Fatalf("write %d of %d is gone: %+v", i, n, e.Found)
		}
	}
}

// TestStore_FullDisk runs into a full disk without any reserve, at many places of a commit.
func TestStore_FullDisk(t *testing.T) {
	for _, size := range []int{100, 3000, 50_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := smallDisk(t, 6<<20)
			data := filepath.Join(dir, "data")
			s, err := store.Open(data, store.Options{ReserveBytes: -1})
			must(t, err)
			st := s.State("s")
			put(t, st, "before", "v")
			for round := range 10 {
				remove := ballast(t, dir, 4<<20+round*37_000)
				prefix := fmt.Sprintf("r%d-", round)
				n := fillUp(t, st, prefix, size)
				checkFilled(t, st, prefix, n, size)
				remove()
				put(t, st, prefix+"after", "v") // space returned: no restart is needed
				if err := s.Check(t.Context()); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				var ops []state.Op
				for i := range n {
					ops = append(ops, state.Op{Kind: state.Delete, Key: fmt.Sprintf("%s%05d", prefix, i)})
				}
				must(t, st.Apply(t.Context(), ops))
			}
			// A full disk keeps nobody from starting.
			ballast(t, dir, 0)
			must(t, s.Close())
			s, err = store.Open(data, store.Options{ReserveBytes: -1})
			must(t, err)
			if e := statetest.One(t, s.State("s"), "before"); string(e.Value) != "v" || len(s.Quarantined()) != 0 {
				t.Fatalf("after a restart: %+v, %v", e, s.Quarantined())
			}
			must(t, s.Check(t.Context()))
			must(t, s.Close())
		})
	}
}

// TestStore_Reserve keeps deletes and meta writes going while upserts are refused.
func TestStore_Reserve(t *testing.T) {
	dir := smallDisk(t, 12<<20)
	data := filepath.Join(dir, "data")
	s, err := store.Open(data, store.Options{ReserveBytes: 3 << 20})
	must(t, err)
	defer s.Close()
	st := s.State("s")
	const size = 8000
	n := fillUp(t, st, "k", size)
	checkFilled(t, st, "k", n, size)
	var fs unix.Statfs_t
	must(t, unix.Statfs(dir, &fs))
	if free := int64(fs.Bavail * uint64(fs.Bsize)); free < 2<<20 {
		t.Errorf("%d bytes are free: the reserve was used up", free)
	}
	errs := st.ApplyEach(t.Context(), []state.Op{{Key: "new", Value: make([]byte, size)}, {Kind: state.Delete, Key: "k00000"}})
	if !errors.Is(errs[0], fault.ErrStorageFull) || errs[1] != nil {
		t.Fatalf("errors %v", errs)
	}
	if _, err := st.Merge(t.Context(), nil, map[string][]byte{"cursor": []byte("7")}); err != nil {
		t.Errorf("meta: %v", err)
	}
	for i := range n {
		must(t, st.Apply(t.Context(), []state.Op{{Kind: state.Delete, Key: fmt.Sprintf("k%05d", i)}}))
	}
	// The file does not shrink, yet what was deleted can be written again.
	if again := fillUp(t, st, "again", size); again < n/2 {
		t.Errorf("%d values fit at first, %d after all were deleted", n, again)
	}
	must(t, s.Check(t.Context()))
}
