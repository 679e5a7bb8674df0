package store_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/store"
)

const (
	benchKeys  = 10_000
	benchValue = 256
)

func benchKey(i uint64) string { return fmt.Sprintf("app||key%06d", i*7919%benchKeys) }

// BenchmarkSet compares durable sets with the same records put into bbolt by the same number of writers, whose commits
// are grouped in the plainest way.
func BenchmarkSet(b *testing.B) {
	for _, c := range []int{1, 2, 32} {
		b.Run(fmt.Sprintf("edged/c%d", c), func(b *testing.B) { benchEdged(b, c) })
		b.Run(fmt.Sprintf("raw-bbolt-grouped/c%d", c), func(b *testing.B) { benchRaw(b, c) })
	}
}

// writers runs set b.N times from c goroutines.
func writers(b *testing.B, c int, set func(i uint64) error) {
	var next atomic.Uint64
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	before := processTime()
	for range c {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := next.Add(1); i <= uint64(b.N); i = next.Add(1) {
				if err := set(i); err != nil {
					b.Error(err)
					return
				}
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(processTime()-before)/float64(b.N), "cpu-ns/op")
}

// processTime is what this process has used so far.
func processTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchEdged(b *testing.B, c int) {
	s := open(b, b.TempDir(), store.Options{})
	st := s.State("bench")
	fill(b, st)
	value := make([]byte, benchValue)
	before := s.IOStats()
	writers(b, c, func(i uint64) error {
		return st.Apply(b.Context(), []state.Op{{Key: benchKey(i), Value: value}})
	})
	after := s.IOStats()
	b.ReportMetric(float64(after.BytesWritten-before.BytesWritten)/float64(b.N), "disk-B/op")
	b.ReportMetric(float64(after.Fsyncs-before.Fsyncs)/float64(b.N), "fsyncs/op")
}

func fill(b testing.TB, st *store.State) {
	ops := make([]state.Op, benchKeys)
	for i := range ops {
		ops[i] = state.Op{Key: benchKey(uint64(i)), Value: make([]byte, benchValue)}
	}
	if err := st.Apply(b.Context(), ops); err != nil {
		b.Fatal(err)
	}
}

func benchRaw(b *testing.B, c int) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoStatistics: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	name, value := []byte("bench"), make([]byte, benchValue+40)
	put := func(tx *bbolt.Tx, i uint64) error { return tx.Bucket(name).Put([]byte(benchKey(i)), value) }
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
		for i := range uint64(benchKeys) {
			if err := put(tx, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if c == 1 {
		writers(b, c, func(i uint64) error { return db.Update(func(tx *bbolt.Tx) error { return put(tx, i) }) })
		return
	}
	type request struct {
		i    uint64
		done chan error
	}
	requests := make(chan request, c)
	go func() {
		for first := range requests {
			group := []request{first}
			for more := true; more && len(group) < c; {
				select {
				case r, ok := <-requests:
					if more = ok; ok {
						group = append(group, r)
					}
				default:
					more = false
				}
			}
			err := db.Update(func(tx *bbolt.Tx) error {
				for _, r := range group {
					if err := put(tx, r.i); err != nil {
						return err
					}
				}
				return nil
			})
			for _, r := range group {
				r.done <- err
			}
		}
	}()
	pool := sync.Pool{New: func() any { return make(chan error, 1) }}
	writers(b, c, func(i uint64) error {
		done := pool.Get().(chan error)
		requests <- request{i, done}
		err := <-done
		pool.Put(done)
		return err
	})
	close(requests)
}

func BenchmarkGet(b *testing.B) {
	st := open(b, b.TempDir(), store.Options{}).State("bench")
	fill(b, st)
	keys := make([]string, 1024)
	for i := range keys {
		keys[i] = benchKey(uint64(i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		got, err := st.Get(b.Context(), keys[i%len(keys)])
		if err != nil || !got[0].Found {
			b.Fatal(got, err)
		}
	}
}

func BenchmarkGetParallel(b *testing.B) {
	st := open(b, b.TempDir(), store.Options{}).State("bench")
	fill(b, st)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := uint64(0); pb.Next(); i++ {
			got, err := st.Get(b.Context(), benchKey(i))
			if err != nil || !got[0].Found {
				b.Error(got, err)
				return
			}
		}
	})
}
