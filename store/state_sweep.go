package store

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// sweeper removes expired records in the background, in bounded batches and seldom, to spare flash: reads never show an
// expired value, so that removal is only housekeeping. It sleeps as long as nothing can expire.
type sweeper struct {
	s       *Store
	mu      sync.Mutex
	timer   *time.Timer
	next    int64 // ttl clock of the planned sweep; 0: none
	stopped bool
	running sync.WaitGroup
}

const (
	sweepSlack = 30 * time.Second // expired records gather this long before they are removed
	sweepAwake = 10 * time.Minute // longest sleep, in case the clock was set
	sweepBatch = 256              // records per commit
)

// init plans the first sweep.
func (w *sweeper) init(s *Store) {
	w.s = s
	var first int64
	err := s.view(func(tx *bbolt.Tx) error {
		return eachBucket(tx, expiryPrefix, func(_ string, b *bbolt.Bucket) error {
			if k, _ := b.Cursor().First(); k != nil {
				if at, _, ok := splitExpiryKey(k); ok && (first == 0 || at < first) {
					first = at
				}
			}
			return nil
		})
	})
	if err != nil {
		s.log.Warn("plan expiry", "error", err)
	}
	if first != 0 {
		w.plan(first)
	}
}

// plan makes sure that a sweep comes after at.
func (w *sweeper) plan(at int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped || (w.next != 0 && w.next <= at) {
		return
	}
	w.next = at
	now, _ := w.s.ttl.read()
	wait := min(max(time.Duration(at-now)*time.Millisecond, 0)+sweepSlack, sweepAwake)
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, w.run)
		return
	}
	w.timer.Reset(wait)
}

func (w *sweeper) run() {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return
	}
	w.running.Add(1)
	w.next = 0
	w.mu.Unlock()
	defer w.running.Done()
	next, err := w.sweep()
	if err != nil && !errors.Is(err, ErrClosed) {
		w.s.log.Warn("remove expired state", "error", err)
		now, _ := w.s.ttl.read()
		next = now + time.Minute.Milliseconds()
	}
	if next != 0 {
		w.plan(next)
	}
}

// sweep removes all that has expired and returns when the next record expires, or 0.
func (w *sweeper) sweep() (next int64, err error) {
	for {
		m := &expire{}
		if err := w.s.submit(context.Background(), m); err != nil {
			return 0, err
		}
		if !m.more {
			return m.next, nil
		}
	}
}

func (w *sweeper) stop() {
	w.mu.Lock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.running.Wait()
}

// expire is the mutation that removes a batch of expired records.
type expire struct {
	next int64
	more bool
}

func (m *expire) committed() {}

func (m *expire) apply(tx *writeTx) (changed bool, err error) {
	m.next, m.more = 0, false
	left := sweepBatch
	err = eachBucket(tx.Tx, expiryPrefix, func(component string, index *bbolt.Bucket) error {
		keys := m.due(index, tx.now, left)
		left -= len(keys)
		values, dirty := tx.Bucket([]byte(valuesPrefix+component)), tx.Bucket([]byte(dirtyPrefix+component))
		for _, k := range keys {
			if err := index.Delete(k); err != nil {
				return err
			}
			if err := dropExpired(values, dirty, k); err != nil {
				return err
			}
			changed = true
		}
		return nil
	})
	m.more = left == 0
	return changed, err
}

// due collects up to limit expired index keys, and notes when the first of the others expires.
func (m *expire) due(index *bbolt.Bucket, now int64, limit int) (keys [][]byte) {
	c := index.Cursor()
	for k, _ := c.First(); k != nil && limit > 0; k, _ = c.Next() {
		at, _, ok := splitExpiryKey(k)
		if ok && at > now {
			if m.next == 0 || at < m.next {
				m.next = at
			}
			return keys
		}
		keys = append(keys, bytes.Clone(k))
		limit--
	}
	return keys
}

// dropExpired removes the record that an index key points to, if it is still the one that the index meant. A record
// that upstream has not seen becomes a tombstone, whose mark stays.
func dropExpired(values, dirty *bbolt.Bucket, indexKey []byte) error {
	at, key, ok := splitExpiryKey(indexKey)
	if !ok || values == nil {
		return nil
	}
	r, err := decodeState(values.Get(key), string(key))
	if intact := err == nil; !intact || r.expires != at {
		return nil // a damaged record stays for its reader to hear of; another one is not ours to remove
	}
	if dirty == nil || dirty.Get(revisionKey(r.revision)) == nil {
		return values.Delete(key)
	}
	dead := stateRecord{flags: stateDeleted, revision: r.revision, modified: r.modified}
	return values.Put(key, dead.append(nil, string(key)))
}

// eachBucket calls fn with every top-level bucket whose name begins with prefix. fn must not create buckets.
func eachBucket(tx *bbolt.Tx, prefix string, fn func(component string, b *bbolt.Bucket) error) error {
	c := tx.Cursor()
	for k, _ := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, _ = c.Next() {
		if b := tx.Bucket(k); b != nil {
			if err := fn(string(k[len(prefix):]), b); err != nil {
				return err
			}
		}
	}
	return nil
}
