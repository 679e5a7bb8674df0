package store

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// spaceGuard watches the free space of the data folder's file system. It asks the kernel at most every spaceEvery, so
// that looking costs nothing on the way of a write. It is safe for concurrent use.
type spaceGuard struct {
	dir     string
	reserve int64
	checked atomic.Int64 // monotonic ns of the last look
	start   time.Time
	below   atomic.Bool
}

const (
	spaceEvery     = 50 * time.Millisecond
	defaultReserve = 8 << 20
)

func newSpaceGuard(dir string, reserve int64) *spaceGuard {
	g := &spaceGuard{dir: dir, reserve: max(reserve, 0), start: time.Now()}
	g.checked.Store(-int64(spaceEvery))
	if reserve == 0 {
		g.reserve = defaultReserve
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil {
			g.reserve = min(g.reserve, int64(st.Blocks)*int64(st.Bsize)/50)
		}
	}
	return g
}

// low reports whether less than the reserve is free. An error of statfs counts as enough: the write itself will tell.
func (g *spaceGuard) low() bool {
	if g.reserve == 0 {
		return false
	}
	now, last := int64(time.Since(g.start)), g.checked.Load()
	if now-last < int64(spaceEvery) || !g.checked.CompareAndSwap(last, now) {
		return g.below.Load()
	}
	var st unix.Statfs_t
	below := unix.Statfs(g.dir, &st) == nil && int64(st.Bavail)*int64(st.Bsize) < g.reserve
	g.below.Store(below)
	return below
}

// full notes that the disk was found full, so that the next look is a real one.
func (g *spaceGuard) full() { g.checked.Store(-int64(spaceEvery)) }
