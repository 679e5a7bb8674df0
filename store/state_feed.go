package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

// tracking says which keys leave dirty marks. A nil tracking marks nothing.
type tracking struct {
	match func(key string) bool // nil: not known yet since Open
}

// mark is the kind of a dirty mark; the greater wins.
type mark byte

const (
	unmarked   mark = iota
	markUnsure      // written before Track named the keys; Track decides
	markSure
)

// mark tells what a write of key leaves.
func (t *tracking) mark(key string) mark {
	switch {
	case t == nil:
		return unmarked
	case t.match == nil:
		return markUnsure
	case t.match(key):
		return markSure
	}
	return unmarked
}

// loadTracking finds out whether the component was tracked when the database was last open.
func (st *State) loadTracking() {
	err := st.s.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(st.synced); b != nil && b.Get([]byte(trackedKey)) != nil {
			st.track.Store(&tracking{})
		}
		return nil
	})
	if err != nil {
		st.s.log.Warn("read whether state is tracked", "component", st.component, "error", err)
	}
}

// Track sets which keys leave dirty marks (nil: none); existing marks stay. That the component is tracked is durable:
// after a restart writes are marked at once, and Track, when it names the keys again, drops the marks of others.
// Keys that were written before the component was ever tracked have no marks: see MarkAll.
func (st *State) Track(ctx context.Context, match func(key string) bool) error {
	if match == nil {
		st.track.Store(nil)
		return st.s.submit(ctx, &setTracking{st: st})
	}
	if err := st.s.submit(ctx, &setTracking{st: st, match: match}); err != nil {
		return fmt.Errorf("track state of %s: %w", st.component, err)
	}
	return nil
}

// setTracking writes down that the component is tracked, and settles the marks that were made before that was known.
type setTracking struct {
	st    *State
	match func(key string) bool
	found bool
}

func (m *setTracking) committed() {
	if m.match != nil && m.found {
		m.st.signal()
	}
}

func (m *setTracking) apply(tx *writeTx) (changed bool, err error) {
	if m.match != nil {
		// Now, not when it is committed: a write that follows in the same commit must not leave an unsure mark, which
		// nobody would settle.
		m.st.track.Store(&tracking{match: m.match})
	}
	b := tx.Bucket(m.st.synced)
	was := b != nil && b.Get([]byte(trackedKey)) != nil
	if m.match == nil {
		if was {
			must(b.Delete([]byte(trackedKey)))
		}
		return was, nil
	}
	if !was {
		b, err := tx.CreateBucketIfNotExists(m.st.synced)
		must(err)
		must(b.Put([]byte(trackedKey), nil))
	}
	return m.settle(tx) || !was, nil
}

// settle turns unsure marks of matching keys into sure ones and drops the others.
func (m *setTracking) settle(tx *writeTx) (changed bool) {
	dirty := tx.Bucket(m.st.dirty)
	if dirty == nil {
		return false
	}
	var revs, marks [][]byte
	for c, k, v := first(dirty); k != nil; k, v = c.Next() {
		m.found = true
		if len(v) > 0 && mark(v[0]) == markUnsure {
			revs, marks = append(revs, bytes.Clone(k)), append(marks, bytes.Clone(v))
		}
	}
	for i, k := range revs {
		if key := string(marks[i][1:]); m.match(key) {
			must(dirty.Put(k, markValue(markSure, key)))
		} else {
			m.st.unmark(tx, dirty, splitRevisionKey(k), key)
		}
	}
	return len(revs) > 0
}

func first(b *bbolt.Bucket) (c *bbolt.Cursor, k, v []byte) {
	c = b.Cursor()
	k, v = c.First()
	return c, k, v
}

// unmark removes a mark, and the tombstone that was kept for it.
func (st *State) unmark(tx *writeTx, dirty *bbolt.Bucket, rev uint64, key string) {
	must(dirty.Delete(revisionKey(rev)))
	values := tx.Bucket(st.values)
	if values == nil {
		return
	}
	v := values.Get([]byte(key))
	if v == nil {
		return
	}
	if r, err := decodeState(v, key); err == nil && r.revision == rev && r.flags&stateDeleted != 0 {
		must(values.Delete([]byte(key)))
	}
}

