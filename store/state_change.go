package store

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

// change edits one component's records within a group's transaction.
type change struct {
	st      *State
	tx      *writeTx
	values  *bbolt.Bucket // nil until the component's first write
	expiry  *bbolt.Bucket
	dirty   *bbolt.Bucket
	track   *tracking
	rev     uint64
	changed bool
	dirtied bool
	expires int64 // earliest expiry that was written
	buf     []byte
}

func (st *State) change(tx *writeTx, buf []byte) *change {
	c := &change{st: st, tx: tx, track: st.track.Load(), buf: buf[:0]}
	c.values, c.expiry, c.dirty = tx.Bucket(st.values), tx.Bucket(st.expiry), tx.Bucket(st.dirty)
	if c.values != nil {
		c.rev = c.values.Sequence()
	}
	return c
}

// must turns an error that bbolt gives only for a damaged file (sizes are checked before) into the panic that makes the
// committer give up the transaction.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func (c *change) bucket(b **bbolt.Bucket, name []byte) *bbolt.Bucket {
	if *b == nil {
		made, err := c.tx.CreateBucketIfNotExists(name)
		must(err)
		*b = made
	}
	return *b
}

// open creates the values bucket if this is the component's first write, with revisions that begin at the base.
func (c *change) open() {
	if c.values == nil {
		c.bucket(&c.values, c.st.values)
		c.rev = c.st.s.ident.baseRevision
	}
}

// current returns the record of key; ok is false if there is none, dead or alive.
func (c *change) current(key string) (r stateRecord, ok bool, err error) {
	if c.values == nil {
		return r, false, nil
	}
	v := c.values.Get([]byte(key))
	if v == nil {
		return r, false, nil
	}
	r, err = decodeState(v, key)
	return r, err == nil, err
}

// isDirty reports whether upstream still has to learn of r.
func (c *change) isDirty(r stateRecord) bool {
	return c.dirty != nil && c.dirty.Get(revisionKey(r.revision)) != nil
}

// check decides an op's preconditions. It changes nothing.
func (c *change) check(op *state.Op) error {
	if err := c.checkKey(op.Key); err != nil {
		return err
	}
	if c.tx.full && op.Kind == state.Upsert {
		return fault.StorageFull("write state", errReserve)
	}
	hasETag := op.HasETag && op.ETag != ""
	if !hasETag && op.Concurrency != state.FirstWrite {
		return nil
	}
	r, ok, err := c.current(op.Key)
	if err != nil {
		return err
	}
	exists := ok && r.live(c.tx.now)
	if !hasETag {
		if exists {
			return fmt.Errorf("%w: the key exists and no etag was given", state.ErrETagMismatch)
		}
		return nil
	}
	want, err := strconv.ParseUint(op.ETag, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %q is not a revision", state.ErrETagInvalid, op.ETag)
	}
	if !exists {
		return fmt.Errorf("%w: the key does not exist, etag %s was given", state.ErrETagMismatch, op.ETag)
	}
	if want != r.revision {
		return fmt.Errorf("%w: current is %d, given was %s", state.ErrETagMismatch, r.revision, op.ETag)
	}
	return nil
}

var errReserve = errors.New("less than the reserve is free")

func (c *change) checkKey(key string) error {
	if key == "" {
		return errors.New("empty key")
	}
	if len(key) > maxKeySize {
		return fmt.Errorf("key of %d bytes: at most %d are possible", len(key), maxKeySize)
	}
	return nil
}

// apply makes an op that was checked.
func (c *change) apply(op *state.Op) {
	marked := c.track.mark(op.Key)
	if op.Kind == state.Delete {
		c.remove(op.Key, marked)
		return
	}
	r := stateRecord{modified: c.tx.wall.UnixMilli(), contentType: op.ContentType, value: op.Value}
	if op.TTL > 0 {
		r.expires = c.tx.now + max(op.TTL.Milliseconds(), 1)
	}
	c.put(op.Key, r, marked)
}

