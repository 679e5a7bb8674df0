package store

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/edged-io/edged/edge/pubsub"
)

// openLane makes a lane of what is in its folder. It reads the end of the newest segment and nothing of the others, so
// that it takes as long with a million events as with none; only after a crash is the newest segment read as a whole.
func (j *eventLog) openLane(key string, c pubsub.Contract, meta map[string][]byte) (*lane, error) {
	l := &lane{
		j: j, contract: c, key: key, dir: filepath.Join(j.dir, key), full: segmentSizeFor(c.MaxBytes, j.opts.segmentSize),
		consumers: map[string]*laneConsumer{}, next: 1, head: 1,
	}
	facts, known := decodeLaneFacts(meta[metaLane+key])
	l.salt = facts.salt
	l.facts = !known || facts.contract != c
	if err := l.listSegments(); err != nil {
		return nil, err
	}
	if err := l.findSalt(known); err != nil {
		return nil, err
	}
	committed := meta[metaTx+key]
	if !known {
		committed = nil
	}
	if err := l.openNewest(committed, known); err != nil {
		return nil, err
	}
	l.loadConsumers(meta)
	l.settle(facts)
	return l, nil
}

const (
	leastSegment = 64 << 10
	mostSegment  = 8 << 20
)

// segmentSizeFor keeps a lane in about sixteen segments, so that dropping the oldest frees space in small steps.
func segmentSizeFor(maxBytes, fixed int64) int64 {
	switch {
	case fixed > 0:
		return fixed
	case maxBytes <= 0:
		return mostSegment
	}
	return min(max(maxBytes/16, leastSegment), mostSegment)
}

// listSegments finds the segments by name. Files with other names, such as damaged segments that were set aside, stay.
func (l *lane) listSegments() error {
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list event log: %w", err)
	}
	for _, e := range entries {
		first, ok := parseSegmentName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("list event log: %w", err)
		}
		l.segs = append(l.segs, &segment{first: first, path: filepath.Join(l.dir, e.Name()), size: info.Size(), sealed: true})
		l.bytes += info.Size()
	}
	slices.SortFunc(l.segs, func(a, b *segment) int { return cmp.Compare(a.first, b.first) })
	return nil
}

// findSalt takes the salt from state.db or else from a segment, or draws one for a new lane.
func (l *lane) findSalt(known bool) error {
	if known {
		return nil
	}
	for i := len(l.segs) - 1; i >= 0; i-- {
		if h, err := headerOf(l.segs[i].path); err == nil {
			l.salt = h.salt
			return nil
		}
	}
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return fmt.Errorf("make lane: %w", err)
	}
	l.salt = laneSalt(binary.LittleEndian.Uint32(b[:]))
	return nil
}

func headerOf(path string) (segmentHeader, error) {
	f, err := os.Open(path)
	if err != nil {
		return segmentHeader{}, err
	}
	defer f.Close()
	h, _, err := readSegmentHeader(f)
	return h, err
}

// openNewest finds the end of the log: from the footer that a clean stop leaves, or by reading the newest segment.
// What an unfinished write has left is cut off.
func (l *lane) openNewest(committed []byte, known bool) error {
	for len(l.segs) > 0 {
		s := l.segs[len(l.segs)-1]
		ok, err := l.openLast(s, committed, known)
		if ok || err != nil {
			return err
		}
		l.segs = l.segs[:len(l.segs)-1]
		l.bytes -= s.size
	}
	return nil
}

// openLast reads the newest segment; false if it was set aside, or removed because it holds nothing.
func (l *lane) openLast(s *segment, committed []byte, known bool) (ok bool, err error) {
	f, err := os.Open(s.path)
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) {
		l.setAside(s, err.Error())
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open event log: %w", err)
	}
	defer f.Close()
	h, _, headErr := readSegmentHeader(f)
	if errors.Is(headErr, errSegmentFormat) || headErr == nil && h.first != s.first {
		l.setAside(s, fmt.Sprintf("not a segment that this version wrote: %v", headErr))
		return false, nil
	}
	index, clean := readFooter(f, s.size, s.first)
	if !clean {
		index = l.recover(s, f, committed, known)
	}
	if headErr != nil && index.events == 0 {
		if s.size == 0 { // made, and not written to, before a crash
			return false, os.Remove(s.path)
		}
		l.setAside(s, headErr.Error())
		return false, nil
	}
	s.index, s.sum = index, &index.segmentSummary
	s.resumable = headErr == nil && len(s.damage) == 0
	l.newest = max(index.last, h.before)
	l.next = max(l.next, index.last+1, s.first)
	return true, nil
}

