package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

func openBenchJournal(b *testing.B, contracts ...pubsub.Contract) (*store.Store, pubsub.Journal) {
	b.Helper()
	s, err := store.Open(b.TempDir(), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	j, err := s.Journal("pubsub", contracts)
	if err != nil {
		b.Fatal(err)
	}
	return s, j
}

// rawLog is the reference: whoever writes takes all that waits, with one write and one fdatasync.
type rawLog struct {
	f  *os.File
	mu sync.Mutex
	// waiting is the next group; leading tells that one is being written.
	waiting rawGroup
	spare   rawGroup
	leading bool
	off     int64
}

type rawGroup struct {
	buf     []byte
	callers []chan bool
}

// append returns when b is on disk. A caller that is told true leads the next group.
func (l *rawLog) append(b []byte, wake chan bool) error {
	l.mu.Lock()
	l.waiting.buf = append(l.waiting.buf, b...)
	if l.leading {
		l.waiting.callers = append(l.waiting.callers, wake)
		l.mu.Unlock()
		if lead := <-wake; !lead {
			return nil
		}
		l.mu.Lock()
	}
	l.leading = true
	g := l.waiting
	l.waiting, l.spare = l.spare, rawGroup{}
	l.mu.Unlock()
	if _, err := l.f.WriteAt(g.buf, l.off); err != nil {
		return err
	}
	l.off += int64(len(g.buf))
	if err := syscall.Fdatasync(int(l.f.Fd())); err != nil {
		return err
	}
	for _, c := range g.callers {
		if c != wake {
			c <- false
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = rawGroup{g.buf[:0], g.callers[:0]}
	if l.leading = len(l.waiting.callers) > 0; l.leading {
		l.waiting.callers[0] <- true
	}
	return nil
}

// BenchmarkAppend compares publishing an event of 256 bytes with the same number of writers that append as much to a
// plain file.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []int{1, 32} {
		b.Run(fmt.Sprintf("raw/c%d", c), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			l := &rawLog{f: f}
			data := make([]byte, 256)
			parallel(b, c, func() func() error {
				wake := make(chan bool, 1)
				return func() error { return l.append(data, wake) }
			})
		})
		b.Run(fmt.Sprintf("edged/c%d", c), func(b *testing.B) {
			s, j := openBenchJournal(b)
			before := s.LogIO()
			parallel(b, c, func() func() error {
				data := make([]byte, 256)
				events := make([]pubsub.Event, 1)
				return func() error {
					events[0] = pubsub.Event{Topic: "sensors/temperature", Data: data, ContentType: "application/cloudevents+json"}
					return j.Append(context.Background(), events)
				}
			})
			io := s.LogIO()
			b.ReportMetric(float64(io.Fsyncs-before.Fsyncs)/float64(b.N), "fsyncs/op")
			b.ReportMetric(float64(io.BytesWritten-before.BytesWritten)/float64(b.N), "B-disk/op")
		})
	}
}

// parallel runs b.N operations by c goroutines and reports CPU time as well.
func parallel(b *testing.B, c int, worker func() func() error) {
	b.Helper()
	b.ReportAllocs()
	var wg sync.WaitGroup
	cpu := cpuTime()
	b.ResetTimer()
	for i := range c {
		n := b.N / c
		if i < b.N%c {
			n++
		}
		op := worker()
		wg.Go(func() {
			for range n {
				if err := op(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDeliver measures publishing by 32 writers to consumers that keep up, and reading what has piled up.
func BenchmarkDeliver(b *testing.B) {
	for _, consumers := range []int{1, 8} {
		b.Run(fmt.Sprintf("live/consumers%d", consumers), func(b *testing.B) {
			_, j := openBenchJournal(b)
			l := j.Lanes("t")[0]
			var wg sync.WaitGroup
			for i := range consumers {
				wg.Go(func() { drain(b, l, fmt.Sprintf("c%d", i), b.N) })
			}
			parallel(b, 32, publisher(j))
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
	b.Run("backlog", func(b *testing.B) {
		_, j := openBenchJournal(b, pubsub.Contract{Match: "#"})
		fillTopic(b, j, b.N)
		b.ReportAllocs()
		b.ResetTimer()
		drain(b, j.Lanes("t")[0], "c", b.N)
	})
}

func publisher(j pubsub.Journal) func() func() error {
	return func() func() error {
		data := make([]byte, 256)
		return func() error {
			return j.Append(context.Background(), []pubsub.Event{{Topic: "t", Data: data}})
		}
	}
}

func fillTopic(tb testing.TB, j pubsub.Journal, n int) {
	tb.Helper()
	data := make([]byte, 256)
	for n > 0 {
		events := make([]pubsub.Event, min(n, 2000))
		for i := range events {
			events[i] = pubsub.Event{Topic: "t", Data: data}
		}
		if err := j.Append(context.Background(), events); err != nil {
			tb.Fatal(err)
		}
		n -= len(events)
	}
}

func drain(tb testing.TB, l pubsub.Lane, consumer string, n int) {
	ctx := context.Background()
	cursor, err := l.Attach(ctx, consumer, "t", pubsub.Oldest)
	if err != nil {
		tb.Error(err)
		return
	}
	for got := 0; got < n; {
		events, scanned, err := l.Read(ctx, cursor.Head, "t", 64)
		if err != nil {
			tb.Error(err)
			return
		}
		got += len(events)
		cursor.Head = scanned
		l.Commit(consumer, cursor)
	}
}

// BenchmarkOpen shows that opening takes as long with a million events waiting as with none.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{0, 1_000_000} {
		b.Run(fmt.Sprintf("waiting%d", n), func(b *testing.B) {
			dir := b.TempDir()
			contracts := []pubsub.Contract{{Match: "#"}}
			open := func() (*store.Store, pubsub.Journal) {
				s, err := store.Open(dir, store.Options{})
				if err != nil {
					b.Fatal(err)
				}
				j, err := s.Journal("pubsub", contracts)
				if err != nil {
					b.Fatal(err)
				}
				return s, j
			}
			s, j := open()
			fillTopic(b, j, n)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for b.Loop() {
				s, j := open()
				b.StopTimer()
				_ = j
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
