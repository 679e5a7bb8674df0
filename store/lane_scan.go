package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// laneScan reads the frames of a lane from its segment files, in order.
type laneScan struct {
	l     *lane
	chunk int
	seg   *segment // nil: nowhere yet
	file  *os.File
	scan  frameScanner

	frame  frame  // the current one
	loaded bool   // there is a current one
	pos    uint64 // at rest: everything up to here was read
	upTo   uint64
	err    error
}

func newLaneScan(l *lane, chunk int) *laneScan { return &laneScan{l: l, chunk: chunk} }

func (s *laneScan) close() {
	if s.file != nil {
		_ = s.file.Close() // it was only read
	}
	s.seg, s.file, s.loaded = nil, nil, false
	s.scan.forget()
}

// pause lets go of file and memory and keeps the place: the current frame will be read again.
func (s *laneScan) pause() {
	if s.loaded {
		s.scan.off -= int64(s.frame.size)
		s.scan.next = s.frame.seq
	}
	seg := s.seg
	s.close()
	s.seg = seg
}

// resume opens the file again.
func (s *laneScan) resume() bool {
	file, err := os.Open(s.seg.path)
	if err != nil {
		s.seg = nil
		return false
	}
	s.file, s.scan.src = file, file
	return true
}

// advance makes the frame that holds the first event at or after a sequence the current one. It returns false if there
// is none yet: upTo is then the newest sequence that it knows not to be there. With a filter, segments that hold none of
// its topics are skipped. After an error of the file system, err is set.
func (s *laneScan) advance(next uint64, filter *laneFilter) bool {
	for {
		if s.loaded && s.frame.seq+uint64(s.frame.count) > next {
			return true
		}
		s.loaded = false
		if s.seg != nil && s.file == nil {
			s.resume()
		}
		if s.seg == nil && !s.enter(next, filter) {
			return false
		}
		v := s.l.viewOf(s.seg)
		s.scan.end, s.scan.limit = v.end, v.limit
		if _, err := s.scan.scan(&s.frame); err == nil {
			s.loaded = true
			continue
		}
		if s.scan.off < v.end { // no frame, though there must be one
			s.l.damaged(s.seg, damagedRange{off: s.scan.off, to: v.end, first: s.scan.next, last: v.last})
			s.scan.off, s.scan.next = v.end, max(s.scan.next, v.last+1)
		}
		if v.following == nil {
			s.upTo = v.newest
			return false
		}
		next = max(next, v.following.first)
		buf := s.scan.buf
		s.close()
		s.scan.buf = buf
		if !s.open(v.following, next, filter) && s.err != nil {
			return false
		}
	}
}

// segmentView is what a reader needs to know of a segment at one moment.
type segmentView struct {
	end       int64    // of its frames
	last      uint64   // no event in it is newer
	newest    uint64   // nor in the lane
	limit     uint64   // frames from this sequence on are void; 0: none
	following *segment // nil: it is the newest
	sealed    bool
}

// viewOf looks at a segment. One that is not in the lane any more is read to its end, and then the lane's oldest follows.
func (l *lane) viewOf(s *segment) segmentView {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := segmentView{end: s.size, last: l.last(), newest: l.last(), sealed: s.sealed}
	if s.sealed && s.sum != nil {
		v.end = s.sum.end
		v.last = s.sum.last
	}
	for i := len(l.segs) - 1; i >= 0; i-- {
		if l.segs[i] == s || l.segs[i].first < s.first { // the same first sequence is that of a segment that replaced s
			break
		}
		v.following = l.segs[i]
	}
	if v.following != nil {
		v.limit = v.following.first
		v.last = min(v.last, v.limit-1)
	}
	return v
}

// enter opens the segment that holds a sequence, or the first one after it.
func (s *laneScan) enter(next uint64, filter *laneFilter) bool {
	l := s.l
	for range 4 { // segments may go while we look
		l.mu.Lock()
		next = max(next, l.head)
		var seg *segment
		for i := len(l.segs) - 1; i >= 0; i-- {
			if seg = l.segs[i]; seg.first <= next {
				break
			}
		}
		s.upTo = l.last()
		l.mu.Unlock()
		if seg == nil {
			return false
		}
		if s.open(seg, next, filter) {
			return true
		}
		if s.err != nil {
			return false
		}
	}
	return false
}

// open goes to the frame of a segment that holds a sequence, or an earlier one. If the filter has nothing to find in
// the segment, it goes to the end.
func (s *laneScan) open(seg *segment, next uint64, filter *laneFilter) bool {
	s.err = nil
	file, err := os.Open(seg.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false // let go meanwhile
	}
	if err != nil {
		s.err = fmt.Errorf("read event log: %w", err)
		return false
	}
	l := s.l
	s.seg, s.file = seg, file
	s.scan = frameScanner{src: file, salt: l.salt, next: seg.first, chunk: s.chunk, buf: s.scan.buf[:0]}
	s.scan.damage = func(d damagedRange) { l.damaged(seg, d) }
	l.mu.Lock()
	sealed := seg.sealed
	l.mu.Unlock()
	if sealed { // its index says where to begin, and whether to
		index := l.index(seg)
		if filter != nil && !index.has(filter, next) {
			s.scan.off, s.scan.next = index.end, max(next, index.last+1)
			return true
		}
	}
	s.scan.off, s.scan.next = l.offsetIn(seg, next)
	h, size, err := readSegmentHeader(file)
	if err == nil {
		s.scan.salt = h.salt
	}
	if s.scan.off == 0 { // without a header it looks for the first frame, and reports the damage
		s.scan.off, s.scan.next = int64(size), seg.first
	}
	return true
}

