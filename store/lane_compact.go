package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// compactSuffix ends the name of a segment that is being written again. One that a crash has left is written over by the
// next, and removed with the lane.
const compactSuffix = ".compact"

// worthCompacting is a segment of which at least half is handled.
type worthCompacting struct {
	seg   *segment
	index *segmentIndex
	dead  uint64 // bytes of handled records
}

// compact writes one segment again without what everybody has handled, so that events that wait for a consumer that is
// away do not keep those of others on disk: of a lane at its bound, at least about half are events that somebody still
// waits for. It returns whether it made room. trimming is held; leader tells that the caller leads the queue.
func (l *lane) compact(leader bool) bool {
	begin := time.Now()
	l.mu.Lock()
	state := compactState{commits: l.commits, next: l.next}
	hopeless := l.hopeless.commits == state.commits && l.hopeless.next == state.next || begin.Before(l.hopeless.until)
	l.mu.Unlock()
	if hopeless {
		return false
	}
	t := l.beginTrim()
	defer t.end()
	if leader {
		l.sealForCompaction(t)
	}
	c := t.mostDead()
	if c != nil {
		// What is removed must be handled on disk as well, and not be missed at the next opening.
		l.mu.Lock()
		l.released, l.facts = max(l.released, c.index.last), true
		l.mu.Unlock()
		err := l.j.flush(context.Background())
		if err == nil {
			err = l.rewrite(t, c)
		}
		if err == nil {
			return true
		}
		l.j.opts.log.Warn("compact event log segment", "segment", c.seg.path, "error", err)
	}
	state.until = time.Now().Add(20 * time.Since(begin)) // looking may not take more than a twentieth of the time
	l.mu.Lock()
	l.hopeless = state
	l.mu.Unlock()
	return false
}

// compactState tells whether looking for a segment to compact may find one: not before something was committed or
// appended, and some time has passed.
type compactState struct {
	commits, next uint64
	until         time.Time
}

// nearlyFull tells that a lane comes near its bound, so that the janitor compacts before a publisher has to wait for it.
func (l *lane) nearlyFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.contract
	return c.MaxBytes > 0 && l.keptBytes() > c.MaxBytes/4*3 ||
		c.MaxEvents > 0 && l.counted && l.keptEvents() > c.MaxEvents/4*3
}

// sealForCompaction ends the newest segment if it is mostly handled.
func (l *lane) sealForCompaction(t *laneTrim) {
	if l.writer == nil || l.writer.index.events == 0 {
		return
	}
	l.mu.Lock()
	worth := t.dead(l.writer.index)*2 >= uint64(l.writer.end)
	l.mu.Unlock()
	if worth {
		l.seal()
	}
}

// mostDead finds the segment that compaction shrinks most, by at least half; nil if there is none.
func (t *laneTrim) mostDead() (best *worthCompacting) {
	l := t.l
	l.mu.Lock()
	segs := slices.Clone(l.segs)
	l.mu.Unlock()
	for _, s := range segs {
		l.mu.Lock()
		look := s.sealed && t.worthLooking(s)
		l.mu.Unlock()
		if !look {
			continue
		}
		index := l.index(s)
		if dead := t.dead(index); dead*2 >= uint64(max(s.size, 1)) && (best == nil || dead > best.dead) {
			best = &worthCompacting{s, index, dead}
		}
	}
	return best
}

// dead counts the bytes of records that are handled, for topics of which all are.
func (t *laneTrim) dead(index *segmentIndex) (bytes uint64) {
	if index.many || index.unread {
		return 0
	}
	for topic, span := range index.topics {
		matching := t.matching([]byte(topic))
		done := len(matching) > 0
		for _, i := range matching {
			done = done && t.consumers[i].cursor.Floor() >= span.last
		}
		if done {
			bytes += span.bytes
		}
	}
	return bytes
}

