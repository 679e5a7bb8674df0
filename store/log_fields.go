package store

import "encoding/binary"

// fields decodes a sequence of values. After bytes that make no sense it answers zeros, and done says false.
type fields struct {
	b   []byte
	bad bool
}

func (d *fields) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *fields) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *fields) uint32() uint32 {
	if len(d.b) < 4 {
		d.b, d.bad = nil, true
		return 0
	}
	v := binary.LittleEndian.Uint32(d.b)
	d.b = d.b[4:]
	return v
}

func (d *fields) uint64() uint64 { lo := uint64(d.uint32()); return lo | uint64(d.uint32())<<32 }

func (d *fields) string() string {
	s, rest, ok := cutString(d.b)
	if !ok {
		d.b, d.bad = nil, true
		return ""
	}
	d.b = rest
	return string(s)
}

func (d *fields) done() bool { return !d.bad && len(d.b) == 0 }
