package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// Check reads the whole database and reports every inconsistency, damaged records included. Reads go on meanwhile;
// writes wait for the last part.
func (s *Store) Check(ctx context.Context) error {
	if err := s.checkPages(ctx); err != nil {
		return err
	}
	c := &consistency{ctx: ctx}
	if err := s.submit(ctx, c); err != nil {
		return err
	}
	return errors.Join(append(c.faults, s.checkRecords(ctx))...)
}

// checkRecords decodes every record of every component, in pages, so that no read transaction stays open for long.
func (s *Store) checkRecords(ctx context.Context) error {
	var components []string
	err := s.view(func(tx *bbolt.Tx) error {
		return eachBucket(tx, valuesPrefix, func(component string, _ *bbolt.Bucket) error {
			components = append(components, component)
			return nil
		})
	})
	faults := []error{err}
	for _, component := range components {
		for after, more := []byte(nil), true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := s.view(func(tx *bbolt.Tx) error {
				after, more = checkPage(tx.Bucket([]byte(valuesPrefix+component)), component, after, &faults)
				return nil
			})
			if err != nil {
				faults, more = append(faults, err), false
			}
		}
	}
	return errors.Join(faults...)
}

// maxFaults bounds what a check reports.
const maxFaults = 100

func checkPage(b *bbolt.Bucket, component string, after []byte, faults *[]error) (next []byte, more bool) {
	if b == nil {
		return nil, false
	}
	c := b.Cursor()
	k, v := c.Seek(after)
	if k != nil && bytes.Equal(k, after) {
		k, v = c.Next()
	}
	for n := 0; k != nil; k, v = c.Next() {
		if n++; n > 1000 {
			return next, true
		}
		if _, err := decodeState(v, string(k)); err != nil && len(*faults) < maxFaults {
			*faults = append(*faults, fmt.Errorf("component %s: %w", component, err))
		}
		next = append(next[:0], k...)
	}
	return nil, false
}

// consistency runs bbolt's own check. It needs that nobody writes, so it takes the place of a commit.
type consistency struct {
	ctx    context.Context
	faults []error
}

func (c *consistency) apply(tx *writeTx) (bool, error) {
	for err := range tx.Check() {
		if len(c.faults) < maxFaults {
			c.faults = append(c.faults, &damageError{err})
		}
	}
	return false, c.ctx.Err()
}
func (c *consistency) committed() {}
