package store

import (
	"encoding/binary"
	"time"
)

// ageClock counts the age of events in milliseconds of the store's ttl clock (clock.go), so that a wall clock that jumps
// from 1970 to today ages nothing: each frame carries the reading at which it was accepted. A crash may set the ttl clock
// back, and a new state.db starts it anew, perhaps years ahead. The offset makes it go on from the newest event: time
// that nobody can tell does not count, and events are kept longer, never shorter.
type ageClock struct {
	clock  func() (ms int64, wall time.Time)
	offset int64
	saved  bool
}

// read returns the age clock and the wall time.
func (c *ageClock) read() (int64, time.Time) {
	ms, wall := c.clock()
	return ms + c.offset, wall
}

// begin sets the offset.
func (c *ageClock) begin(meta map[string][]byte, lanes []*lane) {
	b, known := meta[metaAge]
	if known && len(b) == 8 {
		c.offset, c.saved = int64(binary.LittleEndian.Uint64(b)), true
	}
	now, _ := c.read()
	newest := int64(0)
	for _, l := range lanes {
		newest = max(newest, l.newestAge())
	}
	if newest > 0 && (now < newest || !known) {
		c.offset += newest - now
		c.saved = false
	}
}

// newestAge is when the newest event was accepted, by the age clock; 0 if there is none.
func (l *lane) newestAge() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segs) == 0 {
		return 0
	}
	if s := l.segs[len(l.segs)-1].sum; s != nil && s.events > 0 {
		return s.lastAge
	}
	return 0
}

func (c *ageClock) collect(puts map[string][]byte) {
	if c.saved {
		return
	}
	c.saved = true // if saving fails, the newest event sets it again
	puts[metaAge] = binary.LittleEndian.AppendUint64(nil, uint64(c.offset))
}
