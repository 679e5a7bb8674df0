package store

import "encoding/binary"

// laneTail is the newest part of a lane in memory, so that consumers that keep up read no file. Groups are encoded into
// it and written to disk from it. What was published in it does not change: readers need no lock once they have it.
// It is empty until the first append and after some idle time.
type laneTail struct {
	blocks []*tailBlock // oldest first; groups go into the last
	bytes  int
	busy   bool // a group is being written from the last block
}

type tailBlock struct {
	first, last uint64 // published sequences
	buf         []byte // published frames; its capacity is the block
	marks       []segmentMark
}

const (
	smallTailBlock = 8 << 10
	tailBlockSize  = 64 << 10
	maxTailBytes   = 1 << 20
	tailMarkEvery  = 2 << 10
)

// room returns n bytes to encode a group into. They are read by nobody until publish.
func (t *laneTail) room(n int) []byte {
	t.busy = true
	if len(t.blocks) > 0 {
		b := t.blocks[len(t.blocks)-1]
		if cap(b.buf)-len(b.buf) >= n {
			return b.buf[len(b.buf) : len(b.buf)+n]
		}
	}
	size := tailBlockSize
	if len(t.blocks) == 0 {
		size = smallTailBlock
	}
	b := &tailBlock{buf: make([]byte, 0, max(size, n))}
	t.blocks = append(t.blocks, b)
	t.bytes += cap(b.buf)
	return b.buf[:n]
}

// publish makes the group of n bytes, which begins with sequence first, readable.
func (t *laneTail) publish(n int, first, last uint64) {
	t.busy = false
	b := t.blocks[len(t.blocks)-1]
	off := len(b.buf)
	if len(b.marks) == 0 || int64(off)-b.marks[len(b.marks)-1].off >= tailMarkEvery {
		b.marks = append(b.marks, segmentMark{first, int64(off)})
	}
	if off == 0 {
		b.first = first
	}
	b.buf, b.last = b.buf[:off+n], last
}

// giveUp takes back room.
func (t *laneTail) giveUp() { t.busy = false }

// trim lets go of the oldest blocks beyond the bound, or of all but the last when nobody reads.
func (t *laneTail) trim(read bool) {
	for len(t.blocks) > 1 && (t.bytes > maxTailBytes || !read) {
		t.bytes -= cap(t.blocks[0].buf)
		t.blocks[0] = nil
		t.blocks = t.blocks[1:]
	}
}

// drop lets go of everything, unless a group is being written.
func (t *laneTail) drop() {
	if !t.busy {
		*t = laneTail{}
	}
}

// from returns the published frames of the block that holds a sequence, beginning at or before it; nil if it is not in
// memory.
func (t *laneTail) from(seq uint64) []byte {
	for i := len(t.blocks) - 1; i >= 0; i-- {
		b := t.blocks[i]
		if len(b.buf) == 0 || seq < b.first {
			continue
		}
		if seq > b.last {
			return nil
		}
		off := int64(0)
		for j := len(b.marks) - 1; j >= 0; j-- {
			if b.marks[j].seq <= seq {
				off = b.marks[j].off
				break
			}
		}
		return b.buf[off:len(b.buf):len(b.buf)]
	}
	return nil
}

// nextFrame takes a frame off b, whose frames were made by this process.
func nextFrame(b []byte, f *frame) (rest []byte, ok bool) {
	if len(b) < frameHeaderSize {
		return nil, false
	}
	n := frameHeaderSize + int(binary.LittleEndian.Uint32(b[4:]))
	if n > len(b) || !parseFrame(b[:n], f) {
		return nil, false
	}
	return b[n:], true
}