// rewrite replaces a segment by one with the same name that holds what is still wanted.
func (l *lane) rewrite(t *laneTrim, c *worthCompacting) (err error) {
	in, err := os.Open(c.seg.path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	path := c.seg.path + compactSuffix
	out, err := l.j.opts.open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	w := &compactWriter{t: t, w: segmentWriter{file: out, count: l.j.opts.count, index: &segmentIndex{}}}
	if err = w.copy(in, c); err == nil {
		l.j.opts.count.fsyncs.Add(2)
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(path, c.seg.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	l.replace(t, c.seg, &segment{
		first: c.seg.first, path: c.seg.path, size: w.w.index.end, file: w.w.end, sealed: true, durable: true,
		sum: &w.w.index.segmentSummary, index: w.w.index,
	})
	return syncFolder(l.dir)
}

// replace puts the segment that was written again in the place of the old one. Readers of the old one go on with its file.
func (l *lane) replace(t *laneTrim, old, s *segment) {
	if t.scan != nil && t.scan.seg == old {
		t.close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.segs, old)
	if i < 0 {
		return
	}
	l.segs = slices.Clone(l.segs)
	l.segs[i] = s
	l.bytes += s.size - old.size
	if old.sum != nil {
		l.events -= min(old.sum.events-s.sum.events, l.events)
	}
	if i == 0 {
		l.headPos, l.passed, l.headKnown = 0, 0, false
	}
}

// compactWriter copies the wanted records of a segment.
type compactWriter struct {
	t   *laneTrim
	w   segmentWriter
	buf []byte
	err error
}

// copy writes header, frames and footer.
func (w *compactWriter) copy(in *os.File, c *worthCompacting) error {
	l := w.t.l
	h, size, err := readSegmentHeader(in)
	if err != nil {
		return err
	}
	h.compacted = true
	w.buf = appendSegmentHeader(nil, h)
	w.w.index.end = int64(len(w.buf))
	scan := &frameScanner{
		src: in, salt: h.salt, off: int64(size), next: h.first, end: c.index.end,
		damage: func(d damagedRange) { l.damaged(c.seg, d) },
	}
	var f frame
	for w.err == nil {
		at, err := scan.scan(&f)
		if err != nil {
			break
		}
		w.frame(h.salt, &f, scan.view(at, f.size))
	}
	if scan.off < c.index.end {
		return fmt.Errorf("damage at offset %d", scan.off)
	}
	w.buf = w.w.index.appendFooter(w.buf, h.first)
	w.flush()
	return w.err
}

// frame copies a frame, or what is wanted of it.
func (w *compactWriter) frame(salt laneSalt, f *frame, whole []byte) {
	type run struct {
		first   uint64
		count   int
		records []byte
	}
	var runs []run
	rest := f.records
	var r eventRecord
	for i := range uint64(f.count) {
		after, ok := decodeRecord(rest, &r)
		if !ok {
			break
		}
		record := rest[:len(rest)-len(after)]
		rest = after
		if !w.t.wanted(r.topic, f.seq+i) {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].first+uint64(runs[n-1].count) == f.seq+i {
			runs[n-1].count++
			runs[n-1].records = runs[n-1].records[:len(runs[n-1].records)+len(record)]
			continue
		}
		runs = append(runs, run{f.seq + i, 1, record})
	}
	if len(runs) == 1 && runs[0].count == int(f.count) && f.flags&framePrepared == 0 {
		w.add(whole)
		return
	}
	for _, run := range runs { // what was prepared is committed: it becomes an ordinary frame
		b := append(beginFrame(nil, salt, run.count, frameStamp{age: f.age, wall: f.wall}), run.records...)
		endFrame(b)
		sealFrame(b, run.first, frameFirst, payloadSum(b, salt))
		w.add(b)
	}
}

// add writes one whole frame.
func (w *compactWriter) add(b []byte) {
	var f frame
	if !parseFrame(b, &f) {
		w.err = errors.Join(w.err, errors.New("encode frame"))
		return
	}
	w.w.index.addDecoded(w.w.end+int64(len(w.buf)), &f)
	if w.buf = append(w.buf, b...); len(w.buf) >= 4*scanChunk {
		w.flush()
	}
}

func (w *compactWriter) flush() {
	if w.err == nil {
		w.err = w.w.put(w.buf, w.w.end)
	}
	w.w.end += int64(len(w.buf))
	w.buf = w.buf[:0]
}
