package store

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// A footer ends a segment that takes no more frames. It saves reading the segment to learn what is in it:
//
//	body     flags(1) uvarint topics (uvarint+topic, uvarint first, uvarint last-first, uvarint events, uvarint bytes)...
//	         uvarint marks (uvarint sequence, uvarint offset, both as the difference to the mark before)...
//	trailer  magic(8) body length(4) body crc32c(4) end of frames(8) events(8) last sequence(8)
//	         first age(8) last age(8) first sequence(8) crc32c(4)
//
// It is written without a sync: a footer that is lost is made again by reading the segment.
const (
	footerMagic = "edgedend"
	trailerSize = 68

	footerManyTopics = 1
	maxIndexTopics   = 1024
	markEvery        = 32 << 10
	maxFooterBody    = 16 << 20
)

// segmentSummary is a trailer: what a segment holds, in fixed size.
type segmentSummary struct {
	events            uint64
	last              uint64 // newest sequence; 0: none
	firstAge, lastAge int64
	end               int64 // where the frames end
}

// segmentIndex says where what is in a segment.
type segmentIndex struct {
	segmentSummary
	topics map[string]*topicSpan
	many   bool // more topics than are listed
	footer bool // it is in the segment's footer too
	unread bool // the segment could not be read, and nothing is known
	marks  []segmentMark

	recent     *topicSpan // of recentName: most frames have the topic of the one before
	recentName string
}

// topicSpan bounds a topic's events in a segment. first and last may be a little wide, never narrow.
type topicSpan struct{ first, last, events, bytes uint64 }

// segmentMark is the offset of the frame that begins with a sequence.
type segmentMark struct {
	seq uint64
	off int64
}

// addFrame notes a frame; its topics follow by addTopic.
func (x *segmentIndex) addFrame(off int64, size int, first uint64, count int, age int64) {
	if n := len(x.marks); n == 0 || off-x.marks[n-1].off >= markEvery {
		x.marks = append(x.marks, segmentMark{first, off})
	}
	if x.events == 0 {
		x.firstAge = age
	}
	x.lastAge = max(x.lastAge, age)
	x.events += uint64(count)
	x.last = first + uint64(count) - 1
	x.end = off + int64(size)
}

// addTopic notes events of a topic within [first, last].
func (x *segmentIndex) addTopic(topic string, first, last uint64, events, bytes int) {
	span := x.recent
	if span == nil || x.recentName != topic {
		if span = x.topics[topic]; span == nil {
			if x.many || len(x.topics) >= maxIndexTopics {
				x.many = true
				return
			}
			if x.topics == nil {
				x.topics = map[string]*topicSpan{}
			}
			span = &topicSpan{first: first}
			x.topics[topic] = span
		}
		x.recent, x.recentName = span, topic
	}
	span.last = last
	span.events += uint64(events)
	span.bytes += uint64(bytes)
}

// addDecoded notes a frame that was read.
func (x *segmentIndex) addDecoded(off int64, f *frame) {
	rest, r := f.records, eventRecord{}
	for seq := f.seq; seq < f.seq+uint64(f.count); seq++ {
		after, ok := decodeRecord(rest, &r)
		if !ok {
			break
		}
		topic := x.recentName
		if string(r.topic) != topic {
			topic = string(r.topic)
		}
		x.addTopic(topic, seq, seq, 1, len(rest)-len(after))
		rest = after
	}
	x.addFrame(off, f.size, f.seq, int(f.count), f.age)
}

