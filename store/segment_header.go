package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// A segment's name is its first sequence in 20 digits and ".log", so that a folder lists in order and a segment is
// found without opening any. Its header repeats what is needed to read it without state.db:
//
//	magic(8) format(1) flags(1) match length(2) salt(4) first sequence(8) newest before(8) created ns(8) crc32c(4) match
const (
	segmentSuffix     = ".log"
	segmentDigits     = 20
	segmentMagic      = "edgedlog"
	segmentFormat     = 1
	segmentHeaderSize = 44

	segmentCompacted = 1 // flag
)

func segmentName(first uint64) string {
	return fmt.Sprintf("%0*d%s", segmentDigits, first, segmentSuffix)
}

// parseSegmentName undoes segmentName.
func parseSegmentName(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != segmentDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0 && first < math.MaxUint64
}

// segmentHeader is what the beginning of a segment says.
type segmentHeader struct {
	first   uint64
	before  uint64 // the newest event of the lane when the segment was made: what the segments in front must reach up to
	salt    laneSalt
	created time.Time
	match   string // the lane's contract
	// compacted segments were written again without events that everybody had handled.
	compacted bool
}

func appendSegmentHeader(b []byte, h segmentHeader) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	flags := byte(0)
	if h.compacted {
		flags = segmentCompacted
	}
	b = append(b, segmentFormat, flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.match)))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.salt))
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, h.before)
	b = binary.LittleEndian.AppendUint64(b, uint64(unixNano(h.created)))
	sum := crc32.Update(crc32.Checksum(b[start:], castagnoli), castagnoli, []byte(h.match))
	b = binary.LittleEndian.AppendUint32(b, sum)
	return append(b, h.match...)
}

var (
	errSegmentHeader = errors.New("damaged segment header")
	errSegmentFormat = errors.New("segment format of a newer version")
)

// readSegmentHeader reads and checks a header; size is where the frames begin.
func readSegmentHeader(src io.ReaderAt) (h segmentHeader, size int, err error) {
	var b [segmentHeaderSize + math.MaxUint8]byte
	n, err := src.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, 0, fmt.Errorf("read segment header: %w", err)
	}
	return decodeSegmentHeader(b[:n], src)
}

// decodeSegmentHeader decodes b, the beginning of src, and reads the rest of a long match from src.
func decodeSegmentHeader(b []byte, src io.ReaderAt) (h segmentHeader, size int, err error) {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic {
		return h, 0, errSegmentHeader
	}
	size = segmentHeaderSize + int(binary.LittleEndian.Uint16(b[10:]))
	if size > len(b) {
		whole := make([]byte, size)
		if n, err := src.ReadAt(whole, 0); n < size {
			return h, 0, errors.Join(errSegmentHeader, err)
		}
		b = whole
	}
	match := b[segmentHeaderSize:size]
	sum := crc32.Update(crc32.Checksum(b[:40], castagnoli), castagnoli, match)
	if sum != binary.LittleEndian.Uint32(b[40:]) {
		return h, 0, errSegmentHeader
	}
	if b[8] != segmentFormat {
		return h, 0, fmt.Errorf("%w: %d", errSegmentFormat, b[8])
	}
	h.compacted = b[9]&segmentCompacted != 0
	h.salt = laneSalt(binary.LittleEndian.Uint32(b[12:]))
	h.first = binary.LittleEndian.Uint64(b[16:])
	h.before = binary.LittleEndian.Uint64(b[24:])
	h.created = fromUnixNano(int64(binary.LittleEndian.Uint64(b[32:])))
	h.match = string(match)
	return h, size, nil
}