// offsetIn finds where to begin reading for a sequence; 0 if the index does not tell.
func (l *lane) offsetIn(seg *segment, next uint64) (off int64, from uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seg.index == nil {
		return 0, 0
	}
	return seg.index.offsetOf(next)
}

// has tells whether a segment may hold an event of the filter at or after a sequence.
func (x *segmentIndex) has(f *laneFilter, next uint64) bool {
	if x.many || x.unread || f.text == "#" {
		return x.last >= next
	}
	if !f.wildcard {
		span := x.topics[f.text]
		return span != nil && span.last >= next
	}
	for topic, span := range x.topics {
		if span.last >= next && f.matches(topic) {
			return true
		}
	}
	return false
}

// summary returns what a segment holds, from its footer or by reading it.
func (l *lane) summary(s *segment) segmentSummary {
	l.mu.Lock()
	if s.sum != nil {
		defer l.mu.Unlock()
		return *s.sum
	}
	l.mu.Unlock()
	if f, err := os.Open(s.path); err == nil {
		found, _, ok := readTrailer(f, s.file, s.first)
		_ = f.Close() // it was only read
		if ok {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.resize(s, found.end)
			s.sum = &found
			return found
		}
	}
	return l.index(s).segmentSummary
}

// index returns the index of a segment that takes no more frames, from its footer or by reading it.
func (l *lane) index(s *segment) *segmentIndex {
	l.mu.Lock()
	index := s.index
	l.mu.Unlock()
	if index != nil {
		return index
	}
	index = l.readIndex(s)
	if index.unread {
		return index
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.know(s, index)
	l.used = true
	return index
}

// know keeps the index of a segment that takes no more frames; mu is held.
func (l *lane) know(s *segment, index *segmentIndex) {
	l.resize(s, index.end)
	s.index, s.sum = index, &index.segmentSummary
}

// resize corrects how much of a segment counts; mu is held.
func (l *lane) resize(s *segment, size int64) {
	if slices.Contains(l.segs, s) {
		l.bytes += size - s.size
	}
	s.size = size
}

func (l *lane) readIndex(s *segment) *segmentIndex {
	f, err := os.Open(s.path)
	if err != nil {
		l.j.opts.log.Error("read event log segment", "segment", s.path, "error", err)
		return &segmentIndex{segmentSummary: segmentSummary{end: s.size, last: l.viewOf(s).last}, many: true, unread: true}
	}
	defer func() { _ = f.Close() }() // it was only read
	if index, ok := readFooter(f, s.file, s.first); ok {
		return index
	}
	v := l.viewOf(s)
	h, _, _ := readSegmentHeader(f) // damage to it shows below
	index, scan := l.readFrames(f, s, v.end, v.limit, func(d damagedRange) { l.damaged(s, d) }, nil)
	if next := max(index.last+1, s.first); v.following != nil && next < v.limit && !h.compacted {
		last := v.limit - 1
		if h, err := headerOf(v.following.path); err == nil {
			last = h.before // what is between is no loss: sequences are skipped after a crash
		}
		if next <= last {
			l.damaged(s, damagedRange{off: scan.off, to: v.end, first: next, last: last})
		}
	}
	return index
}

// clone returns a copy that shares nothing that changes.
func (x *segmentIndex) clone() *segmentIndex {
	c := *x
	c.recent, c.marks = nil, slices.Clone(x.marks)
	c.topics = make(map[string]*topicSpan, len(x.topics))
	for topic, span := range x.topics {
		copied := *span
		c.topics[topic] = &copied
	}
	return &c
}

// readFrames makes an index by reading. Damage between frames goes to damage; each frame goes to each, if given.
func (l *lane) readFrames(
	f *os.File, s *segment, end int64, limit uint64, damage func(damagedRange), each func(*frame),
) (*segmentIndex, *frameScanner) {
	scan := &frameScanner{src: f, salt: l.salt, end: end, next: s.first, limit: limit, chunk: 4 * scanChunk, damage: damage}
	if h, size, err := readSegmentHeader(f); err == nil {
		scan.off, scan.salt = int64(size), h.salt
	}
	scan.start = scan.off
	index := &segmentIndex{}
	index.end = scan.off
	var fr frame
	for {
		at, err := scan.scan(&fr)
		if err != nil {
			return index, scan
		}
		if each != nil {
			each(&fr)
		}
		index.addDecoded(at, &fr)
	}
}
