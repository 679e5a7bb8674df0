package store

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// A segment file is a header, frames, and once it is full a footer with its index:
//
//	header   see segment_header.go
//	frame    magic(3) flags(1) length(4) first sequence(8) count(4) crc32c(4) payload(length)
//	payload  uvarint age-clock ms · transaction id(16), if prepared · wall ns(8), if events expire · count records
//	record   uvarint length · flags(1) content type(1) accepted ns(8) [expires ns(8)] uvarint+topic
//	         [uvarint+content type] [uvarint pairs (uvarint+key uvarint+value)...] data to the end of the record
//	footer   see segment_footer.go
//
// Fixed integers are little endian. One Append call is one frame, so that all of its events are kept or none. The
// checksum covers the payload and then the rest of the frame header. It begins with the lane's random salt, and so does
// the magic: when damage makes a reader search for the next frame, event data that looks like one is not taken for it.
const (
	frameHeaderSize = 24
	maxFrameSize    = 64 << 20

	framePrepared = 1 // part of an append to several lanes: valid as the last frame of a lane only if committed
	frameFirst    = 2 // the first of the frames that were written and synced together
	frameWall     = 4 // the payload says what time it was, which expiry times are relative to
	txIDSize      = 16
)

const (
	recordExpires  = 1 << 0
	recordMetadata = 1 << 1

	recordFixed   = 10 // flags, content type, time
	noTime        = math.MinInt64
	contentInline = 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// laneSalt is drawn at random when a lane is made.
type laneSalt uint32

func (s laneSalt) magic() [3]byte { return [3]byte{0xED, 0x9E ^ byte(s>>8), 0xF5 ^ byte(s)} }

// contentTypes are the content types that take one byte. Positions are part of the format: append only.
var contentTypes = [...]string{
	contentInline + 1: "",
	2:                 "application/cloudevents+json",
	3:                 "application/json",
	4:                 "application/octet-stream",
	5:                 "text/plain",
	6:                 "text/plain; charset=utf-8",
	7:                 "application/json; charset=utf-8",
	8:                 "application/cloudevents+json; charset=utf-8",
	9:                 "application/xml",
	10:                "application/x-protobuf",
	11:                "application/cbor",
}

func contentCode(s string) byte {
	for i := 1; i < len(contentTypes); i++ {
		if contentTypes[i] == s {
			return byte(i)
		}
	}
	return contentInline
}

func uvarintLen(n int) int {
	l := 1
	for u := uint64(n); u >= 0x80; u >>= 7 {
		l++
	}
	return l
}

func stringLen(s string) int { return uvarintLen(len(s)) + len(s) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// unixNano is t in the format's range; times beyond it are moved to its edge.
func unixNano(t time.Time) int64 {
	switch s := t.Unix(); {
	case t.IsZero():
		return noTime
	case s >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	case s <= math.MinInt64/int64(time.Second):
		return noTime + 1
	}
	return t.UnixNano()
}

func fromUnixNano(ns int64) time.Time {
	if ns == noTime {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// appendRecord adds one event.
func appendRecord(b []byte, e *pubsub.Event) []byte {
	code := contentCode(e.ContentType)
	flags, size := byte(0), recordFixed+stringLen(e.Topic)+len(e.Data)
	if !e.Expires.IsZero() {
		flags |= recordExpires
		size += 8
	}
	if code == contentInline {
		size += stringLen(e.ContentType)
	}
	if len(e.Metadata) > 0 {
		flags |= recordMetadata
		size += uvarintLen(len(e.Metadata))
		for k, v := range e.Metadata {
			size += stringLen(k) + stringLen(v)
		}
	}
	b = binary.AppendUvarint(b, uint64(size))
	b = append(b, flags, code)
	b = binary.LittleEndian.AppendUint64(b, uint64(unixNano(e.Time)))
	if flags&recordExpires != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(unixNano(e.Expires)))
	}
	b = appendString(b, e.Topic)
	if code == contentInline {
		b = appendString(b, e.ContentType)
	}
	if flags&recordMetadata != 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Metadata)))
		for k, v := range e.Metadata {
			b = appendString(appendString(b, k), v)
		}
	}
	return append(b, e.Data...)
}

// frameStamp is what a frame says about itself besides its records.
type frameStamp struct {
	age  int64 // age clock, ms
	wall int64 // wall clock, ns; noTime: not kept
	tx   *[txIDSize]byte
}

// beginFrame adds the beginning of a frame of count records. The records follow, and then endFrame and sealFrame.
func beginFrame(b []byte, salt laneSalt, count int, stamp frameStamp) []byte {
	var header [frameHeaderSize]byte
	magic := salt.magic()
	copy(header[:], magic[:])
	binary.LittleEndian.PutUint32(header[16:], uint32(count))
	if stamp.tx != nil {
		header[3] |= framePrepared
	}
	if stamp.wall != noTime {
		header[3] |= frameWall
	}
	b = append(b, header[:]...)
	b = binary.AppendUvarint(b, uint64(stamp.age))
	if stamp.tx != nil {
		b = append(b, stamp.tx[:]...)
	}
	if stamp.wall != noTime {
		b = binary.LittleEndian.AppendUint64(b, uint64(stamp.wall))
	}
	return b
}

// endFrame writes the length of frame, which has all of its records, into its header.
func endFrame(frame []byte) {
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(frame)-frameHeaderSize))
}

// payloadSum begins a frame's checksum. It is the expensive part and needs no lock.
func payloadSum(b []byte, salt laneSalt) uint32 {
	return crc32.Update(uint32(salt), castagnoli, b[frameHeaderSize:])
}

