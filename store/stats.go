package store

import (
	"sync/atomic"

	"go.etcd.io/bbolt"
)

// IOStats counts what state.db has cost since Open. Bytes are what was handed to the kernel; flash writes more.
type IOStats struct {
	Commits      uint64
	Fsyncs       uint64
	BytesWritten uint64
	Writes       uint64 // callers' changes in those commits
	Damaged      uint64 // records and pages found damaged
}

type ioCounters struct {
	commits, fsyncs, bytes, writes, damaged atomic.Uint64
}

// commit counts one bbolt commit: its pages, its meta page, and a sync after each.
func (c *ioCounters) commit(st bbolt.TxStats, pageSize, writes int) {
	c.commits.Add(1)
	c.fsyncs.Add(2)
	c.bytes.Add(uint64(st.GetPageAlloc()) + uint64(pageSize))
	c.writes.Add(uint64(writes))
}

// IOStats returns the counters.
func (s *Store) IOStats() IOStats {
	return IOStats{
		Commits: s.io.commits.Load(), Fsyncs: s.io.fsyncs.Load(), BytesWritten: s.io.bytes.Load(),
		Writes: s.io.writes.Load(), Damaged: s.io.damaged.Load(),
	}
}