// recover reads a segment that was not closed and cuts it after its last good frame.
func (l *lane) recover(s *segment, f *os.File, committed []byte, known bool) *segmentIndex {
	index, scan := l.readFrames(s, f, s.size, 0)
	if cut := l.uncommitted(f, index, committed, known); cut > 0 {
		index, _ = l.readFrames(s, f, cut, 0)
		scan.off = cut
	}
	if end := index.end; end < s.size {
		if !scan.blank() {
			torn := s.size - end
			l.skip(index, torn)
			l.j.opts.count.torn.Add(uint64(torn))
			l.j.opts.log.Warn("the end of the event log was cut off: an unfinished write", "segment", s.path, "bytes", torn)
		}
		if err := os.Truncate(s.path, end); err != nil {
			l.j.opts.log.Warn("cut off unfinished write", "segment", s.path, "error", err)
			s.sealed, s.resumable = true, false
		}
		l.bytes -= s.size - end
		s.size = end
	}
	return index
}

// skip passes over the sequences that bytes which cannot be read may have held. Were they damaged rather than torn,
// consumers have seen them, and a sequence must not name two events.
func (l *lane) skip(index *segmentIndex, bytes int64) {
	l.next = max(l.next, index.last+1+uint64(bytes/recordFixed))
}

// uncommitted returns the offset of the last frame if that is part of an append to several lanes which was not
// committed; 0 otherwise.
func (l *lane) uncommitted(f *os.File, index *segmentIndex, committed []byte, known bool) int64 {
	if len(index.marks) == 0 || !known {
		return 0
	}
	mark := index.marks[len(index.marks)-1]
	scan := &frameScanner{src: f, salt: l.salt, off: mark.off, next: mark.seq, end: index.end}
	if h, _, err := readSegmentHeader(f); err == nil {
		scan.salt = h.salt
	}
	var fr frame
	for {
		at, err := scan.scan(&fr)
		if err != nil || at+int64(fr.size) < index.end {
			if err != nil {
				return 0
			}
			continue
		}
		if fr.flags&framePrepared != 0 && string(fr.tx) != string(committed) {
			return at
		}
		return 0
	}
}

// loadConsumers takes over the registrations of state.db.
func (l *lane) loadConsumers(meta map[string][]byte) {
	prefix := cursorKey(l.key, "")
	for k, v := range meta {
		if len(k) <= len(prefix) || k[:len(prefix)] != prefix {
			continue
		}
		filter, cursor, ok := decodeCursor(v)
		if !ok {
			l.j.opts.log.Error("a cursor is damaged; its consumer begins again", "lane", l.Name(), "consumer", k[len(prefix):])
			continue
		}
		l.consumers[k[len(prefix):]] = &laneConsumer{filter: l.filter(filter), cursor: cursor, saved: true}
	}
	l.enroll()
}

// settle brings the segments and what state.db knows together. Sequences that consumers may have seen are not given
// again, and events that are known to have been on disk and are not there any more are reported.
func (l *lane) settle(facts laneFacts) {
	if len(l.segs) == 0 {
		l.next = max(l.next, facts.head) // everything before was let go of
	}
	l.next = max(l.next, facts.last+1)
	for _, c := range l.consumers {
		l.next = max(l.next, c.cursor.Head+1)
	}
	if from, to := max(l.newest+1, facts.head), max(facts.last, l.aside); from <= to {
		l.reportLost(from, to, "the end of the event log is missing")
	}
	l.newest = max(l.newest, facts.last)
	l.head = max(facts.head, 1)
	if len(l.segs) > 0 {
		l.head = max(l.head, l.segs[0].first)
	} else {
		l.head = l.next
	}
	for len(l.segs) > 1 && l.segs[1].first <= l.head {
		l.condemn(0) // it was let go of before, and its file not removed yet
	}
	l.head = min(l.head, l.next)
	l.counted = len(l.segs) == 0
}
