package edge

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// quietTime is how long no garbage collection must have run before memory is given back.
const quietTime = time.Second

// trimmer gives memory that a burst of work took back to the system when the work is over: a device has other programs.
// It follows the garbage collector, so that a daemon that does nothing is never woken by it.
type trimmer struct {
	mu    sync.Mutex
	timer *time.Timer
	upto  uint64 // collections that are accounted for, those that trimming causes included
	ended bool
}

// trimMemory works until ctx ends.
func trimMemory(ctx context.Context) {
	t := &trimmer{}
	t.timer = time.AfterFunc(quietTime, t.trim)
	t.watch()
	<-ctx.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	t.timer.Stop()
}

// watch has collected called after the next collection: the value below is garbage by then.
func (t *trimmer) watch() {
	runtime.AddCleanup(&[16]byte{}, func(t *trimmer) { t.collected() }, t)
}

func (t *trimmer) collected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	if collections() > t.upto {
		t.timer.Reset(quietTime)
	}
	t.watch()
}

func (t *trimmer) trim() {
	debug.FreeOSMemory()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.upto = collections()
}

func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
