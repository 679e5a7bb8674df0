package sync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/state"
)

const (
	stateLaneName = "state" // of the turns
	feedLookEvery = 30 * time.Second
)

// stateLane sends the newest value of each key that the device owns. What it has to send is the store's dirty marks, so it
// is bounded by the number of keys; sending a value twice does no harm, so the cursor upstream is here to keep two writers
// apart and to show a rollback of either side, after which all keys are compared.
type stateLane struct {
	s     *Sync
	store Store
	at    string // store component
	lane  Lane

	cp       checkpoint
	fence    uint64
	inflight []state.Change
	max      int
}

func newStateLane(s *Sync, name string, store Store) *stateLane {
	return &stateLane{s: s, store: store, at: name, lane: Lane{Kind: State, Name: stateLaneName + "." + token(name)}, max: s.cfg.Batch.MaxEvents}
}

func (l *stateLane) name() string { return l.lane.Name }

func (l *stateLane) note(fn func(*LaneStatus)) { l.s.report.update(l.name(), fn) }

func (l *stateLane) open(ctx context.Context) error {
	rules := l.s.cfg.State
	err := l.store.Track(ctx, func(key string) bool { _, synced := owner(rules, key); return synced })
	if err != nil {
		return fmt.Errorf("track keys of %s: %w", l.at, err)
	}
	if l.cp, err = loadCheckpoint(ctx, l.store, l.lane); err != nil {
		return err
	}
	l.note(func(st *LaneStatus) { st.Position, st.Epoch = l.cp.Pos, l.cp.Epoch })
	return nil
}

func (l *stateLane) close(context.Context) error { return nil } // the checkpoint is written with every batch

func (l *stateLane) session(ctx context.Context) error {
	caps, err := l.hello(ctx)
	if err != nil {
		return err
	}
	if l.cp.Resync != "" {
		if err := l.resync(ctx, caps); err != nil {
			return err
		}
	}
	l.note(func(st *LaneStatus) { st.State, st.LastError = LaneActive, "" })
	for {
		changes, err := l.store.Dirty(ctx, l.max)
		if err != nil {
			return fmt.Errorf("read changed keys of %s: %w", l.at, err)
		}
		l.note(func(st *LaneStatus) { st.Backlog = uint64(len(changes)) })
		if len(changes) == 0 {
			if err := l.await(ctx); err != nil {
				return err
			}
			continue
		}
		if err := l.send(ctx, changes, caps); err != nil {
			if t := troubleOf(err); t == Refused || t == TooLarge || t == Incomplete {
				l.max = max(1, min(l.max, len(changes))/2)
			}
			return err
		}
		l.max = min(l.s.cfg.Batch.MaxEvents, l.max*2)
	}
}

func (l *stateLane) await(ctx context.Context) error {
	t := time.NewTimer(feedLookEvery)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.store.Changed():
	case <-t.C:
	}
	return nil
}

