package store_test

import "go.etcd.io/bbolt"

// openBolt opens a database file as another program would.
func openBolt(path string) (*bbolt.DB, error) { return bbolt.Open(path, 0o600, nil) }

func putMeta(db *bbolt.DB, key, value string) error {
	return db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte(key), []byte(value)) })
}
