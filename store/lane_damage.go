package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

const maxQuarantined = 4 // damaged segments that a lane keeps for inspection

// damaged reports a range of a segment that is not what was written: once in the log, with a gap record for the events
// that are missing, and with a copy of the segment set aside. Readers step over it.
func (l *lane) damaged(s *segment, d damagedRange) {
	l.mu.Lock()
	for _, known := range s.damage {
		if known.off == d.off {
			l.mu.Unlock()
			return
		}
	}
	s.damage = append(s.damage, d)
	l.mu.Unlock()
	l.j.opts.log.Error("the event log is damaged; going on behind it", "segment", s.path, "offset", d.off,
		"bytes", d.to-d.off, "missing", missing(d))
	l.keepCopy(s, fmt.Sprintf("%d damaged bytes at offset %d", d.to-d.off, d.off))
	if d.first <= d.last {
		l.reportLost(d.first, d.last, "")
	}
}

func missing(d damagedRange) string {
	if d.first > d.last {
		return "nothing"
	}
	return gapString(d.first, d.last)
}

// reportLost records events that are gone by damage.
func (l *lane) reportLost(first, last uint64, message string) {
	if message != "" {
		l.j.opts.log.Error(message, "lane", l.Name(), "missing", gapString(first, last))
	}
	_, wall := l.j.age.read()
	l.lose(pubsub.Gap{From: first, To: last, Events: last - first + 1, Reason: reasonCorrupt, Time: wall})
}

// quarantineName names the copy of a damaged file.
func (l *lane) quarantineName(s *segment) (name string, now time.Time) {
	_, now = l.j.age.read()
	return s.path + corruptSuffix + now.UTC().Format("20060102T150405.000Z"), now.UTC()
}

// keepCopy sets a copy of a damaged segment aside, for inspection: a link, or a copy where the file system has none.
// One segment is kept once, and of a lane the first maxQuarantined. A copy that cannot be made is reported and does not
// stop anything.
func (l *lane) keepCopy(s *segment, reason string) {
	if len(l.copies(filepath.Base(s.path)+corruptSuffix)) > 0 || len(l.copies("")) >= maxQuarantined {
		return
	}
	name, now := l.quarantineName(s)
	if err := os.Link(s.path, name); err != nil {
		if err = copyFile(name, s.path); err != nil {
			l.j.opts.log.Warn("keep copy of damaged segment", "segment", s.path, "error", err)
			return
		}
	}
	l.j.opts.quarantined(Quarantine{File: name, Reason: reason, Time: now})
}

// setAside moves a segment out of the log that cannot be read at all.
func (l *lane) setAside(s *segment, reason string) {
	l.aside = s.first
	l.next = max(l.next, s.first+uint64(s.size/recordFixed)) // see cut
	name, now := l.quarantineName(s)
	if err := os.Rename(s.path, name); err != nil {
		l.j.opts.log.Error("set aside damaged segment", "segment", s.path, "error", err)
		return
	}
	l.j.opts.log.Error("a damaged segment of the event log was set aside", "segment", s.path, "kept", name, "reason", reason)
	l.j.opts.quarantined(Quarantine{File: name, Reason: reason, Time: now})
	l.boundQuarantine()
}

func (l *lane) boundQuarantine() {
	kept := l.copies("")
	slices.SortFunc(kept, func(a, b string) int { return strings.Compare(stampOf(a), stampOf(b)) })
	for len(kept) > maxQuarantined {
		if err := os.Remove(kept[0]); err != nil {
			l.j.opts.log.Warn("remove old copy of damaged segment", "file", kept[0], "error", err)
		}
		kept = kept[1:]
	}
}

// copies lists the damaged segments that were set aside and whose name begins with prefix.
func (l *lane) copies(prefix string) (paths []string) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil // the folder's trouble shows elsewhere
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && strings.Contains(e.Name(), segmentSuffix+corruptSuffix) {
			paths = append(paths, filepath.Join(l.dir, e.Name()))
		}
	}
	return paths
}

func stampOf(path string) string { return path[strings.LastIndex(path, corruptSuffix):] }

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, in); err == nil {
		return out.Close()
	}
	return fmt.Errorf("copy: %w", joinClose(err, out, to))
}

// joinClose removes a file that could not be written.
func joinClose(cause error, f *os.File, path string) error {
	_ = f.Close()
	_ = os.Remove(path)
	return cause
}
