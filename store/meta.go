package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// identity is what the meta bucket says about the database.
type identity struct {
	epoch string
	// baseRevision is where the revisions of new components begin. It is random, so that an ETag of a database that was
	// lost or replaced is not valid in the next one by chance. Revisions stay below 2^53 for JavaScript's sake.
	baseRevision uint64
}

// damageError says that state.db holds a page or record that cannot be right.
type damageError struct{ cause any }

// Error tells what was found.
func (e *damageError) Error() string { return fmt.Sprintf("state.db is damaged: %v", e.cause) }

// ErrDamaged is in the chain of every error about a damaged record or page. Other keys stay usable.
var ErrDamaged = errors.New("damaged data")

// Unwrap makes errors.Is(err, ErrDamaged) true.
func (e *damageError) Unwrap() error { return ErrDamaged }

// damaged makes an error of what bbolt panicked with while it read a page.
func (s *Store) damaged(cause any) error {
	s.io.damaged.Add(1)
	return &damageError{cause}
}

// openDatabase opens state.db, replacing it if it is damaged.
func (s *Store) openDatabase() error {
	s.queue.init()
	db, err := s.tryOpen()
	var d *damageError
	if errors.As(err, &d) {
		if err := s.setAside(s.databasePath(), d.Error()); err != nil {
			return err
		}
		db, err = s.tryOpen()
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", s.databasePath(), err)
	}
	if s.file, err = os.Open(s.databasePath()); err != nil {
		return errors.Join(fmt.Errorf("open database: %w", err), db.Close())
	}
	s.db = db
	s.sweep.init(s)
	return nil
}

// tryOpen checks, opens and identifies the database. A damageError says that the file should be set aside.
func (s *Store) tryOpen() (db *bbolt.DB, err error) {
	if err := quickCheck(s.databasePath()); err != nil {
		return nil, err
	}
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, s.damaged(r) // the handle of a database that panicked on open is not worth closing
		}
	}()
	// The freelist is kept on disk. Without it a commit would write one page of six less, which on its own made no
	// measurable difference in time, but opening, and every failed commit, would read the whole file.
	db, err = bbolt.Open(s.databasePath(), 0o600, &bbolt.Options{
		Timeout:      time.Second, // another program has it open
		FreelistType: bbolt.FreelistMapType,
		NoStatistics: true, // a lock per read transaction; IOStats counts what we need
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, errors.New("another program has the file open")
	}
	if err != nil {
		return nil, err
	}
	if err := s.identify(db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// identify reads the meta bucket, or writes it into a new database.
func (s *Store) identify(db *bbolt.DB) error {
	err := db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(metaBucket))
		if b == nil {
			return nil
		}
		return s.readIdentity(b)
	})
	if err != nil || s.ident.epoch != "" {
		return err
	}
	var random [20]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("make epoch: %w", err)
	}
	s.ident.epoch = hex.EncodeToString(random[:16])
	s.ident.baseRevision = uint64(1+binary.BigEndian.Uint32(random[16:])>>12) << 32
	s.ttl = newTTLClock(s.opts.Clock, nil)
	err = db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return err
		}
		return errors.Join(
			b.Put([]byte(metaFormat), strconv.AppendInt(nil, formatVersion, 10)),
			b.Put([]byte(metaEpoch), []byte(s.ident.epoch)),
			b.Put([]byte(metaRevision), revisionKey(s.ident.baseRevision)),
			b.Put([]byte(metaAnchor), s.ttl.anchor()),
		)
	})
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return syncFolder(s.dir)
}

func (s *Store) readIdentity(b *bbolt.Bucket) error {
	format, err := strconv.Atoi(string(b.Get([]byte(metaFormat))))
	if err != nil {
		return &damageError{"no format version"}
	}
	if format > formatVersion {
		return fmt.Errorf("format %d was written by a newer edged; this one knows %d", format, formatVersion)
	}
	epoch, base := string(b.Get([]byte(metaEpoch))), splitRevisionKey(b.Get([]byte(metaRevision)))
	if epoch == "" || base == 0 {
		return &damageError{"no epoch"}
	}
	s.ident = identity{epoch, base}
	s.ttl = newTTLClock(s.opts.Clock, b.Get([]byte(metaAnchor)))
	return nil
}

// setAside renames a damaged file, so that it can be looked into and does not stop the next start.
func (s *Store) setAside(path, reason string) error {
	now := s.opts.Clock().UTC()
	target := path + corruptSuffix + now.Format("20060102T150405.000Z")
	if err := os.Rename(path, target); err != nil {
		return fmt.Errorf("set damaged file aside: %w", err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return err
	}
	s.ident = identity{}
	s.mu.Lock()
	s.quarantined = append(s.quarantined, Quarantine{File: target, Reason: reason, Time: now})
	s.mu.Unlock()
	s.log.Error("a damaged file was set aside and replaced", "file", path, "kept", target, "reason", reason)
	return nil
}

// syncFolder makes a rename or creation in dir durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// closeDatabase closes bbolt. A database in which a rollback panicked still holds its locks and cannot be closed; the
// kernel does it when the process ends.
func (s *Store) closeDatabase() error {
	err := s.file.Close()
	if s.queue.broken != nil {
		return errors.Join(s.queue.broken, err)
	}
	return errors.Join(s.db.Close(), err)
}

// view runs fn in a read transaction. A damaged page, on which bbolt panics or faults, is an error.
func (s *Store) view(fn func(tx *bbolt.Tx) error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = s.damaged(r)
		}
	}()
	err = s.db.View(fn)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// saveAnchor writes the expiry clock down, so that it goes on after a restart whose wall clock is wrong.
type saveAnchor struct{ s *Store }

func (m *saveAnchor) apply(tx *writeTx) (bool, error) {
	return true, tx.Bucket([]byte(metaBucket)).Put([]byte(metaAnchor), m.s.ttl.anchor())
}
func (m *saveAnchor) committed() {}