// send deals with changed keys: those that the device owns go up, for those of the cloud the cloud's value comes back.
func (l *stateLane) send(ctx context.Context, dirty []state.Change, caps Caps) error {
	var mine, done []state.Change
	var changes []Change
	size, budget := 0, min(l.s.turns.bytes(), int(l.s.cfg.Batch.MaxBytes))
	for _, d := range dirty {
		who, synced := owner(l.s.cfg.State, d.Key)
		switch {
		case !synced:
			done = append(done, d)
			continue
		case who == OwnerCloud:
			if err := l.yield(ctx, d); err != nil {
				return err
			}
			continue
		}
		c := l.change(d)
		if reason := l.unfit(c, caps); reason != "" {
			l.s.report.dropped(l.name(), reason, d.Sequence, d.Key[:min(len(d.Key), 200)])
			done = append(done, d)
			continue
		}
		n := len(c.Value) + len(c.Name) + headerBytes
		if size > 0 && size+n > budget {
			break
		}
		size += n
		mine, changes = append(mine, d), append(changes, c)
	}
	if len(done) > 0 {
		if err := l.store.Clean(ctx, done); err != nil {
			return fmt.Errorf("settle keys of %s: %w", l.at, err)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	l.inflight = mine
	if err := l.commit(ctx, mine[len(mine)-1].Sequence, changes, size); err != nil {
		return err
	}
	return l.settle(ctx)
}

func (l *stateLane) change(d state.Change) Change {
	c := Change{Kind: Put, Seq: d.Sequence, Name: d.Key, Value: d.Value, ContentType: d.ContentType}
	if !d.Expires.IsZero() {
		c.TTL = d.Expires.Sub(l.s.deps.Clock())
	}
	if d.Deleted || c.TTL < 0 {
		c.Kind, c.Value, c.TTL = Delete, nil, 0
	}
	return c
}

func (l *stateLane) unfit(c Change, caps Caps) string {
	subject := len(keySubject(l.s.deps.Device, c.Name))
	switch {
	case subject > maxSubject:
		return "its key is too long"
	case len(c.Value)+subject+headerBytes > caps.MaxMessage:
		return "it is larger than the upstream takes"
	}
	return ""
}

func (l *stateLane) commit(ctx context.Context, pos uint64, changes []Change, size int) error {
	if err := l.s.turns.take(ctx, stateLaneName); err != nil {
		return err
	}
	next := Cursor{Epoch: l.cp.Epoch, Pos: max(pos, l.cp.Pos), Time: l.s.deps.Clock()}
	began := time.Now()
	cur, err := l.s.up.Commit(ctx, l.lane, Cursor{Rev: l.fence}, next, changes)
	if err != nil {
		l.s.turns.done(stateLaneName, 0, 0)
		return err
	}
	l.s.turns.done(stateLaneName, size, time.Since(began))
	l.cp.Cursor, l.fence = cur, cur.Rev
	l.note(func(st *LaneStatus) {
		st.State, st.LastError, st.LastDone = LaneActive, "", l.s.deps.Clock()
		st.Batches++
		st.Changes += uint64(len(changes))
		st.Bytes += uint64(size)
		st.Position, st.Epoch, st.Upstream = cur.Pos, cur.Epoch, ""
	})
	return nil
}

// settle removes the marks of what is stored upstream, and writes the checkpoint down. Both share a disk sync; a crash
// between them costs a comparison of all keys, no more.
func (l *stateLane) settle(ctx context.Context) error {
	done := l.inflight
	l.inflight = nil
	var saved, cleaned error
	var wg sync.WaitGroup
	wg.Go(func() { saved = saveCheckpoint(ctx, l.store, l.lane, l.cp) })
	if len(done) > 0 {
		if cleaned = l.store.Clean(ctx, done); cleaned != nil {
			cleaned = fmt.Errorf("settle keys of %s: %w", l.at, cleaned)
		}
	}
	wg.Wait()
	return errors.Join(saved, cleaned)
}

// yield replaces a local write to a key of the cloud with the cloud's value, and tells of it.
func (l *stateLane) yield(ctx context.Context, d state.Change) error {
	r, err := l.s.up.Get(ctx, d.Key)
	if err != nil {
		return err
	}
	if err := l.store.Clean(ctx, []state.Change{d}); err != nil {
		return fmt.Errorf("settle key %s: %w", d.Key, err)
	}
	skipped, err := l.store.Merge(ctx, []state.Change{localChange(r, l.s.deps.Clock())}, nil)
	if err != nil {
		return fmt.Errorf("replace key %s: %w", d.Key, err)
	}
	if len(skipped) > 0 { // written again just now: it is still marked, and comes again
		return nil
	}
	l.note(func(st *LaneStatus) { st.Conflicts++ })
	l.s.deps.Log.Warn("local write to a key that the cloud owns was replaced", "store", l.at, "key", d.Key)
	if l.s.deps.Conflict != nil {
		l.s.deps.Conflict(Conflict{Store: l.at, Key: d.Key, Deleted: d.Deleted, Value: d.Value, Rev: r.Rev, Time: l.s.deps.Clock()})
	}
	return nil
}

// hello compares both sides' cursors and decides whether all keys must be compared.
func (l *stateLane) hello(ctx context.Context) (Caps, error) {
	caps, u, err := l.s.up.Hello(ctx, l.lane)
	if err != nil {
		return caps, err
	}
	old, inflight := l.cp, l.inflight
	l.inflight, l.fence = nil, u.Rev
	l.cp.Created = caps.Created
	switch {
	case u.Epoch == "":
		l.cp.Rev = u.Rev
		if old.Rev == 0 {
			return caps, l.demand(ctx, resyncPut, "")
		}
		return caps, l.demand(ctx, resyncFull, "the upstream has no record of this device's state any more: comparing all keys")
	case u.Epoch == old.Epoch && u.Pos == old.Pos && (u.Rev == old.Rev || old.Resync != ""):
		l.cp.Cursor = u // a comparison that was interrupted moves the cursor's revision only
		return caps, nil
	case u.Epoch == old.Epoch && len(inflight) > 0 && u.Pos == inflight[len(inflight)-1].Sequence:
		l.cp.Cursor = u // the answer was lost, not the batch
		l.note(func(st *LaneStatus) { st.Avoided += uint64(len(inflight)) })
		l.inflight = inflight
		return caps, l.settle(ctx)
	case u.Epoch == old.Epoch && u.Pos < old.Pos:
		l.cp.Rev = u.Rev
		return caps, l.demand(ctx, resyncFull, fmt.Sprintf("the upstream has lost state that it had acknowledged (%d to %d): comparing all keys", u.Pos+1, old.Pos))
	case u.Epoch == old.Epoch:
		return caps, l.explain(ctx, u, caps)
	case old.known(u.Epoch):
		return caps, nil
	case l.s.accepts(u.Epoch):
		l.cp.Past = append(l.cp.Past, u.Epoch)
		return caps, l.demand(ctx, resyncPut, "taking over the state of epoch "+u.Epoch+", as configured")
	}
	l.note(func(st *LaneStatus) { st.State, st.Upstream = LaneStopped, u.Epoch })
	l.s.report.alarm(l.name(), fmt.Sprintf(
		"the upstream holds state of epoch %s of this device, which this database does not know (a replaced database, or a second device with this id): set upstream.acceptEpoch to take over", u.Epoch))
	return caps, fmt.Errorf("%w (%s)", errStopped, u.Epoch)
}
