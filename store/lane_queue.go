package store

import (
	"runtime"
	"sync"
)

// appendCall is one Append, or one caller that wants to be leader, in a lane's queue.
type appendCall struct {
	frame     []byte // without sequence
	sum       uint32 // of the payload
	count     int
	age       int64
	topics    []callTopic
	exclusive bool

	first uint64 // the result: the sequence of the first event
	err   error

	lead bool          // set before wake: the caller is leader now
	wake chan struct{} // capacity 1
}

// callTopic is a run of events of one topic in a call.
type callTopic struct {
	topic  string
	offset int // of the first event
	events int
	bytes  int
}

// laneQueue makes groups. Whoever finds no leader becomes leader, at once and on its own goroutine; whoever comes
// meanwhile waits, and the first of those leads the next group with all that has come by then. So a group grows with
// the load and nobody waits for a group to fill.
type laneQueue struct {
	mu    sync.Mutex
	calls []*appendCall
	busy  bool
	spare []*appendCall // a slice to use again
	size  int           // of the last group
}

// maxGroupCalls and maxGroupBytes bound a group, and with it its latency and memory.
const (
	maxGroupCalls = 1024
	maxGroupBytes = 1 << 20
)

// enter queues c and returns when it was served, or when its caller is leader.
func (q *laneQueue) enter(c *appendCall) (lead bool) {
	q.mu.Lock()
	if !q.busy {
		q.busy = true
		if !c.exclusive {
			q.calls = append(q.calls, c)
		}
		q.mu.Unlock()
		return true
	}
	q.calls = append(q.calls, c)
	q.mu.Unlock()
	<-c.wake
	return c.lead
}

// gather lets goroutines that are ready to run, such as callers that the last group has just woken, put their call into
// this group. It adds no delay: it ends as soon as a turn of the scheduler brings nothing new. A caller that did not have
// to wait, and was alone the last time, does not look round at all.
func (q *laneQueue) gather(waited bool) {
	q.mu.Lock()
	before, size := len(q.calls), q.size
	q.mu.Unlock()
	if !waited && size <= 1 && before <= 1 {
		return // nobody else is here
	}
	for range 4 {
		runtime.Gosched()
		q.mu.Lock()
		now := len(q.calls)
		q.mu.Unlock()
		if now == before {
			return
		}
		before = now
	}
}

// take returns the next group: what waits, up to the bounds and to the first caller that wants to be alone.
func (q *laneQueue) take(maxBytes int64) []*appendCall {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, int64(0)
	for n < len(q.calls) && n < maxGroupCalls && !q.calls[n].exclusive {
		bytes += int64(len(q.calls[n].frame))
		if n > 0 && bytes > maxBytes {
			break
		}
		n++
	}
	group, rest := q.calls[:n:n], q.calls[n:]
	q.calls = append(q.spare[:0], rest...)
	q.spare = nil
	q.size = n
	return group
}

// served wakes the callers of a group, except the leader itself.
func (q *laneQueue) served(group []*appendCall, own *appendCall) {
	for _, c := range group {
		if c != own {
			c.wake <- struct{}{}
		}
	}
	clear(group)
	q.mu.Lock()
	q.spare = group[:0]
	q.mu.Unlock()
}

// pass makes the first caller that waits leader.
func (q *laneQueue) pass() {
	q.mu.Lock()
	if len(q.calls) == 0 {
		q.busy = false
		q.mu.Unlock()
		return
	}
	c := q.calls[0]
	if c.exclusive {
		q.calls = append(q.calls[:0], q.calls[1:]...)
	}
	q.mu.Unlock()
	c.lead = true
	c.wake <- struct{}{}
}

// alone makes the caller the only leader until it calls pass.
func (q *laneQueue) alone() {
	q.enter(&appendCall{exclusive: true, wake: make(chan struct{}, 1)})
}
