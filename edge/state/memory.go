package state

import (
	"bytes"
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// MemoryOptions say how a Memory behaves. The zero value is ready to use.
type MemoryOptions struct {
	Clock func() time.Time // default time.Now; expiry then follows the monotonic clock and ignores clock steps
}

// Memory is a state store that lives as long as the process (state.in-memory). It has the semantics of the durable
// store, without durability: as with Dapr's in-memory store, an ETag that is no number is a mismatch and not invalid.
// It is safe for concurrent use.
type Memory struct {
	clock func() time.Time

	mu     sync.RWMutex
	rev    uint64
	byKey  map[string]*memoryRecord
	expiry expiryHeap
	timer  *time.Timer
	closed bool
}

var (
	_ Store   = (*Memory)(nil)
	_ Scanner = (*Memory)(nil)
)

type memoryRecord struct {
	key         string
	value       []byte
	contentType string
	rev         uint64
	expires     time.Time // zero: never
	at          int       // place in the expiry heap, if expires is set
}

func (r *memoryRecord) live(now time.Time) bool { return r.expires.IsZero() || now.Before(r.expires) }

// NewMemory returns an empty store. Close releases what it holds.
func NewMemory(opts MemoryOptions) *Memory {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	m := &Memory{clock: opts.Clock, byKey: map[string]*memoryRecord{}}
	// Revisions begin at random, so that an ETag from before a restart is not valid by chance; they stay below 2^53.
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	m.rev = uint64(1+binary.BigEndian.Uint32(b[:])>>12) << 32
	return m
}

// Features lists the abilities in Dapr's words.
func (m *Memory) Features() []string {
	return []string{"ETAG", "TRANSACTIONAL", "TTL", "DELETE_WITH_PREFIX", "KEYS_LIKE", "ACTOR"}
}

// Get reads keys in one consistent view.
func (m *Memory) Get(ctx context.Context, keys ...string) ([]Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := make([]Entry, len(keys))
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i, k := range keys {
		out[i].Key = k
		if r := m.byKey[k]; r != nil {
			m.fill(&out[i], r)
		}
	}
	return out, nil
}

func (m *Memory) fill(e *Entry, r *memoryRecord) {
	if !r.expires.IsZero() {
		now := m.clock()
		if !r.live(now) {
			return
		}
		e.Expires = now.Round(0).Add(r.expires.Sub(now))
	}
	e.Found, e.Value, e.ContentType = true, bytes.Clone(r.value), r.contentType
	e.ETag = strconv.FormatUint(r.rev, 10)
}

// Apply commits all ops or none. Preconditions are checked against the state before the first of them.
func (m *Memory) Apply(ctx context.Context, ops []Op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	for i := range ops {
		if err := m.check(&ops[i], now); err != nil {
			return &OpError{Index: i, Key: ops[i].Key, Err: err}
		}
	}
	for i := range ops {
		m.apply(&ops[i], now)
	}
	m.sweep(now, sweepPerWrite)
	return nil
}

// ApplyEach commits each op on its own, in order.
func (m *Memory) ApplyEach(ctx context.Context, ops []Op) []error {
	errs := make([]error, len(ops))
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	for i := range ops {
		if errs[i] = ctx.Err(); errs[i] != nil {
			continue
		}
		if errs[i] = m.check(&ops[i], now); errs[i] == nil {
			m.apply(&ops[i], now)
		}
	}
	m.sweep(now, sweepPerWrite)
	return errs
}

func (m *Memory) check(op *Op, now time.Time) error {
	switch {
	case m.closed:
		return errors.New("the store is closed")
	case op.Key == "":
		return errors.New("empty key")
	}
	r := m.byKey[op.Key]
	exists := r != nil && r.live(now)
	if !op.HasETag || op.ETag == "" {
		if op.Concurrency == FirstWrite && exists {
			return fmt.Errorf("%w: the key exists and no etag was given", ErrETagMismatch)
		}
		return nil
	}
	if !exists {
		return fmt.Errorf("%w: the key does not exist, etag %s was given", ErrETagMismatch, op.ETag)
	}
	if current := strconv.FormatUint(r.rev, 10); current != op.ETag {
		return fmt.Errorf("%w: current is %s, given was %s", ErrETagMismatch, current, op.ETag)
	}
	return nil
}

func (m *Memory) apply(op *Op, now time.Time) {
	if op.Kind == Delete {
		m.remove(op.Key)
		return
	}
	m.remove(op.Key)
	m.rev++
	r := &memoryRecord{key: op.Key, value: bytes.Clone(op.Value), contentType: op.ContentType, rev: m.rev}
	m.byKey[op.Key] = r
	if op.TTL > 0 {
		r.expires = now.Add(op.TTL)
		heap.Push(&m.expiry, r)
		m.plan(now)
	}
}

func (m *Memory) remove(key string) {
	r := m.byKey[key]
	if r == nil {
		return
	}
	delete(m.byKey, key)
	if !r.expires.IsZero() {
		heap.Remove(&m.expiry, r.at)
	}
}

// Bounds of one sweep, which holds the lock.
const (
	sweepPerWrite = 16
	sweepPerTimer = 1000
)

// sweep forgets up to limit records that have expired.
func (m *Memory) sweep(now time.Time, limit int) {
	for ; limit > 0 && len(m.expiry) > 0 && !m.expiry[0].live(now); limit-- {
		m.remove(m.expiry[0].key)
	}
}

// plan makes sure that what expires is forgotten even if nobody writes any more.
func (m *Memory) plan(now time.Time) {
	if m.timer != nil || len(m.expiry) == 0 || m.closed {
		return
	}
	wait := min(max(m.expiry[0].expires.Sub(now), 0)+time.Second, time.Minute)
	m.timer = time.AfterFunc(wait, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.timer = nil
		now := m.clock()
		m.sweep(now, sweepPerTimer)
		m.plan(now)
	})
}

// Close forgets everything. It may be called twice.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	if m.timer != nil {
		m.timer.Stop()
	}
	m.byKey, m.expiry = map[string]*memoryRecord{}, nil
	return nil
}

// Scan walks the keys that begin with prefix and sort after after, in byte order, each as it is when it is reached.
func (m *Memory) Scan(ctx context.Context, prefix, after string, fn func(e Entry) bool) error {
	var keys []string
	m.mu.RLock()
	for k := range m.byKey {
		if k > after && strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	m.mu.RUnlock()
	slices.Sort(keys)
	for _, k := range keys {
		got, err := m.Get(ctx, k)
		if err != nil {
			return err
		}
		if got[0].Found && !fn(got[0]) {
			return nil
		}
	}
	return nil
}

// expiryHeap has the record that expires first at its top. Records know their place, so that a write can take them out.
type expiryHeap []*memoryRecord

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].expires.Before(h[j].expires) }
func (h expiryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push adds a record at the end (container/heap).
func (h *expiryHeap) Push(x any) {
	r := x.(*memoryRecord)
	r.at = len(*h)
	*h = append(*h, r)
}

// Pop takes the last record off (container/heap).
func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return r
}
