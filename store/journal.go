package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// eventsFolder holds a folder for each component, which holds one for each lane, which holds segments.
const eventsFolder = "events"

// Journal opens the durable event log of a pub/sub component: one lane for each contract, and a last one for topics
// that match none, which keeps 256 MiB for a day and drops the oldest. Events are on disk when Append returns; see
// pubsub.Journal. A lane whose contract is no longer given stays readable, and goes when it is empty. The journal is
// closed with the store. A component's journal can be open once.
func (s *Store) Journal(component string, contracts []pubsub.Contract) (pubsub.Journal, error) {
	if component == "" {
		return nil, errors.New("open event log: the component has no name")
	}
	set := &s.journals
	set.mu.Lock()
	defer set.mu.Unlock()
	if set.closed {
		return nil, ErrClosed
	}
	if set.open[component] != nil {
		return nil, fmt.Errorf("open event log: component %q has it open", component)
	}
	j, err := openJournal(filepath.Join(s.dir, eventsFolder, folderName(component)), contracts, journalOptions{
		log:   s.log.With("component", component),
		clock: s.ttl.read,
		meta:  journalFacts{s, []byte(journalPrefix + component)},
		count: &set.io, spaceLow: s.space.low, diskFull: s.space.full,
		quarantined: s.noteQuarantine,
	})
	if err != nil {
		return nil, fmt.Errorf("open event log of %q: %w", component, err)
	}
	if set.open == nil {
		set.open = map[string]*eventLog{}
	}
	set.open[component] = j
	return j, nil
}

// journalSet holds the open event logs of a store.
type journalSet struct {
	mu     sync.Mutex
	open   map[string]*eventLog
	closed bool
	io     logCounters
}

// LogIO returns what the event logs have cost since Open.
func (s *Store) LogIO() LogIO { return s.journals.io.figures() }

// close closes the event logs: it waits for appends in progress and flushes the cursors.
func (set *journalSet) close() error {
	set.mu.Lock()
	defer set.mu.Unlock()
	set.closed = true
	var errs []error
	for name, j := range set.open {
		if err := j.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close event log of %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) noteQuarantine(q Quarantine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quarantined = append(s.quarantined, q)
}

// journalOptions are what an eventLog needs of its surroundings.
type journalOptions struct {
	log         *slog.Logger
	clock       func() (ms int64, wall time.Time) // ms only goes forward; see ttlClock
	meta        cursorStore
	open        openSegmentFile
	count       *logCounters
	spaceLow    func() bool // less than the reserve is free
	diskFull    func()      // a write found the disk full
	quarantined func(Quarantine)
	flushEvery  time.Duration // how long a committed cursor may stay in memory; see patience. Default 250 ms
	segmentSize int64         // 0: from the contract
}

const (
	defaultFlushEvery = 250 * time.Millisecond
	flushCommits      = 10_000
	restAfter         = 10 * time.Second
)

// eventLog is the durable journal of one component. It implements pubsub.Journal.
type eventLog struct {
	opts   journalOptions
	dir    string
	meta   cursorStore
	lanes  []*lane // one for each contract, in order of precedence; then those without
	routes int     // how many have a contract
	sum    uint32  // of the contracts
	gaps   gapLedger
	age    ageClock
	calls  sync.Pool

	flushing sync.Mutex // held while facts are collected and saved
	janitor  janitor

	done chan struct{} // closed by Close
	shut atomic.Bool
}

var _ pubsub.Journal = (*eventLog)(nil)

func openJournal(dir string, contracts []pubsub.Contract, opts journalOptions) (*eventLog, error) {
	if opts.open == nil {
		opts.open = openOSSegmentFile
	}
	if opts.flushEvery <= 0 {
		opts.flushEvery = defaultFlushEvery
	}
	j := &eventLog{opts: opts, dir: dir, meta: opts.meta, done: make(chan struct{})}
	j.gaps.log = opts.log
	j.age.clock = opts.clock
	j.calls.New = func() any { return &appendCall{wake: make(chan struct{}, 1)} }
	j.janitor = janitor{j: j, stopped: true}
	meta, err := opts.meta.LoadMeta()
	if err != nil {
		return nil, err
	}
	j.gaps.load(meta)
	if err := j.openLanes(contracts, meta); err != nil {
		return nil, err
	}
	j.age.begin(meta, j.lanes)
	for _, l := range j.lanes[j.routes:] {
		l.trimming.Lock()
		l.release()
		l.trimming.Unlock()
	}
	// Lanes that are new, and losses found while opening, are written down at once. If the disk is full that waits.
	err = j.flush(context.Background())
	j.lanes = slices.DeleteFunc(j.lanes, func(l *lane) bool { return l.gone })
	j.janitor.start()
	if err != nil {
		opts.log.Warn("save event log state; trying again", "error", err)
		j.dirty(1)
	}
	j.awake()
	return j, nil
}

// openLanes opens the lanes of the contracts, and those that are on disk without one.
func (j *eventLog) openLanes(contracts []pubsub.Contract, meta map[string][]byte) error {
	contracts, err := withDefaults(contracts)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	j.sum = routesSum(contracts)
	for _, c := range contracts {
		key := folderName(c.Match)
		if known[key] {
			continue // an earlier contract of the same topics takes them all
		}
		known[key] = true
		l, err := j.openLane(key, c, meta)
		if err != nil {
			return err
		}
		j.lanes = append(j.lanes, l)
	}
	j.routes = len(j.lanes)
	orphans, err := j.orphans(known, meta)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(orphans)) {
		l, err := j.openLane(key, orphans[key], meta)
		if err != nil {
			return err
		}
		l.orphan = true
		j.lanes = append(j.lanes, l)
	}
	return nil
}

