package main

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

const header = "                             c     ops/s   p50 us   p99 us   cpu us/op   bytes/op  syncs/op"

// usage is what a server process has used so far.
type usage struct {
	cpu    time.Duration
	bytes  int64 // written to the disk
	syncs  float64
	valid  bool
	synced bool // whether syncs is known
}

// result is one measurement.
type result struct {
	ops     int
	elapsed time.Duration
	lat     []time.Duration // sorted
	before  usage
	after   usage
}

func (r result) rate() float64 { return float64(r.ops) / r.elapsed.Seconds() }

func (r result) percentile(p float64) time.Duration {
	if len(r.lat) == 0 {
		return 0
	}
	return r.lat[min(len(r.lat)-1, int(p*float64(len(r.lat))))]
}

func (r result) print(name string, c int, note string) {
	fmt.Printf("%-27s %3d %9.0f %8.0f %8.0f", name, c, r.rate(), micros(r.percentile(0.50)), micros(r.percentile(0.99)))
	n := float64(max(1, r.ops))
	if r.after.valid {
		fmt.Printf("   %9.1f  %9.0f", micros(r.after.cpu-r.before.cpu)/n, float64(r.after.bytes-r.before.bytes)/n)
	} else {
		fmt.Printf("   %9s  %9s", "", "")
	}
	if r.after.synced {
		fmt.Printf("  %8.3f", (r.after.syncs-r.before.syncs)/n)
	}
	fmt.Printf("   %s\n", note)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// hammer runs c workers, each calling its own op again and again, for the given time.
func hammer(c int, length time.Duration, worker func(i int) (op func() error, done func(), err error)) (result, error) {
	var (
		mu    sync.Mutex
		all   []time.Duration
		first error
		wg    sync.WaitGroup
	)
	ops := make([]func() error, c)
	for i := range c {
		op, done, err := worker(i)
		if err != nil {
			return result{}, err
		}
		defer done()
		ops[i] = op
	}
	begin := time.Now()
	end := begin.Add(length)
	for _, op := range ops {
		wg.Go(func() {
			lat := make([]time.Duration, 0, 1<<16)
			var err error
			for at := time.Now(); at.Before(end) && err == nil; {
				err = op()
				now := time.Now()
				lat = append(lat, now.Sub(at))
				at = now
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, lat...)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	slices.Sort(all)
	return result{ops: len(all), elapsed: elapsed, lat: all}, first
}
