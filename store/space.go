package store

import (
	"encoding/binary"
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
	spaceEvery     = time.Millisecond
	defaultReserve = 8 << 20
)

func newSpaceGuard(dir string, reserve int64) *spaceGuard {
	g := &spaceGuard{dir: dir, reserve: max(reserve, 0), start: time.Now()}
	g.checked.Store(-int64(spaceEvery))
	if reserve == 0 {
		g.reserve = defaultReserve
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil {
			g.reserve = min(g.reserve, int64(st.Blocks*uint64(st.Bsize)/50))
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
	below := unix.Statfs(g.dir, &st) == nil && int64(st.Bavail*uint64(st.Bsize)) < g.reserve
	g.below.Store(below)
	return below
}

// full notes that the disk was found full, so that the next look is a real one.
func (g *spaceGuard) full() { g.checked.Store(-int64(spaceEvery)) }

// freePagesKept is how many free pages of state.db writes leave to deletes and cursors while the reserve is touched: a
// bbolt file does not shrink, so that deleting makes room within it and not in the file system.
const freePagesKept = 256

// hasFreePages reports whether more than n pages of state.db are free. It reads two pages, so it is for rare use.
func (s *Store) hasFreePages(n uint64) bool {
	st, err := s.file.Stat()
	if err != nil {
		return false
	}
	metas := readMetas(s.file, st.Size())
	if len(metas) == 0 || metas[0].freelist == noFreelist {
		return false
	}
	var b [pageHeader + 8]byte
	if _, err := s.file.ReadAt(b[:], int64(metas[0].freelist)*metas[0].pageSize); err != nil {
		return false
	}
	count := uint64(binary.NativeEndian.Uint16(b[10:]))
	if count == 0xFFFF {
		count = binary.NativeEndian.Uint64(b[pageHeader:])
	}
	return count > n
}
