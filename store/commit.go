package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/edged-io/edged/edge/fault"
)

// A mutation is one caller's change to state.db.
type mutation interface {
	// apply makes the change in tx, which other callers' changes share. It checks every precondition first: when it
	// returns an error it has changed nothing. changed tells whether there is anything to commit.
	apply(tx *writeTx) (changed bool, err error)
	// committed is called, in commit order, after the change is on disk and before its caller is woken.
	committed()
}

// writeTx is the transaction of one group.
type writeTx struct {
	*bbolt.Tx
	wall time.Time
	now  int64 // ttl clock, ms
	full bool  // the reserve is touched: refuse what needs space
}

// write is a mutation in the queue.
type write struct {
	m    mutation
	err  error
	lead bool          // set before wake: this caller commits the next group
	wake chan struct{} // capacity 1
}

// commitQueue makes groups: whoever finds no commit in progress leads one, at once and on its own goroutine; whoever
// comes meanwhile waits, and the first of those leads the next group with all that has come by then.
type commitQueue struct {
	mu      sync.Mutex
	idle    sync.Cond // signalled when busy turns false; set up by init
	busy    bool
	closed  bool
	waiting []*write
	spare   []*write // the last group's slice, to be used again
	last    time.Time
	broken  error // set once: no write is possible any more
	pool    sync.Pool

	lastGroup int // writes in the last group; the leader's own
}

// maxGroup bounds a group, and with it the latency of a commit and the memory of its dirty pages.
const maxGroup = 1024

func (q *commitQueue) init() {
	q.idle.L = &q.mu
	q.pool.New = func() any { return &write{wake: make(chan struct{}, 1)} }
}

// close waits for the queue to drain and refuses what comes later.
func (q *commitQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.busy {
		q.idle.Wait()
	}
}

// submit commits m together with what else is waiting and returns when it is on disk, or its error. ctx is looked at
// before m is queued only: a queued write cannot be taken back, and the caller must learn what became of it.
func (s *Store) submit(ctx context.Context, m mutation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q := &s.queue
	q.mu.Lock()
	if q.closed || q.broken != nil {
		err := q.broken
		q.mu.Unlock()
		if err == nil {
			err = ErrClosed
		}
		return err
	}
	w := q.pool.Get().(*write)
	w.m, w.err, w.lead = m, nil, false
	q.waiting = append(q.waiting, w)
	waited := q.busy
	if waited {
		q.mu.Unlock()
		<-w.wake
	} else {
		q.busy, w.lead = true, true
		q.mu.Unlock()
	}
	if w.lead {
		s.lead(w, waited)
	}
	err := w.err
	w.m, w.err = nil, nil
	q.pool.Put(w)
	return err
}

// lead commits one group, wakes its callers, and hands the lead to the first caller of the next group, if any.
// The leader is always the first of its own group; waited tells that another commit was in progress when it came.
func (s *Store) lead(own *write, waited bool) {
	q := &s.queue
	s.pace()
	if waited || q.lastGroup > 1 {
		s.gather()
	}
	q.mu.Lock()
	n := groupSize(q.waiting)
	group := q.waiting[:n:n]
	rest := q.waiting[n:]
	q.waiting = append(q.spare[:0], rest...)
	q.spare = nil
	q.mu.Unlock()
	q.lastGroup = n

	s.commitGroup(group)
	for _, w := range group {
		if w != own {
			w.wake <- struct{}{}
		}
	}

	clear(group)
	q.mu.Lock()
	q.spare = group[:0]
	if len(q.waiting) == 0 {
		q.busy = false
		q.idle.Broadcast()
		q.mu.Unlock()
		return
	}
	next := q.waiting[0]
	q.mu.Unlock()
	next.lead = true
	next.wake <- struct{}{}
}

// groupSize is how many of the waiting writes go into the next group. A consistency check goes alone.
func groupSize(waiting []*write) int {
	for i, w := range waiting[:min(len(waiting), maxGroup)] {
		if _, alone := w.m.(*consistency); alone {
			return max(i, 1)
		}
	}
	return min(len(waiting), maxGroup)
}

// pace waits until the commit interval has passed since the last commit.
func (s *Store) pace() {
	if s.opts.CommitInterval <= 0 {
		return
	}
	if wait := s.opts.CommitInterval - time.Since(s.queue.last); wait > 0 {
		time.Sleep(wait)
	}
}

