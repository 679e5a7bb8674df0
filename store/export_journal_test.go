package store

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// TestFacts is a cursorStore in memory that outlives the log, as state.db does.
type TestFacts struct {
	mu    sync.Mutex
	facts map[string][]byte
	saves int
	Fail  error  // what SaveMeta answers, if set
	Hook  func() // called before a save takes effect, if set
}

func (f *TestFacts) LoadMeta() (map[string][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.facts), nil
}

func (f *TestFacts) SaveMeta(_ context.Context, puts map[string][]byte, deletes []string) error {
	f.mu.Lock()
	hook := f.Hook
	f.mu.Unlock()
	if hook != nil {
		hook()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Fail != nil {
		return f.Fail
	}
	f.saves++
	if f.facts == nil {
		f.facts = map[string][]byte{}
	}
	maps.Copy(f.facts, puts)
	for _, k := range deletes {
		delete(f.facts, k)
	}
	return nil
}

// Saves counts the saves.
func (f *TestFacts) Saves() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.saves
}

// SetFail makes saves fail, or not any more.
func (f *TestFacts) SetFail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Fail = err
}

// SetHook sets what is called before a save.
func (f *TestFacts) SetHook(hook func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Hook = hook
}

// Clone copies the facts as they are on disk.
func (f *TestFacts) Clone() *TestFacts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &TestFacts{facts: maps.Clone(f.facts)}
}

// Forget is the loss of state.db.
func (f *TestFacts) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.facts = nil
}

// TestLogOptions are the parts of a log that tests replace.
type TestLogOptions struct {
	Facts       *TestFacts
	Clock       func() time.Time
	SegmentSize int64
	FlushEvery  time.Duration
	Disk        *TestDisk
	Log         *slog.Logger
	SpaceLow    func() bool
}

// TestLog is an event log without a store.
type TestLog struct {
	*eventLog
	dir   string
	count *logCounters

	mu          sync.Mutex
	Quarantined []Quarantine
}