// offsetOf returns an offset at or before the frame that holds a sequence, and the least sequence there; 0 if unknown.
func (x *segmentIndex) offsetOf(seq uint64) (off int64, from uint64) {
	lo, hi := 0, len(x.marks)
	for lo < hi {
		if mid := (lo + hi) / 2; x.marks[mid].seq <= seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == 0 {
		return 0, 0
	}
	return x.marks[lo-1].off, x.marks[lo-1].seq
}

// appendFooter encodes the index of the segment that begins with first.
func (x *segmentIndex) appendFooter(b []byte, first uint64) []byte {
	start := len(b)
	flags := byte(0)
	if x.many {
		flags = footerManyTopics
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(len(x.topics)))
	for topic, s := range x.topics {
		b = appendString(b, topic)
		b = binary.AppendUvarint(b, s.first-first)
		b = binary.AppendUvarint(b, s.last-s.first)
		b = binary.AppendUvarint(b, s.events)
		b = binary.AppendUvarint(b, s.bytes)
	}
	b = binary.AppendUvarint(b, uint64(len(x.marks)))
	before := segmentMark{seq: first}
	for _, m := range x.marks {
		b = binary.AppendUvarint(b, m.seq-before.seq)
		b = binary.AppendUvarint(b, uint64(m.off-before.off))
		before = m
	}
	body := b[start:]
	trailer := len(b)
	b = append(b, footerMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	for _, v := range [...]uint64{
		uint64(x.end), x.events, x.last, uint64(x.firstAge), uint64(x.lastAge), first,
	} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[trailer:], castagnoli))
}

// readTrailer reads the trailer of a segment of the given size; ok is false if there is none that is right.
func readTrailer(src io.ReaderAt, size int64, first uint64) (s segmentSummary, body []byte, ok bool) {
	var b [trailerSize]byte
	if size < trailerSize {
		return s, nil, false
	}
	if n, _ := src.ReadAt(b[:], size-trailerSize); n < trailerSize { // an unreadable footer is a missing one
		return s, nil, false
	}
	le := binary.LittleEndian
	sum := le.Uint32(b[trailerSize-4:])
	if string(b[:8]) != footerMagic || crc32.Checksum(b[:trailerSize-4], castagnoli) != sum || le.Uint64(b[56:]) != first {
		return s, nil, false
	}
	s = segmentSummary{
		end: int64(le.Uint64(b[16:])), events: le.Uint64(b[24:]), last: le.Uint64(b[32:]),
		firstAge: int64(le.Uint64(b[40:])), lastAge: int64(le.Uint64(b[48:])),
	}
	length := int64(le.Uint32(b[8:]))
	return s, b[8:16], length <= maxFooterBody && s.end >= 0 && s.end+length+trailerSize == size
}

// readFooter reads trailer and body.
func readFooter(src io.ReaderAt, size int64, first uint64) (*segmentIndex, bool) {
	s, lengthAndSum, ok := readTrailer(src, size, first)
	if !ok {
		return nil, false
	}
	body := make([]byte, binary.LittleEndian.Uint32(lengthAndSum))
	if n, _ := src.ReadAt(body, s.end); n < len(body) { // as above
		return nil, false
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(lengthAndSum[4:]) {
		return nil, false
	}
	x := &segmentIndex{segmentSummary: s, footer: true}
	return x, x.decodeBody(body, first)
}

func (x *segmentIndex) decodeBody(b []byte, first uint64) bool {
	d := fields{b: b}
	x.many = d.byte()&footerManyTopics != 0
	n := d.uvarint()
	if n > maxIndexTopics {
		return false
	}
	x.topics = make(map[string]*topicSpan, n)
	for range n {
		topic := d.string()
		s := &topicSpan{first: first + d.uvarint()}
		s.last = s.first + d.uvarint()
		s.events = d.uvarint()
		s.bytes = d.uvarint()
		x.topics[topic] = s
	}
	n = d.uvarint()
	if n > uint64(len(b)) {
		return false
	}
	x.marks = make([]segmentMark, 0, n)
	m := segmentMark{seq: first}
	for range n {
		m.seq += d.uvarint()
		m.off += int64(d.uvarint())
		if m.off > x.end {
			return false
		}
		x.marks = append(x.marks, m)
	}
	return d.done()
}
