package store

import (
	"encoding/binary"
	"sync"
	"time"
)

// ttlClock measures time for expiry. It only goes forward, and it counts time that has passed rather than what the wall
// clock says: a clock that steps from 1970 to today expires nothing, a step back keeps nothing alive, and across a
// restart it goes on from where it was, plus the time the device was off if the wall clock was right before and after.
// When it was not, time spent switched off does not count, so that a value may live longer than asked, never shorter.
// Expiry times are kept in this clock's milliseconds and shown in wall time. It is safe for concurrent use.
type ttlClock struct {
	wall func() time.Time

	mu    sync.Mutex
	now   int64         // ms at the last reading
	rest  time.Duration // less than a millisecond, not yet in now
	last  time.Time     // the last reading of wall
	start time.Time     // the first
	boot  time.Duration // time since boot at start; 0: unknown
	slept time.Duration // of the time since start, what the monotonic clock did not count
}

// trustedSince tells a set clock from one that counts from an epoch: no device runs this before it.
const trustedSince = 1704067200 // 2024-01-01

func trusted(t time.Time) bool { return t.Unix() >= trustedSince }

// newTTLClock starts the clock from its anchor, or from the wall clock if there is none.
func newTTLClock(wall func() time.Time, anchor []byte) *ttlClock {
	c := &ttlClock{wall: wall}
	w := wall()
	c.start, c.last, c.boot = w, w, sinceBoot()
	if len(anchor) != 16 {
		c.now = max(w.UnixMilli(), 0)
		return c
	}
	c.now = int64(binary.BigEndian.Uint64(anchor))
	c.now += offTime(time.UnixMilli(int64(binary.BigEndian.Uint64(anchor[8:]))), w).Milliseconds()
	return c
}

// offTime is how long the device was off between two wall readings, as far as they can tell.
func offTime(before, after time.Time) time.Duration {
	if !trusted(before) || !trusted(after) || after.Before(before) {
		return 0
	}
	return after.Sub(before)
}

// read returns the clock and the wall time it was read at.
func (c *ttlClock) read() (now int64, wall time.Time) {
	w := c.wall()
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.elapsed(w); d > 0 {
		d += c.rest
		c.now += d.Milliseconds()
		c.rest = d % time.Millisecond
	}
	c.last = w
	return c.now, w
}

// elapsed is the time since the last reading. Readings of time.Now carry the monotonic clock, which Sub uses; it stands
// still while the device sleeps, which shows as a wall clock that ran ahead and is settled by the time since boot.
// Readings without a monotonic part count what the wall says, except for the step of a clock being set.
func (c *ttlClock) elapsed(w time.Time) time.Duration {
	d := w.Sub(c.last)
	if !monotonic(w) {
		if trusted(c.last) != trusted(w) {
			return 0
		}
		return d
	}
	if step := w.Round(0).Sub(c.last.Round(0)) - d; step > time.Second && c.boot > 0 {
		if slept := sinceBoot() - c.boot - w.Sub(c.start) - c.slept; slept > step/2 {
			c.slept += slept
			d += slept
		}
	}
	return d
}

// monotonic reports whether a reading carries the monotonic clock, which Round strips and Equal would ignore.
func monotonic(t time.Time) bool {
	return t != t.Round(0) // the representations are compared, not the instants
}

// anchor is what newTTLClock needs to go on after a restart.
func (c *ttlClock) anchor() []byte {
	now, wall := c.read()
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(now))
	return binary.BigEndian.AppendUint64(b, uint64(wall.UnixMilli()))
}
