package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// segmentFile is an open segment. Tests put faults in its place.
type segmentFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	// Sync makes what was written durable, and the size if it changed.
	Sync() error
}

// openSegmentFile opens path for reading and writing, with os.OpenFile's flags.
type openSegmentFile func(path string, flag int) (segmentFile, error)

// osSegmentFile syncs data only: the modification time is worth no write to flash.
type osSegmentFile struct{ *os.File }

func (f osSegmentFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func openOSSegmentFile(path string, flag int) (segmentFile, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osSegmentFile{f}, nil
}

// makeFolder creates a folder and its parents and makes their names durable.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeFolder(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create folder: %w", err)
	}
	return syncFolder(parent)
}

// LogIO counts what the event log has cost since Open. Bytes are what was handed to the kernel, set-aside space and
// indexes included.
type LogIO struct {
	Events       uint64 // appended
	Groups       uint64 // writes they were put into
	BytesWritten uint64
	Fsyncs       uint64 // of segments and folders
	TornBytes    uint64 // cut off at recovery: what a crash had left of unfinished writes
}

type logCounters struct{ events, groups, bytes, fsyncs, torn atomic.Uint64 }

func (c *logCounters) figures() LogIO {
	return LogIO{
		Events: c.events.Load(), Groups: c.groups.Load(), BytesWritten: c.bytes.Load(),
		Fsyncs: c.fsyncs.Load(), TornBytes: c.torn.Load(),
	}
}

const (
	leastAhead = 16 << 10
	mostAhead  = 256 << 10
)

// segmentWriter appends to the newest segment of a lane. Only the leader of a group uses it.
type segmentWriter struct {
	file  segmentFile
	count *logCounters
	end   int64 // of what was synced
	ahead int64 // how far the file is filled with zeros
	size  int64 // a full segment
	index *segmentIndex
}

// errNotSynced says that a sync failed: the kernel may have dropped what was written, and a second sync would not say
// so. The segment takes no more frames.
var errNotSynced = errors.New("sync failed")

// write appends b and returns when it is on disk. After an error nothing of b counts: the file is cut back, and if that
// or the sync failed the error is errNotSynced.
//
// Zeros are written ahead of the frames, so that most syncs change no metadata: on ext4 that saves the journal commit,
// which is a third of the time and most of the bytes of a small sync.
func (w *segmentWriter) write(b []byte) error {
	if err := w.put(b, w.end); err != nil {
		return w.undo(err)
	}
	end := w.end + int64(len(b))
	if end > w.ahead {
		w.ahead = end
		w.zeroAhead(end)
	}
	w.count.fsyncs.Add(1)
	if err := w.file.Sync(); err != nil {
		return errors.Join(errNotSynced, err, w.file.Truncate(w.end))
	}
	w.end = end
	return nil
}

func (w *segmentWriter) put(b []byte, at int64) error {
	n, err := w.file.WriteAt(b, at)
	w.count.bytes.Add(uint64(n))
	return err
}

// undo cuts the file back to what was synced.
func (w *segmentWriter) undo(cause error) error {
	w.ahead = w.end
	if err := w.file.Truncate(w.end); err != nil {
		return errors.Join(errNotSynced, cause, err)
	}
	return cause
}

// zeroAhead fills the file beyond end: little for a small segment, more for a busy one. It is a courtesy to the writes
// that follow; when there is no space for it they come to know.
func (w *segmentWriter) zeroAhead(end int64) {
	to := end + min(max(end, leastAhead), mostAhead)
	to = min(to, max(w.size, end)) &^ 4095
	if to <= end {
		return
	}
	for at := end; at < to; at += int64(len(zeros)) {
		if err := w.put(zeros[:min(int64(len(zeros)), to-at)], at); err != nil {
			_ = w.file.Truncate(end) // zeros beyond the end are harmless
			return
		}
	}
	w.ahead = to
}

var zeros [64 << 10]byte // never written to: its pages cost no memory

// finish writes the footer and cuts off what was set aside. There is no sync: see segment_footer.go.
func (w *segmentWriter) finish(first uint64) (size int64, err error) {
	w.index.end = w.end
	footer := w.index.appendFooter(nil, first)
	size = w.end + int64(len(footer))
	err = w.put(footer, w.end)
	if err == nil {
		err = w.file.Truncate(size)
	}
	if err != nil {
		// A segment without a footer is read instead.
		err = errors.Join(err, w.file.Truncate(w.end))
		size = w.end
	}
	return size, errors.Join(err, w.file.Close())
}