// withDefaults checks the contracts and adds the last one.
func withDefaults(contracts []pubsub.Contract) ([]pubsub.Contract, error) {
	contracts = slices.Clone(contracts)
	for i := range contracts {
		c := &contracts[i]
		if c.WhenFull == "" {
			c.WhenFull = pubsub.DropOldest
		}
		switch {
		case c.Match == "" || len(c.Match) > 1024:
			return nil, fmt.Errorf("contract %q: match must be a topic filter of at most 1024 bytes", c.Match)
		case c.WhenFull != pubsub.Reject && c.WhenFull != pubsub.DropOldest:
			return nil, fmt.Errorf("contract %q: whenFull is %q: want reject or drop-oldest", c.Match, c.WhenFull)
		case c.MaxBytes < 0 || c.MaxEvents < 0 || c.MaxAge < 0:
			return nil, fmt.Errorf("contract %q: a bound is negative", c.Match)
		}
	}
	return append(contracts, defaultContract), nil
}

var defaultContract = pubsub.Contract{
	Match: "#", MaxBytes: 256 << 20, MaxAge: 24 * time.Hour, WhenFull: pubsub.DropOldest,
}

// orphans finds lanes on disk that no contract has made, with the contract they had.
func (j *eventLog) orphans(known map[string]bool, meta map[string][]byte) (map[string]pubsub.Contract, error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list event log: %w", err)
	}
	found := map[string]pubsub.Contract{}
	for _, e := range entries {
		key := e.Name()
		if !e.IsDir() || known[key] {
			continue
		}
		facts, ok := decodeLaneFacts(meta[metaLane+key])
		if !ok {
			facts.contract = defaultContract
			facts.contract.Match = matchOf(filepath.Join(j.dir, key))
		}
		if facts.contract.Match != "" {
			found[key] = facts.contract
		}
	}
	return found, nil
}

// matchOf reads from its segments whose lane a folder is.
func matchOf(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if _, ok := parseSegmentName(e.Name()); !ok {
			continue
		}
		if h, err := headerOf(filepath.Join(dir, e.Name())); err == nil {
			return h.match
		}
	}
	return ""
}

// folderName is a file name for any string: what is readable of it, and enough of a hash that no two are the same.
func folderName(s string) string {
	readable := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == '/':
			return '.'
		case r == '#':
			return '@'
		}
		return '_'
	}, s)
	sum := sha256.Sum256([]byte(s))
	return strings.TrimLeft(readable[:min(len(readable), 48)], ".") + "~" + hex.EncodeToString(sum[:6])
}

// errLogClosed answers calls on a log that was closed, in the words of both packages.
var errLogClosed = errors.Join(pubsub.ErrClosed, ErrClosed)

// Gaps implements pubsub.Journal.
func (j *eventLog) Gaps(limit int) []pubsub.Gap { return j.gaps.newest(limit) }

func (j *eventLog) closed() bool { return j.shut.Load() }

// Close refuses appends, ends reads, waits for what is in progress and makes cursors durable. It may be called twice.
func (j *eventLog) Close() error {
	if !j.shut.CompareAndSwap(false, true) {
		return nil
	}
	close(j.done)
	j.janitor.stop()
	for _, l := range j.lanes {
		l.shutDown()
	}
	return j.flush(context.Background())
}

func newTxID() (id [txIDSize]byte, err error) {
	if _, err = rand.Read(id[:]); err != nil {
		err = fmt.Errorf("make transaction id: %w", err)
	}
	return id, err
}
