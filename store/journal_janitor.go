package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// janitor saves cursors a little after they were committed, removes segments that are not needed, ages events out and
// lets go of memory. It runs by a timer that is set only while there is something to do: an idle journal wakes nobody.
type janitor struct {
	j       *eventLog
	pending atomic.Int64 // commits since the last flush

	mu      sync.Mutex
	timer   *time.Timer
	due     time.Time // when the timer fires; zero: it is not set
	stopped bool      // before start and after stop
	active  bool      // a turn is in progress
	again   bool      // and another is due
	flushed time.Time // the end of the last flush
	turns   sync.WaitGroup
	fails   int // flushes in a row; used in turns only
}

// urgent as a number of commits asks for a flush at once.
const urgent = flushCommits

func (t *janitor) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = false
}

// dirty says that something waits to be saved; n counts the cursors among it.
func (j *eventLog) dirty(n int64) {
	total := j.janitor.pending.Add(n)
	switch {
	case total >= urgent && total-n < urgent:
		j.janitor.within(0)
	case total < urgent && (total == n || n == 0):
		j.janitor.within(j.janitor.patience())
	}
}

// patience is how long something that changed may wait to be saved: the flush interval, and under constant traffic four
// of them, because each flush costs flash wear as well as time.
func (t *janitor) patience() time.Duration {
	every := t.j.opts.flushEvery
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(every, 4*every-time.Since(t.flushed))
}

// awake says that a lane is in use.
func (j *eventLog) awake() { j.janitor.within(restAfter) }

// within sets the timer to fire in d, unless it fires before.
func (t *janitor) within(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := time.Now().Add(d)
	if t.stopped || !t.due.IsZero() && !t.due.After(due) {
		return
	}
	t.due = due
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.run)
		return
	}
	t.timer.Reset(d)
}

// stop waits for a turn in progress and lets none follow.
func (t *janitor) stop() {
	t.mu.Lock()
	t.stopped = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.turns.Wait()
}

// run is what the timer calls. There is one turn at a time.
func (t *janitor) run() {
	t.mu.Lock()
	t.due = time.Time{}
	if t.stopped || t.active {
		t.again = true
		t.mu.Unlock()
		return
	}
	t.active, t.again = true, false
	t.turns.Add(1)
	t.mu.Unlock()
	defer t.turns.Done()

	next := t.turn()
	t.mu.Lock()
	t.active = false
	if t.again {
		next = time.Millisecond
	}
	t.mu.Unlock()
	if next > 0 {
		t.within(next)
	}
}

// turn does what is due and returns when the next turn should be; 0: when there is something to do.
func (t *janitor) turn() (next time.Duration) {
	j := t.j
	earliest := func(d time.Duration) {
		if d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	for _, l := range j.lanes {
		l.trimming.Lock()
		l.release()
		if l.nearlyFull() {
			l.compact(false)
		}
		nowAge, _ := j.age.read()
		earliest(min(l.ageDue(nowAge), maxAgeNap))
		if l.rest(time.Now()) {
			l.trim.pause()
		} else {
			earliest(restAfter)
		}
		l.trimming.Unlock()
	}
	if err := j.flush(context.Background()); err != nil {
		t.fails++
		if t.fails == 1 {
			j.opts.log.Error("save cursors of the event log; trying again", "error", err)
		}
		earliest(min(j.opts.flushEvery<<min(t.fails, 7), 30*time.Second))
	} else {
		t.fails = 0
	}
	t.mu.Lock()
	t.flushed = time.Now()
	t.mu.Unlock()
	return next
}

// maxAgeNap bounds how long the janitor trusts its timer to tell when events are too old: the age clock may run on
// while the device sleeps.
const maxAgeNap = 10 * time.Minute

// flush saves, in one step, every cursor, gap and lane fact that changed, and then removes the segments that were waiting
// for that. It returns after everything committed before the call is on disk.
func (j *eventLog) flush(ctx context.Context) error {
	j.flushing.Lock()
	defer j.flushing.Unlock()
	j.janitor.pending.Store(0)
	puts := map[string][]byte{}
	var condemned []*lane
	var files [][]string
	for _, l := range j.lanes {
		if f := l.collect(puts); len(f) > 0 {
			condemned, files = append(condemned, l), append(files, f)
		}
	}
	deletes, undo := j.gaps.collect(puts, nil)
	j.age.collect(puts)
	if len(puts)+len(deletes) > 0 {
		if err := j.meta.SaveMeta(ctx, puts, deletes); err != nil {
			undo()
			for _, l := range j.lanes {
				l.uncollect(puts)
			}
			if !isNoSpace(err) {
				for i, l := range condemned {
					l.takeBack(files[i])
				}
				return err
			}
			// The records stay in memory and are tried again, but space comes from removing what they name.
			j.removeSegments(condemned, files)
			return err
		}
	}
	j.removeSegments(condemned, files)
	return nil
}

func (j *eventLog) removeSegments(lanes []*lane, files [][]string) {
	for i, l := range lanes {
		for _, path := range files[i] {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				j.opts.log.Warn("remove segment", "segment", path, "error", err)
			}
		}
		if l.drained() {
			j.forget(l)
		}
	}
}

// forget removes what is left of a lane without contract. Its facts stay, so that its sequences go on should the
// contract come back.
func (j *eventLog) forget(l *lane) {
	l.mu.Lock()
	l.gone = true
	deletes := []string{metaTx + l.key}
	for name := range l.consumers {
		deletes = append(deletes, cursorKey(l.key, name))
	}
	l.mu.Unlock()
	if err := j.meta.SaveMeta(context.Background(), nil, deletes); err != nil {
		j.opts.log.Warn("forget lane", "lane", l.Name(), "error", err)
	}
	if err := os.Remove(l.dir); err == nil { // it stays while it holds damaged segments that were set aside
		j.opts.log.Info("a lane without a contract is empty and was removed", "lane", l.Name())
	}
}

// collect adds what changed to puts and returns the segment files to be removed afterwards.
func (l *lane) collect(puts map[string][]byte) (condemned []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	condemned, l.condemned = l.condemned, nil
	if l.gone {
		return condemned
	}
	touched := l.facts
	for name, c := range l.consumers {
		if c.dirty {
			c.dirty, touched = false, true
			puts[cursorKey(l.key, name)] = encodeCursor(c.filter.text, c.cursor)
		}
	}
	if touched {
		l.facts = false
		facts := laneFacts{
			contract: l.contract, salt: l.salt, head: l.head, last: l.newest,
			released: l.released, void: l.void, routes: l.routesSum,
		}
		puts[metaLane+l.key] = facts.encode()
	}
	return condemned
}

// uncollect marks what was in puts as still to be saved.
func (l *lane) uncollect(puts map[string][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if puts[metaLane+l.key] != nil {
		l.facts = true
	}
	for name, c := range l.consumers {
		if puts[cursorKey(l.key, name)] != nil {
			c.dirty = true
		}
	}
}

func (l *lane) takeBack(condemned []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.condemned = append(condemned, l.condemned...)
}

// drained tells whether nothing is left of a lane without contract.
func (l *lane) drained() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.orphan && !l.gone && len(l.segs) == 0 && len(l.condemned) == 0
}