// put writes r as the record of key under a new revision.
func (c *change) put(key string, r stateRecord, marked mark) {
	c.open()
	marked = max(marked, c.retire(key))
	c.rev++
	r.revision = c.rev
	c.write(key, &r)
	if r.expires != 0 {
		must(c.bucket(&c.expiry, c.st.expiry).Put(expiryKey(r.expires, key), nil))
		if c.expires == 0 || r.expires < c.expires {
			c.expires = r.expires
		}
	}
	c.mark(key, marked)
	c.changed = true
}

// remove deletes key. Where upstream has to learn of it, a tombstone stays until it has.
func (c *change) remove(key string, marked mark) {
	if c.values == nil || c.values.Get([]byte(key)) == nil {
		return
	}
	if r, ok, _ := c.current(key); ok && r.flags&stateDeleted != 0 {
		return
	}
	marked = max(marked, c.retire(key))
	c.rev++
	c.changed = true
	if marked == unmarked {
		must(c.values.Delete([]byte(key)))
		return
	}
	c.write(key, &stateRecord{flags: stateDeleted, revision: c.rev, modified: c.tx.wall.UnixMilli()})
	c.mark(key, marked)
}

// retire removes what the indexes say about the present record of key, and returns the dirty mark that it had. A
// damaged record is simply overwritten; its index entries are found stale later.
func (c *change) retire(key string) mark {
	r, ok, err := c.current(key)
	if err != nil || !ok {
		return unmarked
	}
	if r.expires != 0 && c.expiry != nil {
		must(c.expiry.Delete(expiryKey(r.expires, key)))
	}
	if c.dirty == nil {
		return unmarked
	}
	k := revisionKey(r.revision)
	v := c.dirty.Get(k)
	if v == nil {
		return unmarked
	}
	was := markOf(v)
	must(c.dirty.Delete(k))
	return was
}

// write encodes r into the buffer that outlives the commit, because bbolt keeps the slice.
func (c *change) write(key string, r *stateRecord) {
	start := len(c.buf)
	c.buf = r.append(c.buf, key)
	must(c.values.Put([]byte(key), c.buf[start:len(c.buf):len(c.buf)]))
}

func (c *change) mark(key string, m mark) {
	if m == unmarked {
		return
	}
	must(c.bucket(&c.dirty, c.st.dirty).Put(revisionKey(c.rev), markValue(m, key)))
	c.dirtied = true
}

// finish stores the revision, which costs no page of its own: it lies in the bucket's header.
func (c *change) finish() bool {
	if c.changed && c.values != nil {
		must(c.values.SetSequence(c.rev))
	}
	return c.changed
}

// merge makes a change that comes from elsewhere. It reports false, and does nothing, if the key has a local change
// that upstream has not seen.
func (c *change) merge(ch *state.Change) bool {
	if r, ok, _ := c.current(ch.Key); ok && c.isDirty(r) {
		return false
	}
	left, expired := c.lifetime(ch)
	if ch.Deleted || expired {
		c.remove(ch.Key, unmarked)
		return true
	}
	r := stateRecord{contentType: ch.ContentType, origin: ch.Origin, value: ch.Value}
	if r.modified = ch.Modified.UnixMilli(); ch.Modified.IsZero() {
		r.modified = c.tx.wall.UnixMilli()
	}
	if left > 0 {
		r.expires = c.tx.now + max(left.Milliseconds(), 1)
	}
	c.put(ch.Key, r, unmarked)
	return true
}

// lifetime is how long a change from elsewhere still has to live. Where this clock is not set, it lives as long as it
// was given when it was written.
func (c *change) lifetime(ch *state.Change) (left time.Duration, expired bool) {
	if ch.Expires.IsZero() {
		return 0, false
	}
	from := c.tx.wall
	if !trusted(from) && !ch.Modified.IsZero() {
		from = ch.Modified
	}
	left = ch.Expires.Sub(from)
	return left, left <= 0
}
