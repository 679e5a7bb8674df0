package store

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/edged-io/edged/edge/state"
)

// State is the state of one component. It is a state.Store whose writes are durable when they return, a state.Scanner
// and a state.Feed. ETags are the component's revision: every write of any key increases it, and it is never used
// again, not for a key that was deleted and made anew, and not (but for chance) after the database was replaced.
// It is safe for concurrent use.
type State struct {
	s                             *Store
	component                     string
	values, expiry, dirty, synced []byte // bucket names
	track                         atomic.Pointer[tracking]
	changed                       chan struct{}
	applies                       sync.Pool // *applyOps
}

var (
	_ state.Store   = (*State)(nil)
	_ state.Scanner = (*State)(nil)
	_ state.Feed    = (*State)(nil)
)

// State returns the state of a component, the same one for the same name. Nothing is written before the first write.
func (s *Store) State(component string) *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.states[component]; st != nil {
		return st
	}
	st := &State{
		s: s, component: component,
		values: []byte(valuesPrefix + component), expiry: []byte(expiryPrefix + component),
		dirty: []byte(dirtyPrefix + component), synced: []byte(syncPrefix + component),
		changed: make(chan struct{}, 1),
	}
	st.applies.New = func() any { return &applyOps{st: st} }
	st.loadTracking()
	s.states[component] = st
	return st
}

// Features lists the abilities in Dapr's words.
func (st *State) Features() []string {
	return []string{"ETAG", "TRANSACTIONAL", "TTL", "QUERY_API", "DELETE_WITH_PREFIX", "KEYS_LIKE", "ACTOR"}
}

// Get reads keys in one consistent view. A damaged record is an error that is ErrDamaged; ask for the keys one by one
// to learn which it is.
func (st *State) Get(ctx context.Context, keys ...string) ([]state.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]state.Entry, len(keys))
	err := st.s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(st.values)
		for i, key := range keys {
			out[i].Key = key
			if b == nil {
				continue
			}
			if v := b.Get([]byte(key)); v != nil {
				if err := st.fill(&out[i], v); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// fill copies what record v of e.Key holds into e, unless it has expired.
func (st *State) fill(e *state.Entry, v []byte) error {
	r, err := decodeState(v, e.Key)
	if err != nil {
		st.s.io.damaged.Add(1)
		return err
	}
	var now int64
	if r.expires != 0 {
		var wall time.Time
		now, wall = st.s.ttl.read()
		e.Expires = wall.Add(time.Duration(r.expires-now) * time.Millisecond)
	}
	if !r.live(now) {
		e.Expires = time.Time{}
		return nil
	}
	e.Found = true
	e.Value = append(make([]byte, 0, len(r.value)), r.value...)
	e.ETag = strconv.FormatUint(r.revision, 10)
	e.ContentType = r.contentType
	return nil
}

// Apply commits all ops or none. Preconditions are checked against the state before the first of them.
func (st *State) Apply(ctx context.Context, ops []state.Op) error {
	m := st.applies.Get().(*applyOps)
	m.ops, m.each = ops, nil
	err := st.s.submit(ctx, m)
	m.release()
	return err
}

// ApplyEach commits each op on its own, in order, all with one disk sync.
func (st *State) ApplyEach(ctx context.Context, ops []state.Op) []error {
	errs := make([]error, len(ops))
	m := st.applies.Get().(*applyOps)
	m.ops, m.each = ops, errs
	if err := st.s.submit(ctx, m); err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	m.release()
	return errs
}

// applyOps is the mutation of Apply and ApplyEach.
type applyOps struct {
	st   *State
	ops  []state.Op
	each []error // ApplyEach: the answers
	buf  []byte  // holds the records until the commit is over: bbolt does not copy values

	// What the last apply did, for committed.
	dirtied bool
	expires int64 // earliest expiry that was written
}

// keepBuffer bounds what a pooled mutation may hold on to.
const keepBuffer = 64 << 10

func (m *applyOps) release() {
	if cap(m.buf) > keepBuffer {
		m.buf = nil
	}
	m.ops, m.each = nil, nil
	m.st.applies.Put(m)
}

func (m *applyOps) committed() {
	if m.expires != 0 {
		m.st.s.sweep.plan(m.expires)
	}
	if m.dirtied {
		m.st.signal()
	}
}

func (m *applyOps) apply(tx *writeTx) (bool, error) {
	c := m.st.change(tx, m.buf)
	if m.each == nil {
		for i := range m.ops {
			if err := c.check(&m.ops[i]); err != nil {
				return false, &state.OpError{Index: i, Key: m.ops[i].Key, Err: err}
			}
		}
	}
	for i := range m.ops {
		op := &m.ops[i]
		if m.each != nil {
			if m.each[i] = c.check(op); m.each[i] != nil {
				continue
			}
		}
		c.apply(op)
	}
	m.buf, m.dirtied, m.expires = c.buf, c.dirtied, c.expires
	return c.finish(), nil
}
