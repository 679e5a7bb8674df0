package store

import (
	"bytes"
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/edged-io/edged/edge/state"
)

// Bounds of what Scan reads at a time: a read transaction must not stay open while fn runs, because a commit that grows
// the file waits for it.
const (
	scanKeys  = 128
	scanBytes = 256 << 10
)

// Scan walks the keys that begin with prefix and sort after after, in byte order, each as it is when it is reached: a
// write that happens meanwhile may be seen or not. fn may call the store.
func (st *State) Scan(ctx context.Context, prefix, after string, fn func(e state.Entry) bool) error {
	var page []state.Entry
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		var next string
		var more bool
		err := st.s.view(func(tx *bbolt.Tx) (err error) {
			page, next, more, err = st.scanPage(tx, page[:0], prefix, after)
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range page {
			if !fn(e) {
				return nil
			}
		}
		if !more {
			return nil
		}
		after = next
	}
}

// scanPage collects some entries. next is the last key looked at; more tells whether there may be others.
func (st *State) scanPage(tx *bbolt.Tx, page []state.Entry, prefix, after string) (_ []state.Entry, next string, more bool, err error) {
	b := tx.Bucket(st.values)
	if b == nil {
		return page, "", false, nil
	}
	c := b.Cursor()
	k, v := c.Seek([]byte(max(prefix, after)))
	if k != nil && after != "" && string(k) == after {
		k, v = c.Next()
	}
	for n, size := 0, 0; k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		if n == scanKeys || size > scanBytes {
			return page, next, true, nil
		}
		if n > 0 && string(k) <= next || after != "" && string(k) <= after {
			return nil, "", false, st.s.damaged(fmt.Sprintf("key %q is out of order", k)) // or the walk might not end
		}
		n, size = n+1, size+len(v)
		next = string(k)
		e := state.Entry{Key: next}
		if err := st.fill(&e, v); err != nil {
			return nil, "", false, err
		}
		if e.Found {
			page = append(page, e)
		}
	}
	return page, next, false, nil
}