// OpenTestLog opens the log in dir.
func OpenTestLog(t testing.TB, dir string, o TestLogOptions, contracts ...pubsub.Contract) *TestLog {
	t.Helper()
	l, err := TryOpenTestLog(dir, o, contracts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TryOpenTestLog opens the log in dir, or tells why not.
func TryOpenTestLog(dir string, o TestLogOptions, contracts ...pubsub.Contract) (*TestLog, error) {
	if o.Facts == nil {
		o.Facts = &TestFacts{}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &TestLog{dir: dir, count: &logCounters{}}
	opts := journalOptions{
		log: o.Log, clock: newTTLClock(o.Clock, nil).read, meta: o.Facts, count: l.count,
		spaceLow: func() bool { return o.SpaceLow != nil && o.SpaceLow() }, diskFull: func() {},
		quarantined: func(q Quarantine) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.Quarantined = append(l.Quarantined, q)
		},
		flushEvery: o.FlushEvery, segmentSize: o.SegmentSize,
	}
	if o.Disk != nil {
		opts.open = o.Disk.open
	}
	var err error
	l.eventLog, err = openJournal(dir, contracts, opts)
	return l, err
}

// IO returns the log's counters.
func (l *TestLog) IO() LogIO { return l.count.figures() }

// Kill ends the log as the end of its process does: nothing is written any more.
func (l *TestLog) Kill() {
	l.shut.Store(true)
	close(l.done)
	l.janitor.stop()
	for _, lane := range l.lanes {
		lane.queue.alone()
		if lane.writer != nil {
			_ = lane.writer.file.Close()
		}
		lane.trimming.Lock()
		lane.trim.close()
		lane.trimming.Unlock()
		lane.queue.pass()
	}
}

// Tidy runs the janitor's turn at once.
func (l *TestLog) Tidy() {
	t := &l.janitor
	t.mu.Lock()
	for t.active {
		t.mu.Unlock()
		runtime.Gosched()
		t.mu.Lock()
	}
	t.active = true
	t.mu.Unlock()
	t.turn()
	t.mu.Lock()
	t.active = false
	t.mu.Unlock()
}

// Compact compacts what is worth it and returns how many segments were written again.
func (l *TestLog) Compact() (n int) {
	for _, lane := range l.lanes {
		lane.trimming.Lock()
		for lane.compact(false) {
			n++
		}
		lane.trimming.Unlock()
	}
	return n
}

// Idle reports that the log holds neither buffers nor files.
func (l *TestLog) Idle() bool {
	for _, lane := range l.lanes {
		lane.mu.Lock()
		busy := len(lane.tail.blocks)+len(lane.idle) > 0
		lane.mu.Unlock()
		lane.trimming.Lock()
		busy = busy || lane.trim.scan != nil && lane.trim.scan.file != nil
		lane.trimming.Unlock()
		if busy {
			return false
		}
	}
	return true
}

// Segments lists the segment files in order.
func (l *TestLog) Segments(t testing.TB) []string { return ListSegments(t, l.dir) }

// ListSegments lists the segment files under dir in order.
func ListSegments(t testing.TB, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if _, ok := parseSegmentName(filepath.Base(path)); ok {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return paths
}

// ScanSegment reads a segment file's bytes as recovery does and returns the sequences and the data of its events.
func ScanSegment(data []byte, salt uint32, first uint64) (seqs []uint64, topics, bodies []string) {
	src := bytesFile(data)
	scan := frameScanner{src: src, salt: laneSalt(salt), end: int64(len(data)), next: first}
	if h, size, err := readSegmentHeader(src); err == nil {
		scan.off, scan.salt = int64(size), h.salt
	}
	_, _ = readFooter(src, int64(len(data)), first)
	index := &segmentIndex{}
	var f frame
	for {
		at, err := scan.scan(&f)
		if err != nil {
			break
		}
		index.addDecoded(at, &f)
		rest, r := f.records, eventRecord{}
		for i := range uint64(f.count) {
			var ok bool
			if rest, ok = decodeRecord(rest, &r); !ok {
				break
			}
			metadataOf(r.metadata)
			seqs, topics, bodies = append(seqs, f.seq+i), append(topics, string(r.topic)), append(bodies, string(r.data))
		}
	}
	scan.blank()
	if x, ok := readFooter(bytesFile(index.appendFooter(data[:min(index.end, int64(len(data)))], first)), -1, first); ok {
		_ = x.clone()
	}
	return seqs, topics, bodies
}

type bytesFile []byte

func (b bytesFile) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, fs.ErrInvalid
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, fs.ErrInvalid
	}
	return n, nil
}

// TestDisk stands between a log and its files: it makes writes and syncs fail, and it knows what a loss of power leaves.
type TestDisk struct {
	mu       sync.Mutex
	files    map[string]*testFile
	FailPut  func(path string, n int) (written int, err error)
	FailSync func(path string) error
	FailCut  func(path string) error
	FailOpen func(path string) error
}

type testFile struct {
	disk   *TestDisk
	path   string
	file   segmentFile
	synced []byte
	info   fs.FileInfo
}

// Set changes what fails.
func (d *TestDisk) Set(change func(d *TestDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *TestDisk) open(path string, flag int) (segmentFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.FailOpen != nil {
		if err := d.FailOpen(path); err != nil {
			return nil, err
		}
	}
	f, err := openOSSegmentFile(path, flag)
	if err != nil {
		return nil, err
	}
	if d.files == nil {
		d.files = map[string]*testFile{}
	}
	tf := &testFile{disk: d, path: path, file: f}
	if flag&os.O_EXCL == 0 {
		if old := d.files[path]; old != nil {
			tf.synced = old.synced
		} else if tf.synced, err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	if tf.info, err = os.Stat(path); err != nil {
		return nil, err
	}
	d.files[path] = tf
	return tf, nil
}

// PowerLoss leaves in each file that was written since its last sync, for each block of 512 bytes, the old or the new
// content as pick says, and one of the two sizes.
func (d *TestDisk) PowerLoss(t testing.TB, pick func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, f := range d.files {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, f.info) {
			continue // it was removed, or replaced by one that was synced first
		}
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		left := make([]byte, max(len(now), len(f.synced)))
		for at := 0; at < len(left); at += 512 {
			from := f.synced
			if pick() {
				from = now
			}
			if at < len(from) {
				copy(left[at:min(at+512, len(left))], from[at:])
			}
		}
		size := len(f.synced)
		if pick() {
			size = len(now)
		}
		if err := os.WriteFile(path, left[:size], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.files = nil
}

func (f *testFile) ReadAt(p []byte, off int64) (int, error) { return f.file.ReadAt(p, off) }
func (f *testFile) Close() error                            { return f.file.Close() }

func (f *testFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	fail := f.disk.FailPut
	f.disk.mu.Unlock()
	if fail != nil {
		if n, err := fail(f.path, len(p)); err != nil {
			n, _ = f.file.WriteAt(p[:n], off)
			return n, err
		}
	}
	return f.file.WriteAt(p, off)
}

func (f *testFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	fail := f.disk.FailCut
	f.disk.mu.Unlock()
	if fail != nil {
		if err := fail(f.path); err != nil {
			return err
		}
	}
	return f.file.Truncate(size)
}

func (f *testFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.FailSync != nil {
		if err := f.disk.FailSync(f.path); err != nil {
			return err
		}
	}
	synced, err := os.ReadFile(f.path)
	f.synced = synced
	return err
}
