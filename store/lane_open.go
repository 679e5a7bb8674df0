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
	if err := l.openNewest(facts, committed, known); err != nil {
		return nil, err
	}
	l.loadConsumers(meta)
	l.settle(facts)
	l.mix(facts.routes, j.sum)
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
		l.segs = append(l.segs, &segment{first: first, path: filepath.Join(l.dir, e.Name()), size: info.Size(), file: info.Size(), sealed: true})
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
	defer func() { _ = f.Close() }() // it was only read
	h, _, err := readSegmentHeader(f)
	return h, err
}

// openNewest finds the end of the log: from the footer that a clean stop leaves, or by reading the newest segment.
// What an unfinished write has left is cut off.
func (l *lane) openNewest(facts laneFacts, committed []byte, known bool) error {
	limit := facts.void
	l.void, l.next = limit, max(limit, 1) // what is written from now on is not void
	for len(l.segs) > 0 {
		s := l.segs[len(l.segs)-1]
		if s.first >= limit {
			limit = 0
		}
		ok, err := l.openLast(s, recovery{facts, committed, known, limit})
		if ok || err != nil {
			return err
		}
		limit = s.first
		l.void = limit
		l.next = max(l.next, limit)
		l.segs = l.segs[:len(l.segs)-1]
		l.bytes -= s.size
	}
	return nil
}

// recovery is what is known of the newest segment from elsewhere.
type recovery struct {
	facts     laneFacts
	committed []byte // see uncommitted
	known     bool   // state.db knows the lane
	limit     uint64 // frames from this sequence on are void; 0: none
}

// openLast reads the newest segment; false if it was set aside, or removed because it holds nothing.
func (l *lane) openLast(s *segment, r recovery) (ok bool, err error) {
	f, err := os.Open(s.path)
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.EUCLEAN) {
		l.setAside(s, err.Error())
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open event log: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	h, _, headErr := readSegmentHeader(f)
	if errors.Is(headErr, errSegmentFormat) || headErr == nil && h.first != s.first {
		l.setAside(s, fmt.Sprintf("not a segment that this version wrote: %v", headErr))
		return false, nil
	}
	index, clean := readFooter(f, s.file, s.first)
	if !clean || r.limit > 0 && index.last >= r.limit {
		var blank bool
		index, blank = l.recover(s, f, r)
		if headErr != nil && index.events == 0 {
			if s.file <= segmentHeaderSize+int64(len(l.Name())) { // the crash came before its header was synced
				return false, os.Remove(s.path)
			}
			l.setAside(s, headErr.Error())
			if r.facts.void > 0 && s.first >= r.facts.void {
				l.aside = 0 // it could not even be made
			}
			return false, nil
		}
		l.cut(s, index, !blank)
	}
	l.know(s, index)
	s.resumable = headErr == nil && len(s.damage) == 0 && !s.unusable && r.limit == 0
	l.newest = max(index.last, h.before)
	l.next = max(l.next, index.last+1, s.first)
	return true, nil
}

// recover reads a segment that was not closed, up to where it should be cut. blank tells that nothing was written there.
func (l *lane) recover(s *segment, f *os.File, r recovery) (index *segmentIndex, blank bool) {
	index, scan, doubtful := l.readLast(s, f, s.size, r)
	cut := doubtful
	if cut < 0 {
		cut = l.uncommitted(f, index, r)
	}
	if cut >= 0 {
		index, scan, _ = l.readLast(s, f, cut, r)
		scan.off, scan.end = cut, s.size
	}
	return index, scan.blank()
}

// cut shortens a segment to its last good frame, and syncs it: what was cut off must not come back behind frames that
// are written now, and frames that were not synced before the crash must not be lost after consumers have seen them.
func (l *lane) cut(s *segment, index *segmentIndex, torn bool) {
	size := s.size
	l.bytes -= size - index.end
	s.size, s.file = index.end, index.end
	f, err := l.j.opts.open(s.path, os.O_RDWR)
	if err == nil {
		l.j.opts.count.fsyncs.Add(1)
		err = errors.Join(f.Truncate(index.end), f.Sync(), f.Close())
	}
	if err != nil { // a new segment will begin with the next sequence, which makes void what is left here
		l.j.opts.log.Warn("cut off unfinished write", "segment", s.path, "error", err)
		s.unusable = true
		return
	}
	if torn && size > index.end {
		// Were the bytes damaged rather than torn, consumers have seen their events, and a sequence must not name two.
		l.next = max(l.next, index.last+1+uint64((size-index.end)/recordFixed))
		l.j.opts.count.torn.Add(uint64(size - index.end))
		l.j.opts.log.Warn("the end of the event log was cut off: an unfinished write", "segment", s.path, "bytes", size-index.end)
	}
}

// readLast reads the newest segment after a crash. What was written with one sync may be there in any part, so damage
// in it is no loss unless its events are known to have been on disk: doubtful is where such damage begins, or -1. Damage
// in front of a frame that begins another write is real.
func (l *lane) readLast(s *segment, f *os.File, end int64, r recovery) (*segmentIndex, *frameScanner, int64) {
	var held []damagedRange
	report := func() {
		for _, d := range held {
			l.damaged(s, d)
		}
		held = nil
	}
	index, scan := l.readFrames(f, s, end, r.limit, func(d damagedRange) { held = append(held, d) }, func(fr *frame) {
		if fr.flags&frameFirst != 0 {
			report()
		}
	})
	if len(held) > 0 && held[0].first > r.facts.last && scan.start > 0 {
		return index, scan, held[0].off
	}
	report()
	return index, scan, -1
}

// uncommitted returns the offset of the last frame if that is part of an append to several lanes which was not
// committed; -1 otherwise.
func (l *lane) uncommitted(f *os.File, index *segmentIndex, r recovery) int64 {
	if len(index.marks) == 0 || !r.known {
		return -1
	}
	mark := index.marks[len(index.marks)-1]
	scan := &frameScanner{src: f, salt: l.salt, off: mark.off, next: mark.seq, end: index.end}
	if h, _, err := readSegmentHeader(f); err == nil {
		scan.salt = h.salt
	}
	var fr frame
	for {
		at, err := scan.scan(&fr)
		if err != nil {
			return -1
		}
		if at+int64(fr.size) < index.end {
			continue
		}
		if fr.flags&framePrepared != 0 && string(fr.tx) != string(r.committed) {
			return at
		}
		return -1
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
	l.released = facts.released
	if from, to := max(l.newest+1, facts.head, facts.released+1), max(facts.last, l.aside); from <= to {
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
