// Package store keeps a device's data in one folder: state, cursors and sync's dirty set in a bbolt database, and the
// event log in segment files beside it. A call that returns nil is on disk and survives kill -9 and power loss, given
// storage that honours fsync; a call that returns an error changed nothing.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// Options say how a data folder is opened. The zero value is ready to use.
type Options struct {
	Log *slog.Logger // default: discard
	// Clock tells the wall time; default time.Now. It may be wrong or step: expiry counts elapsed time (see ttlClock).
	Clock func() time.Time
	// ReserveBytes is the free space kept for deletes, acks and cursors: when less is free, upserts are refused with
	// fault.ErrStorageFull. 0 means 8 MiB or 2 % of the file system, whichever is smaller; negative means no reserve.
	ReserveBytes int64
	// CommitInterval is the least time between two commits. Writers wait for the commit that holds their write, so it
	// costs latency and spares flash; nothing is acknowledged before it is on disk. 0: commit at once.
	CommitInterval time.Duration
}

// Store is an open data folder. It is safe for concurrent use. One process holds a folder at a time.
type Store struct {
	dir   string
	opts  Options
	log   *slog.Logger
	lock  *folderLock
	db    *bbolt.DB
	file  *os.File // state.db, to read pages as they are on disk
	ident identity
	ttl   *ttlClock
	space *spaceGuard
	queue commitQueue
	io    ioCounters
	sweep sweeper

	journals journalSet

	mu          sync.Mutex
	quarantined []Quarantine
	states      map[string]*State
	closed      bool
}

// Quarantine says that a damaged file was set aside and replaced by an empty one.
type Quarantine struct {
	File   string // where the damaged file is now
	Reason string
	Time   time.Time
}

// Open acquires the data folder dir, creating it (mode 0700) if needed. A folder that another process holds is an error
// that names the folder and that process. A damaged state.db is renamed to state.db.corrupt-<UTC time>, reported, and
// replaced by an empty one with a new epoch. Time to open does not grow with the amount of data.
func Open(dir string, opts Options) (*Store, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, opts: opts, log: opts.Log, lock: lock, states: map[string]*State{}}
	s.space = newSpaceGuard(dir, opts.ReserveBytes)
	if err := s.openDatabase(); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

// Dir returns the data folder.
func (s *Store) Dir() string { return s.dir }

// Epoch is the random identity of this database's incarnation. It changes when state.db was made anew.
func (s *Store) Epoch() string { return s.ident.epoch }

// Quarantined lists the files that were set aside since Open, oldest first.
func (s *Store) Quarantined() []Quarantine {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Quarantine(nil), s.quarantined...)
}

// Close waits for writes in progress, refuses later ones with ErrClosed, and releases the folder. It may be called twice.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()

	s.sweep.stop()
	journalErr := s.journals.close()
	// The anchor is a courtesy to expiry across a restart without a clock; a full disk must not fail Close.
	if err := s.submit(context.Background(), &saveAnchor{s: s}); err != nil {
		s.log.Debug("save clock anchor", "error", err)
	}
	s.queue.close()
	return errors.Join(journalErr, s.closeDatabase(), s.lock.release())
}

// ErrClosed reports a call on a closed Store.
var ErrClosed = errors.New("store is closed")

func (s *Store) databasePath() string { return filepath.Join(s.dir, databaseFile) }
