package sync

import (
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Cursors are CBOR maps (RFC 8949) {epoch: text, pos: uint, time: uint (Unix milliseconds), sum: uint}, so that any language
// reads them. This is the small part of CBOR that needs; a library would cost more than 200 KB of binary.

const (
	cborUint = 0 << 5
	cborText = 3 << 5
	cborMap  = 5 << 5
)

var errCBOR = errors.New("not a cursor record")

func (c Cursor) marshal() []byte {
	b := make([]byte, 0, 64+len(c.Epoch))
	b = append(b, cborMap|4)
	b = cborString(b, "epoch")
	b = cborString(b, c.Epoch)
	b = cborString(b, "pos")
	b = cborHead(b, cborUint, c.Pos)
	b = cborString(b, "time")
	b = cborHead(b, cborUint, uint64(max(0, c.Time.UnixMilli())))
	b = cborString(b, "sum")
	return cborHead(b, cborUint, c.Sum)
}

func cborString(b []byte, s string) []byte {
	return append(cborHead(b, cborText, uint64(len(s))), s...)
}

func cborHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n <= math.MaxUint8:
		return append(b, major|24, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

// unmarshalCursor reads what marshal writes. Unknown keys with integer or text values are skipped.
func unmarshalCursor(b []byte) (Cursor, error) {
	var c Cursor
	major, n, b, err := cborRead(b)
	if err != nil || major != cborMap {
		return c, errCBOR
	}
	for range n {
		var key, text string
		var num uint64
		if major, num, b, err = cborRead(b); err != nil || major != cborText {
			return c, errCBOR
		}
		if key, b, err = cborTake(b, num); err != nil {
			return c, err
		}
		if major, num, b, err = cborRead(b); err != nil || (major != cborText && major != cborUint) {
			return c, errCBOR
		}
		if major == cborText {
			if text, b, err = cborTake(b, num); err != nil {
				return c, err
			}
		}
		switch {
		case key == "epoch" && major == cborText:
			c.Epoch = text
		case key == "pos" && major == cborUint:
			c.Pos = num
		case key == "sum" && major == cborUint:
			c.Sum = num
		case key == "time" && major == cborUint && num <= math.MaxInt64:
			c.Time = time.UnixMilli(int64(num))
		}
	}
	if len(b) > 0 || c.Epoch == "" {
		return c, errCBOR
	}
	return c, nil
}

func cborTake(b []byte, n uint64) (string, []byte, error) {
	if n > uint64(len(b)) {
		return "", nil, errCBOR
	}
	return string(b[:n]), b[n:], nil
}

func cborRead(b []byte) (major byte, n uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, 0, nil, errCBOR
	}
	major, info := b[0]&0xe0, b[0]&0x1f
	b = b[1:]
	if info < 24 {
		return major, uint64(info), b, nil
	}
	if info > 27 {
		return 0, 0, nil, errCBOR
	}
	size := 1 << (info - 24)
	if len(b) < size {
		return 0, 0, nil, errCBOR
	}
	for _, c := range b[:size] {
		n = n<<8 | uint64(c)
	}
	return major, n, b[size:], nil
}
