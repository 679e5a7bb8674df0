package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/fnv"

	"go.etcd.io/bbolt"
)

// DecodeState decodes a record as Get does, and encodes it again.
func DecodeState(b []byte, key string) (again []byte, err error) {
	r, err := decodeState(b, key)
	if err != nil {
		return nil, err
	}
	return r.append(nil, key), nil
}

// EncodeState encodes a record.
func EncodeState(key string, value []byte) []byte {
	r := stateRecord{revision: 1 << 40, modified: 1 << 41, expires: 7, contentType: "text/plain", origin: "gw", value: value}
	return r.append(nil, key)
}

// Sweep removes what has expired, now.
func (s *Store) Sweep() error {
	_, err := s.sweep.sweep()
	return err
}

// Records counts the records of a component as they are on disk: expired ones and tombstones too.
func (st *State) Records() (values, expiry, dirty int) {
	count := func(name []byte) (n int) {
		_ = st.s.view(func(tx *bbolt.Tx) error {
			if b := tx.Bucket(name); b != nil {
				n = b.Stats().KeyN
			}
			return nil
		})
		return n
	}
	return count(st.values), count(st.expiry), count(st.dirty)
}

// CheckBytes runs the check that Open makes over the bytes of a database file.
func CheckBytes(b []byte) error {
	metas := readMetas(bytes.NewReader(b), int64(len(b)))
	if len(metas) == 0 {
		return &damageError{"no valid meta page"}
	}
	return walk(context.Background(), bytes.NewReader(b), int64(len(b)), metas[0], quickPages)
}

// SealMeta gives the first meta page of a database file the right checksum, so that a fuzzer gets past it.
func SealMeta(b []byte) {
	if len(b) >= pageHeader+metaSize {
		m := b[pageHeader:]
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		binary.NativeEndian.PutUint64(m[metaSize-8:], sum.Sum64())
	}
}
