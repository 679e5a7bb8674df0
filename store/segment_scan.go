package store

import (
	"bytes"
	"errors"
	"io"
)

// frameScanner reads the frames of a segment in order and steps over damage. It holds one buffer; frames that it
// returns are valid until the next call.
type frameScanner struct {
	src  io.ReaderAt
	salt laneSalt
	off  int64 // of the next frame
	// start is where the first frame begins, if the caller noted it.
	start int64
	end   int64 // no frame reaches beyond
	next  uint64
	// limit is the first sequence that the following segment holds: frames from there on are left over from a failed
	// write, and void. 0: there is none.
	limit uint64
	// damage is told of bytes that are no frames, in front of a frame that is one: [off, to), where the sequences
	// [first, last] are missing; none if first > last.
	damage func(d damagedRange)
	chunk  int // bytes to read at once

	buf  []byte
	base int64 // offset of buf[0]
}

// damagedRange is a part of a segment that is not what was written.
type damagedRange struct {
	off, to     int64
	first, last uint64
}

const scanChunk = 64 << 10

// scan returns the next frame and its offset, or io.EOF when no frame follows; off then says where the last one ended.
func (s *frameScanner) scan(f *frame) (at int64, err error) {
	for at = s.off; at+frameHeaderSize <= s.end; {
		if s.frameAt(at, f) {
			if s.limit != 0 && f.seq >= s.limit {
				break
			}
			if at > s.off && s.damage != nil {
				s.damage(damagedRange{off: s.off, to: at, first: s.next, last: f.seq - 1})
			}
			s.off = at + int64(f.size)
			s.next = f.seq + uint64(f.count)
			return at, nil
		}
		at = s.search(at + 1)
	}
	return s.off, io.EOF
}

// frameAt decodes the frame at an offset; false if there is none.
func (s *frameScanner) frameAt(at int64, f *frame) bool {
	n := frameLength(s.view(at, frameHeaderSize), s.salt)
	if n == 0 || at+int64(n) > s.end {
		return false
	}
	return decodeFrame(s.view(at, n), s.salt, f) && f.seq >= s.next
}

// search returns the offset of the next frame magic at or after an offset, or end.
func (s *frameScanner) search(at int64) int64 {
	magic := s.salt.magic()
	for at+frameHeaderSize <= s.end {
		b := s.view(at, int(min(s.end-at, int64(s.chunkSize()))))
		if i := bytes.Index(b, magic[:]); i >= 0 {
			return at + int64(i)
		}
		at += int64(len(b) - len(magic) + 1)
	}
	return s.end
}

// blank reports whether nothing but zeros is left: space that was set aside and never written.
func (s *frameScanner) blank() bool {
	for at := s.off; at < s.end; {
		b := s.view(at, int(min(s.end-at, int64(s.chunkSize()))))
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false
		}
		at += int64(len(b))
	}
	return true
}

func (s *frameScanner) chunkSize() int {
	if s.chunk == 0 {
		return scanChunk
	}
	return s.chunk
}

// view returns n bytes from an offset, which lie before end.
func (s *frameScanner) view(at int64, n int) []byte {
	if i := at - s.base; i >= 0 && i+int64(n) <= int64(len(s.buf)) {
		return s.buf[i : i+int64(n)]
	}
	want := int(min(max(int64(n), int64(s.chunkSize())), s.end-at))
	if cap(s.buf) < want || cap(s.buf) > 4*s.chunkSize() && want <= s.chunkSize() {
		s.buf = make([]byte, max(want, s.chunkSize()))
	}
	s.buf = s.buf[:want]
	s.base = at
	readBlocks(s.src, s.buf, at)
	return s.buf[:n]
}

// forget drops the buffer, because the file may have grown or no one is reading.
func (s *frameScanner) forget() { s.buf, s.base = nil, 0 }

// readBlocks fills b from an offset. Blocks that cannot be read, as of failing flash, come back as zeros: they hold no
// frame, so the caller treats them as damage.
func readBlocks(src io.ReaderAt, b []byte, at int64) {
	n, err := src.ReadAt(b, at)
	if n == len(b) {
		return
	}
	clear(b[n:])
	if err == nil || errors.Is(err, io.EOF) {
		return
	}
	const block = 4096
	for i := n; i < len(b); {
		size := min(block-int((at+int64(i))%block), len(b)-i)
		if m, err := src.ReadAt(b[i:i+size], at+int64(i)); err != nil {
			clear(b[i+m : i+size])
		}
		i += size
	}
}
