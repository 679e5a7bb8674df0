// Package state is the state building block: keys and values with ETags, expiry and transactions, per application.
// A call that returns nil has been committed with the store's durability; a call that returns an error changed nothing.
package state

import (
	"context"
	"errors"
	"time"
)

// Concurrency says whose write wins when two writers meet (Dapr state API, options.concurrency).
type Concurrency uint8

// LastWrite ignores ETags that were not given; FirstWrite refuses to overwrite an existing key without its ETag.
const (
	LastWrite Concurrency = iota
	FirstWrite
)

// ErrETagMismatch reports that a write's ETag is not the key's current one; ErrETagInvalid that it cannot be one.
var (
	ErrETagMismatch = errors.New("etag mismatch")
	ErrETagInvalid  = errors.New("invalid etag")
)

// Entry is what a store holds under a key. A key that is absent or expired has Found false and no value.
type Entry struct {
	Key         string
	Found       bool
	Value       []byte // owned by the caller
	ETag        string // decimal revision of the store: it only grows, so ETags of a key are monotonic
	ContentType string
	Expires     time.Time // zero: never
}

// OpKind tells an upsert from a delete.
type OpKind uint8

// The kinds of Op.
const (
	Upsert OpKind = iota
	Delete
)

// Op is one write. The store does not keep Value after the call returns.
type Op struct {
	Kind        OpKind
	Key         string
	Value       []byte
	ContentType string
	ETag        string // required current ETag; HasETag tells "" from none
	HasETag     bool
	Concurrency Concurrency
	TTL         time.Duration // 0: never expires
	// Consistency and Metadata are as the application wrote them, for components that know more than this package does.
	Consistency string
	Metadata    map[string]string
}

// Store is a state store component. Keys are complete (`appid||key` is the Service's doing). All methods are safe for
// concurrent use; reads see every write that has returned.
type Store interface {
	// Get reads keys in one consistent view; result i belongs to key i.
	Get(ctx context.Context, keys ...string) ([]Entry, error)
	// Apply commits all ops atomically in order, or none. The first failing op's error is returned as *OpError.
	Apply(ctx context.Context, ops []Op) error
	// ApplyEach commits each op independently, sharing one disk sync where it can; error i belongs to op i, nil if committed.
	ApplyEach(ctx context.Context, ops []Op) []error
	// Features lists what the component can do, in Dapr's words (ETAG, TRANSACTIONAL, TTL, ...).
	Features() []string
}

// OpError says which op of a transaction was refused. Nothing of the transaction was applied.
type OpError struct {
	Index int
	Key   string
	Err   error
}

// Error names the key and the cause.
func (e *OpError) Error() string { return "key " + e.Key + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// BulkReader is the optional ability to read many keys in a call of its own: errs[i] says why key i could not be read, and
// err that the call failed as a whole.
type BulkReader interface {
	BulkGet(ctx context.Context, keys []string) (entries []Entry, errs []error, err error)
}

// metadataKey is where a call's request metadata travels.
type metadataKey struct{}

// withMetadata gives a call its request metadata, such as a partition key, which only some components know.
func withMetadata(ctx context.Context, metadata map[string]string) context.Context {
	if len(metadata) == 0 {
		return ctx
	}
	return context.WithValue(ctx, metadataKey{}, metadata)
}

// RequestMetadata returns the metadata of the request that a store is serving; nil if there is none. It is not to be
// changed.
func RequestMetadata(ctx context.Context) map[string]string {
	m, _ := ctx.Value(metadataKey{}).(map[string]string)
	return m
}

// Scanner is the optional ability to walk keys in byte order: the query API, prefix deletes and sync use it.
// fn must not keep e.Value; returning false stops the walk. Expired keys are not shown.
type Scanner interface {
	Scan(ctx context.Context, prefix, after string, fn func(e Entry) bool) error
}

// Change is one key's latest state as upstream sync sees it.
type Change struct {
	Sequence    uint64 // order of the local write among all changes of the store
	Key         string
	Deleted     bool
	Value       []byte
	ContentType string
	ETag        string
	Modified    time.Time // wall clock of the write; may be wrong on a device without a clock
	Expires     time.Time
	Origin      string // device that wrote it; empty: this one
}

// Feed is what upstream sync needs of a store. Local writes to tracked keys leave a dirty mark in the same transaction;
// marks coalesce, one per key, so the backlog is bounded by the number of keys and not by time offline.
type Feed interface {
	// Track sets which keys leave dirty marks (nil: none). Existing marks stay. It is durable.
	Track(ctx context.Context, match func(key string) bool) error
	// Dirty returns up to limit changes, oldest first, with values as they are now.
	Dirty(ctx context.Context, limit int) ([]Change, error)
	// Clean removes the marks of those changes whose key was not written again since. It returns when that is durable.
	Clean(ctx context.Context, done []Change) error
	// Changed is signalled (capacity 1, may be spurious) after a dirty mark is committed.
	Changed() <-chan struct{}
	// Merge applies changes from elsewhere atomically, without dirty marks, together with meta key-values (such as a
	// sync cursor), so that an acknowledged pull is never half there. A change whose key has a dirty mark is skipped
	// and its index returned, for the caller's conflict policy.
	Merge(ctx context.Context, changes []Change, meta map[string][]byte) (skipped []int, err error)
	// Meta reads a sync meta value; nil if absent.
	Meta(ctx context.Context, key string) ([]byte, error)
	// Epoch is the random identity of this database's incarnation; it changes when the database was made anew.
	Epoch() string
}