// Dirty returns up to limit changes, oldest first, with values as they are now. A key that has expired is a deletion.
func (st *State) Dirty(ctx context.Context, limit int) ([]state.Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []state.Change
	var stale []state.Change
	err := st.s.view(func(tx *bbolt.Tx) error {
		out, stale = out[:0], stale[:0]
		dirty, values := tx.Bucket(st.dirty), tx.Bucket(st.values)
		if dirty == nil || values == nil {
			return nil
		}
		now, wall := st.s.ttl.read()
		for c, k, v := first(dirty); k != nil && len(out) < limit; k, v = c.Next() {
			if markOf(v) != markSure {
				continue
			}
			rev, key := splitRevisionKey(k), string(v[1:])
			if ch, ok := readChange(values.Get([]byte(key)), key, rev, now, wall); ok {
				out = append(out, ch)
			} else {
				stale = append(stale, state.Change{Sequence: rev, Key: key})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(stale) > 0 { // marks of records that were found damaged
		if err := st.Clean(ctx, stale); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// readChange makes the change that a mark stands for; ok is false if the record is not the one that was marked.
func readChange(v []byte, key string, rev uint64, now int64, wall time.Time) (ch state.Change, ok bool) {
	if v == nil {
		return ch, false
	}
	r, err := decodeState(v, key)
	if err != nil || r.revision != rev {
		return ch, false
	}
	ch = state.Change{
		Sequence: rev, Key: key, ETag: strconv.FormatUint(rev, 10),
		Modified: time.UnixMilli(r.modified), Origin: r.origin,
	}
	if !r.live(now) {
		ch.Deleted = true
		return ch, true
	}
	ch.Value, ch.ContentType = bytes.Clone(r.value), r.contentType
	if r.expires != 0 {
		ch.Expires = wall.Add(time.Duration(r.expires-now) * time.Millisecond)
	}
	return ch, true
}

// Clean removes the marks of changes whose key was not written again since. It returns when that is durable.
func (st *State) Clean(ctx context.Context, done []state.Change) error {
	if len(done) == 0 {
		return nil
	}
	return st.s.submit(ctx, &cleanMarks{st: st, done: done})
}

type cleanMarks struct {
	st   *State
	done []state.Change
}

func (m *cleanMarks) committed() {}

func (m *cleanMarks) apply(tx *writeTx) (changed bool, err error) {
	dirty := tx.Bucket(m.st.dirty)
	if dirty == nil {
		return false, nil
	}
	for _, ch := range m.done {
		// A key that was written again has its mark under a newer revision.
		if v := dirty.Get(revisionKey(ch.Sequence)); v != nil && string(v[1:]) == ch.Key {
			m.st.unmark(tx, dirty, ch.Sequence, ch.Key)
			changed = true
		}
	}
	return changed, nil
}

// MarkAll leaves dirty marks on all present keys that match, as if they had been written now; those already marked stay as
// they are. It is for a component that has been in use before it is tracked. It works in batches and returns how many
// keys it marked.
func (st *State) MarkAll(ctx context.Context, match func(key string) bool) (marked int, err error) {
	m := &markKeys{st: st}
	flush := func() error {
		if len(m.keys) == 0 {
			return nil
		}
		err := st.s.submit(ctx, m)
		marked += m.marked
		m.keys = m.keys[:0]
		return err
	}
	var failed error
	err = st.Scan(ctx, "", "", func(e state.Entry) bool {
		if match(e.Key) {
			m.keys = append(m.keys, e.Key)
		}
		if len(m.keys) >= scanKeys {
			failed = flush()
		}
		return failed == nil
	})
	if err := errors.Join(err, failed, flush()); err != nil {
		return marked, fmt.Errorf("mark state of %s: %w", st.component, err)
	}
	return marked, nil
}

// markKeys marks keys under the revision that they have: records are not rewritten.
type markKeys struct {
	st     *State
	keys   []string
	marked int
}

func (m *markKeys) committed() { m.st.signal() }

func (m *markKeys) apply(tx *writeTx) (bool, error) {
	m.marked = 0
	c := m.st.change(tx, nil)
	for _, key := range m.keys {
		r, ok, _ := c.current(key) // a damaged record has nothing to send
		if !ok || !r.live(tx.now) || c.isDirty(r) {
			continue
		}
		must(c.bucket(&c.dirty, m.st.dirty).Put(revisionKey(r.revision), markValue(markSure, key)))
		m.marked++
	}
	return m.marked > 0, nil
}

// Changed is signalled after a dirty mark is committed.
func (st *State) Changed() <-chan struct{} { return st.changed }

func (st *State) signal() {
	select {
	case st.changed <- struct{}{}:
	default:
	}
}

// Merge applies changes from elsewhere without dirty marks, together with meta, all or nothing. The indexes of changes
// whose key has a dirty mark are returned; those changes were not applied.
func (st *State) Merge(ctx context.Context, changes []state.Change, meta map[string][]byte) (skipped []int, err error) {
	m := &mergeChanges{st: st, changes: changes, meta: meta}
	if err := st.s.submit(ctx, m); err != nil {
		return nil, err
	}
	return m.skipped, nil
}

type mergeChanges struct {
	st      *State
	changes []state.Change
	meta    map[string][]byte
	skipped []int
	expires int64
}

func (m *mergeChanges) committed() {
	if m.expires != 0 {
		m.st.s.sweep.plan(m.expires)
	}
}

func (m *mergeChanges) apply(tx *writeTx) (bool, error) {
	m.skipped = nil
	c := m.st.change(tx, nil)
	for i := range m.changes {
		if err := c.checkKey(m.changes[i].Key); err != nil {
			return false, &state.OpError{Index: i, Key: m.changes[i].Key, Err: err}
		}
		if tx.full && !m.changes[i].Deleted {
			return false, fault.StorageFull("write state", errReserve)
		}
	}
	for i := range m.changes {
		if !c.merge(&m.changes[i]) {
			m.skipped = append(m.skipped, i)
		}
	}
	if len(m.meta) > 0 {
		b, err := tx.CreateBucketIfNotExists(m.st.synced)
		must(err)
		for k, v := range m.meta {
			must(b.Put([]byte(metaPrefix+k), v))
		}
	}
	m.expires = c.expires
	return c.finish() || len(m.meta) > 0, nil
}

// Meta reads a sync meta value; nil if absent.
func (st *State) Meta(ctx context.Context, key string) (value []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = st.s.view(func(tx *bbolt.Tx) error {
		if b := tx.Bucket(st.synced); b != nil {
			value = bytes.Clone(b.Get([]byte(metaPrefix + key)))
		}
		return nil
	})
	return value, err
}

// Epoch is the random identity of the database's incarnation.
func (st *State) Epoch() string { return st.s.Epoch() }
