package sync

import (
	"context"
	"sync"
	"time"
)

const (
	slowLimit   = 64 << 10 // bytes: while a batch may be no larger than this, one is under way at a time
	fastTurns   = 4
	startBudget = 32 << 10
	minBudget   = 8 << 10
	targetTime  = time.Second // of one batch on the link
)

// turns hands out the right to have a batch under way. Lanes of a lower class go first; within a class they share by
// weight. On a slow link one batch is under way at a time and it is small, so that an alarm waits for at most one batch.
type turns struct {
	mu      sync.Mutex
	budget  int // bytes of one batch, after the measured rate of the link
	max     int
	taken   int
	waiting []*waiter
	served  map[string]float64 // bytes by weight, per lane
}

type waiter struct {
	lane  string
	class int
	ready chan struct{}
}

func newTurns(maxBytes int) *turns {
	return &turns{budget: min(startBudget, maxBytes), max: maxBytes, served: map[string]float64{}}
}

// bytes returns how large the next batch may be.
func (t *turns) bytes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.budget
}

// take waits for the lane's turn.
func (t *turns) take(ctx context.Context, lane string) error {
	w := &waiter{lane: lane, class: priority(lane).class, ready: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, w)
	t.grant()
	t.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, other := range t.waiting {
		if other == w {
			t.waiting = append(t.waiting[:i], t.waiting[i+1:]...)
			return ctx.Err()
		}
	}
	t.taken-- // granted just now
	t.grant()
	return ctx.Err()
}

// done gives the turn back. A batch that was acknowledged says how large it was and how long it took.
func (t *turns) done(lane string, bytes int, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	if bytes > 0 {
		t.served[lane] += float64(bytes) / float64(priority(lane).weight)
		t.adapt(bytes, took)
	}
	t.grant()
}

// adapt steers the size of a batch to what the link carries in about a second.
func (t *turns) adapt(bytes int, took time.Duration) {
	switch {
	case took > targetTime:
		t.budget = max(minBudget, int(float64(bytes)*float64(targetTime)/float64(took)))
	case took < targetTime/2 && bytes*2 > t.budget:
		t.budget *= 2
	}
	t.budget = min(t.budget, t.max)
}

func (t *turns) grant() {
	limit := fastTurns
	if t.budget <= slowLimit {
		limit = 1
	}
	for t.taken < limit && len(t.waiting) > 0 {
		best := 0
		for i, w := range t.waiting {
			b := t.waiting[best]
			if w.class < b.class || w.class == b.class && t.served[w.lane] < t.served[b.lane] {
				best = i
			}
		}
		w := t.waiting[best]
		t.waiting = append(t.waiting[:best], t.waiting[best+1:]...)
		t.taken++
		close(w.ready)
	}
}

func priority(lane string) struct{ class, weight int } {
	if p, ok := lanePriority[lane]; ok {
		return p
	}
	return lanePriority["telemetry"]
}