// sealFrame gives a frame its first sequence and further flags, and finishes its checksum.
func sealFrame(b []byte, first uint64, flags byte, sum uint32) {
	b[3] |= flags
	binary.LittleEndian.PutUint64(b[8:], first)
	binary.LittleEndian.PutUint32(b[20:], crc32.Update(sum, castagnoli, b[:20]))
}

// frame is one decoded frame. It shares memory with what it was decoded from.
type frame struct {
	seq     uint64 // of the first record
	count   uint32
	flags   byte
	age     int64
	wall    int64 // noTime: not kept
	tx      []byte
	records []byte
	size    int // of the whole frame
}

// frameLength reads the size of the whole frame that b begins with; 0 if b does not begin with a frame header.
func frameLength(b []byte, salt laneSalt) int {
	if len(b) < frameHeaderSize || [3]byte(b) != salt.magic() {
		return 0
	}
	n := binary.LittleEndian.Uint32(b[4:])
	count := binary.LittleEndian.Uint32(b[16:])
	if n > maxFrameSize || count == 0 || count > n/recordFixed {
		return 0
	}
	return frameHeaderSize + int(n)
}

// decodeFrame decodes a whole frame; ok is false if any bit of it is wrong.
func decodeFrame(b []byte, salt laneSalt, f *frame) (ok bool) {
	if frameLength(b, salt) != len(b) || len(b) == 0 {
		return false
	}
	if crc32.Update(payloadSum(b, salt), castagnoli, b[:20]) != binary.LittleEndian.Uint32(b[20:]) {
		return false
	}
	return parseFrame(b, f)
}

// parseFrame takes apart a whole frame whose checksum is right.
func parseFrame(b []byte, f *frame) (ok bool) {
	f.flags = b[3]
	f.seq = binary.LittleEndian.Uint64(b[8:])
	f.count = binary.LittleEndian.Uint32(b[16:])
	f.size = len(b)
	payload := b[frameHeaderSize:]
	age, n := binary.Uvarint(payload)
	if n <= 0 || age > math.MaxInt64 || f.seq == 0 || f.seq+uint64(f.count) < f.seq {
		return false
	}
	f.age, f.tx, f.records = int64(age), nil, payload[n:]
	if f.flags&framePrepared != 0 {
		if len(f.records) < txIDSize {
			return false
		}
		f.tx, f.records = f.records[:txIDSize], f.records[txIDSize:]
	}
	if f.wall = noTime; f.flags&frameWall != 0 {
		if len(f.records) < 8 {
			return false
		}
		f.wall, f.records = int64(binary.LittleEndian.Uint64(f.records)), f.records[8:]
	}
	return true
}

// eventRecord is one decoded record. Its slices share memory with the frame.
type eventRecord struct {
	time, expires int64
	topic         []byte
	contentCode   byte
	contentType   []byte // if contentCode is contentInline
	metadata      []byte
	data          []byte
}

func cutString(b []byte) (s, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}

// decodeRecord decodes the first record of b and returns what follows it.
func decodeRecord(b []byte, r *eventRecord) (rest []byte, ok bool) {
	body, rest, ok := cutString(b)
	if !ok || len(body) < recordFixed {
		return nil, false
	}
	flags := body[0]
	r.contentCode = body[1]
	r.time = int64(binary.LittleEndian.Uint64(body[2:]))
	r.expires, r.contentType, r.metadata = noTime, nil, nil
	body = body[recordFixed:]
	if flags&recordExpires != 0 {
		if len(body) < 8 {
			return nil, false
		}
		r.expires = int64(binary.LittleEndian.Uint64(body))
		body = body[8:]
	}
	if r.topic, body, ok = cutString(body); !ok || int(r.contentCode) >= len(contentTypes) {
		return nil, false
	}
	if r.contentCode == contentInline {
		if r.contentType, body, ok = cutString(body); !ok {
			return nil, false
		}
	}
	if flags&recordMetadata != 0 {
		if r.metadata, body, ok = cutMetadata(body); !ok {
			return nil, false
		}
	}
	r.data = body
	return rest, true
}

// cutMetadata separates the pairs, which it checks, from what follows.
func cutMetadata(b []byte) (pairs, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)) {
		return nil, nil, false
	}
	rest = b[w:]
	for range 2 * n {
		if _, rest, ok = cutString(rest); !ok {
			return nil, nil, false
		}
	}
	return b[:len(b)-len(rest)], rest, true
}

// metadataOf decodes pairs that cutMetadata has checked.
func metadataOf(b []byte) map[string]string {
	n, w := binary.Uvarint(b)
	if w <= 0 {
		return nil
	}
	m := make(map[string]string, n)
	for b = b[w:]; len(b) > 0; {
		k, rest, _ := cutString(b)
		v, rest, ok := cutString(rest)
		if !ok {
			return m
		}
		m[string(k)] = string(v)
		b = rest
	}
	return m
}

// expired tells whether the time of a record of the frame is over. The life an event was given is counted by the age
// clock, so that a wall clock that is set meanwhile neither ends nor extends it. Only an absolute time that was asked for
// while the clock was not set yet is compared with the wall clock, once that is set.
func (f *frame) expired(r *eventRecord, nowAge int64, wall time.Time) bool {
	if r.expires == noTime || f.wall == noTime {
		return false
	}
	if !trusted(time.Unix(0, f.wall)) && trusted(time.Unix(0, r.expires)) {
		return trusted(wall) && wall.UnixNano() >= r.expires
	}
	return nowAge-f.age >= (r.expires-f.wall)/int64(time.Millisecond)
}