// gather lets goroutines that are ready to run, such as callers the last group has just woken, put their next write
// into this group, which halves the commits of a busy store. It adds no delay: it ends as soon as a turn of the scheduler
// brings nothing new. A caller that is alone, and was so the last time, does not look round at all.
func (s *Store) gather() {
	q := &s.queue
	begin := time.Now()
	for n, turns := 0, 0; turns < gatherTurns; turns++ {
		q.mu.Lock()
		now := len(q.waiting)
		q.mu.Unlock()
		if turns > 0 && (now == n || time.Since(begin) > gatherMost) {
			return
		}
		n = now
		runtime.Gosched()
	}
}

// Bounds of gather: when others keep the processors busy, a turn may take long.
const (
	gatherTurns = 4
	gatherMost  = 200 * time.Microsecond
)

// commitGroup makes a group durable and sets each write's err. A write whose preconditions fail does not disturb the
// others. If the disk turns out to be full, what needs no space is tried again without the rest; if a page is damaged,
// each write is tried alone, so that it fails only those that touch the page.
func (s *Store) commitGroup(group []*write) {
	full := s.space.low() && !s.hasFreePages(freePagesKept)
	err := s.tryCommit(group, full)
	if !full && errors.Is(err, fault.ErrStorageFull) {
		err = s.tryCommit(group, true)
	}
	if len(group) > 1 && errors.Is(err, ErrDamaged) {
		for i, w := range group {
			if err := s.tryCommit(group[i:i+1], full); err != nil {
				w.err = err
			}
		}
		err = nil
	}
	for _, w := range group {
		if w.err == nil {
			w.err = err
		}
		if w.err == nil {
			w.m.committed()
		}
	}
	s.queue.last = time.Now()
}

// tryCommit applies the writes in one transaction. Preconditions that fail go to the write's err; the error returned
// is of the transaction as a whole, of which then nothing was kept.
func (s *Store) tryCommit(group []*write, full bool) (err error) {
	if s.queue.broken != nil {
		return s.queue.broken
	}
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("begin commit: %w", err)
	}
	defer func() {
		if r := recover(); r != nil {
			err = s.damaged(r)
			s.rollBack(tx)
		}
	}()
	now, wall := s.ttl.read()
	wtx := &writeTx{Tx: tx, wall: wall, now: now, full: full}
	changed := false
	for _, w := range group {
		c, err := w.m.apply(wtx)
		changed, w.err = changed || c, err
	}
	if !changed {
		return tx.Rollback()
	}
	id := tx.ID()
	if err := tx.Commit(); err != nil {
		return s.commitFailed(id, err)
	}
	s.io.commit(tx.Stats(), s.db.Info().PageSize, len(group))
	return nil
}

// rollBack gives up a transaction in which bbolt panicked. If even that fails, bbolt still holds its writer lock and
// the only safe thing is to write no more.
func (s *Store) rollBack(tx *bbolt.Tx) {
	defer func() {
		if r := recover(); r != nil {
			s.breakWrites(fmt.Errorf("state.db is damaged and takes no writes until edged is restarted: %v", r))
		}
	}()
	if err := tx.Rollback(); err != nil && !errors.Is(err, bolterrors.ErrTxClosed) {
		s.breakWrites(fmt.Errorf("roll back: %w", err))
	}
}

// commitFailed classifies a failed commit. bbolt rolls back by itself. One case needs care: the new meta page was
// written but syncing it failed, so that readers see the transaction and the disk may not have it. Another commit
// decides: if it succeeds, both are on disk; if not, the disk cannot be trusted and no more is written.
func (s *Store) commitFailed(id int, cause error) error {
	if s.visible(id) {
		if err := s.db.Update(func(*bbolt.Tx) error { return nil }); err == nil {
			s.log.Warn("state.db commit was not synced at first", "error", cause)
			return nil
		}
		err := fmt.Errorf("sync state.db: %w: no more is written until edged is restarted", cause)
		s.breakWrites(err)
		return err
	}
	if isNoSpace(cause) {
		s.space.full()
		return fault.StorageFull("write state", cause)
	}
	return fmt.Errorf("commit to state.db: %w", cause)
}

// visible reports whether transaction id is what readers see.
func (s *Store) visible(id int) bool {
	tx, err := s.db.Begin(false)
	if err != nil {
		return false
	}
	seen := tx.ID() >= id
	_ = tx.Rollback() // a read transaction: its rollback cannot fail
	return seen
}

func (s *Store) breakWrites(err error) {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if s.queue.broken == nil {
		s.queue.broken = err
		s.log.Error("state.db takes no more writes", "error", err)
	}
}

// isNoSpace reports a full disk or quota. bbolt formats some errors without wrapping them, hence the texts.
func isNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) ||
		strings.Contains(err.Error(), unix.ENOSPC.Error()) || strings.Contains(err.Error(), unix.EDQUOT.Error())
}
