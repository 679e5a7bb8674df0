package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// A pageWalk verifies the structure of a bbolt file from the bytes alone: bbolt itself trusts what it maps, and a
// damaged page makes it panic, fault or recurse without end. The format is that of bbolt's file version 2; integers
// are in the machine's byte order.
type pageWalk struct {
	file     io.ReaderAt
	pageSize int64
	high     uint64 // pages at and above are not in use
	seen     []uint64
	queue    []pageRef
	left     int  // pages that may still be read
	deep     bool // depth first: less memory, for the whole file
	page     []byte
}

// pageRef is a page to visit, with the key range that its parent gives it.
type pageRef struct {
	id       uint64
	min, max []byte // max nil: no bound
}

const (
	pageHeader   = 16
	elementSize  = 16
	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	bucketEntry  = 0x01
	metaSize     = 64
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	noFreelist   = ^uint64(0)

	// quickPages bounds the check at start: 4 MiB of 4 KiB pages, the upper levels of the trees first.
	quickPages = 1024
)

// fileMeta is a valid meta page.
type fileMeta struct {
	pageSize                   int64
	root, freelist, high, txid uint64
}

// quickCheck verifies the meta pages, the freelist and the top of the trees of a bbolt file, or all of a small one.
// A missing or empty file is right. What is wrong is a damageError.
func quickCheck(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	if st.Size() == 0 {
		return nil
	}
	metas := readMetas(f, st.Size())
	if len(metas) == 0 {
		return &damageError{"no valid meta page"}
	}
	return walk(context.Background(), f, st.Size(), metas[0], quickPages)
}

// checkPages verifies every page of the open database as a read transaction sees it.
func (s *Store) checkPages(ctx context.Context) error {
	for {
		retry := false
		err := s.view(func(tx *bbolt.Tx) error {
			st, err := s.file.Stat()
			if err != nil {
				return fmt.Errorf("check database: %w", err)
			}
			for _, m := range readMetas(s.file, st.Size()) {
				if m.txid == uint64(tx.ID()) {
					return walk(ctx, s.file, st.Size(), m, int(m.high)+1)
				}
			}
			retry = true // two commits came between; the pages of this transaction are pinned, but not its meta page
			return ctx.Err()
		})
		if !retry || err != nil {
			return err
		}
	}
}

// readMetas returns the valid meta pages, newest first. The second one's place depends on the page size.
func readMetas(f io.ReaderAt, size int64) []fileMeta {
	var out []fileMeta
	first, ok := readMeta(f, 0)
	if ok {
		out = append(out, first)
	}
	for ps := int64(1024); ps <= 16<<20 && ps < size; ps *= 2 {
		if ok && ps != first.pageSize {
			continue
		}
		if m, valid := readMeta(f, ps); valid && m.pageSize == ps {
			out = append(out, m)
			break
		}
	}
	if len(out) == 2 && out[1].txid > out[0].txid {
		out[0], out[1] = out[1], out[0]
	}
	return out
}

func readMeta(f io.ReaderAt, at int64) (fileMeta, bool) {
	var b [pageHeader + metaSize]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return fileMeta{}, false
	}
	m, ne := b[pageHeader:], binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(m[:metaSize-8])
	if ne.Uint32(m) != metaMagic || ne.Uint32(m[4:]) != metaVersion || ne.Uint64(m[56:]) != sum.Sum64() {
		return fileMeta{}, false
	}
	return fileMeta{
		pageSize: int64(ne.Uint32(m[8:])), root: ne.Uint64(m[16:]),
		freelist: ne.Uint64(m[32:]), high: ne.Uint64(m[40:]), txid: ne.Uint64(m[48:]),
	}, true
}

// walk verifies up to limit pages, from the roots down.
func walk(ctx context.Context, f io.ReaderAt, size int64, m fileMeta, limit int) error {
	if m.pageSize < 1024 || m.pageSize > 16<<20 || m.high < 4 || m.high > uint64(size/m.pageSize) {
		return &damageError{fmt.Sprintf("meta page: %d pages of %d bytes in a file of %d", m.high, m.pageSize, size)}
	}
	w := &pageWalk{file: f, pageSize: m.pageSize, high: m.high, left: limit, seen: make([]uint64, m.high/64+1)}
	w.deep = limit > quickPages
	w.queue = append(w.queue, pageRef{id: m.root})
	for len(w.queue) > 0 {
		if w.left <= 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.visit(w.next()); err != nil {
			return err
		}
	}
	if m.freelist == noFreelist {
		return nil
	}
	return w.freelist(m.freelist)
}

func (w *pageWalk) next() (ref pageRef) {
	if last := len(w.queue) - 1; w.deep {
		ref, w.queue = w.queue[last], w.queue[:last]
		return ref
	}
	ref, w.queue = w.queue[0], w.queue[1:]
	return ref
}

func damagedPage(id uint64, format string, args ...any) error {
	return &damageError{fmt.Sprintf("page %d: ", id) + fmt.Sprintf(format, args...)}
}

// read returns a page with its overflow, marks it as seen, and verifies its header. The page is valid until the next read.
func (w *pageWalk) read(id uint64) (page []byte, flags uint16, count int, err error) {
	if id < 2 || id >= w.high {
		return nil, 0, 0, damagedPage(id, "is out of range")
	}
	w.left--
	if w.page == nil {
		w.page = make([]byte, w.pageSize)
	}
	page = w.page
	if _, err := w.file.ReadAt(page, int64(id)*w.pageSize); err != nil {
		return nil, 0, 0, damagedPage(id, "read: %v", err)
	}
	ne := binary.NativeEndian
	flags, count = ne.Uint16(page[8:]), int(ne.Uint16(page[10:]))
	overflow := uint64(ne.Uint32(page[12:]))
	if got := ne.Uint64(page); got != id {
		return nil, 0, 0, damagedPage(id, "says it is page %d", got)
	}
	if overflow >= w.high-id {
		return nil, 0, 0, damagedPage(id, "overflows by %d pages", overflow)
	}
	for i := id; i <= id+overflow; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return nil, 0, 0, damagedPage(i, "is used twice")
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	if overflow > 0 {
		w.left -= int(overflow)
		page = make([]byte, int64(overflow+1)*w.pageSize)
		if _, err := w.file.ReadAt(page, int64(id)*w.pageSize); err != nil {
			return nil, 0, 0, damagedPage(id, "read: %v", err)
		}
	}
	return page, flags, count, nil
}

func (w *pageWalk) visit(ref pageRef) error {
	page, flags, count, err := w.read(ref.id)
	if err != nil {
		return err
	}
	switch flags {
	case flagBranch:
		w.page = nil // the queue refers to its keys
		return w.branch(ref, page, count)
	case flagLeaf:
		return w.leaf(ref.id, ref, page, count)
	default:
		return damagedPage(ref.id, "has type %#x", flags)
	}
}

func (w *pageWalk) branch(ref pageRef, page []byte, count int) error {
	if count == 0 {
		return damagedPage(ref.id, "is an empty branch")
	}
	ne := binary.NativeEndian
	var last []byte
	first := len(w.queue)
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(page) {
			return damagedPage(ref.id, "has %d elements", count)
		}
		key, ok := span(page, at, u64(page[at:]), u64(page[at+4:]))
		if !ok || !ordered(ref, last, key, i) {
			return damagedPage(ref.id, "element %d is out of place", i)
		}
		if i > 0 {
			w.queue[len(w.queue)-1].max = key
		}
		w.queue = append(w.queue, pageRef{id: ne.Uint64(page[at+8:]), min: key})
		last = key
	}
	w.queue[len(w.queue)-1].max = ref.max
	w.queue[first].min = ref.min
	return nil
}

// leaf verifies a leaf page, or the inline page of a small bucket, whose id is that of the page it lies in.
func (w *pageWalk) leaf(id uint64, ref pageRef, page []byte, count int) error {
	var last []byte
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(page) {
			return damagedPage(id, "has %d elements", count)
		}
		flags, pos, ksize, vsize := u64(page[at:]), u64(page[at+4:]), u64(page[at+8:]), u64(page[at+12:])
		key, ok := span(page, at, pos, ksize)
		if !ok || !ordered(ref, last, key, i) {
			return damagedPage(id, "element %d is out of place", i)
		}
		value, ok := span(page, at, pos+ksize, vsize)
		if !ok || flags > bucketEntry {
			return damagedPage(id, "value of element %d is out of place", i)
		}
		if flags == bucketEntry {
			if err := w.bucket(id, value); err != nil {
				return err
			}
		}
		last = key
	}
	return nil
}

// bucket verifies a bucket's header and its inline page, or queues its root.
func (w *pageWalk) bucket(id uint64, value []byte) error {
	if len(value) < pageHeader {
		return damagedPage(id, "bucket header of %d bytes", len(value))
	}
	ne := binary.NativeEndian
	if root := ne.Uint64(value); root != 0 {
		w.queue = append(w.queue, pageRef{id: root})
		return nil
	}
	page := value[16:]
	if len(page) < pageHeader || ne.Uint16(page[8:]) != flagLeaf {
		return damagedPage(id, "inline bucket is not a leaf")
	}
	return w.leaf(id, pageRef{}, page, int(ne.Uint16(page[10:])))
}

// u64 reads a 32-bit integer, widened so that sums of two do not overflow.
func u64(b []byte) uint64 { return uint64(binary.NativeEndian.Uint32(b)) }

// span cuts size bytes at pos, counted from the element at.
func span(page []byte, at int, pos, size uint64) ([]byte, bool) {
	from := uint64(at) + pos
	to := from + size
	if to > uint64(len(page)) {
		return nil, false
	}
	return page[from:to], true
}

// ordered reports whether element i keeps the order of its page and the range given by the parent.
func ordered(ref pageRef, last, key []byte, i int) bool {
	if i > 0 && bytes.Compare(last, key) >= 0 {
		return false
	}
	if i == 0 && bytes.Compare(key, ref.min) < 0 {
		return false
	}
	return ref.max == nil || bytes.Compare(key, ref.max) < 0
}

// freelist verifies that free pages are in range and, if the whole tree was seen, that none of them is in use.
func (w *pageWalk) freelist(id uint64) error {
	page, flags, count, err := w.read(id)
	if err != nil {
		return err
	}
	if flags != flagFreelist {
		return damagedPage(id, "freelist has type %#x", flags)
	}
	ne, ids := binary.NativeEndian, page[pageHeader:]
	if count == 0xFFFF {
		n := ne.Uint64(ids)
		if n > uint64(len(ids)/8-1) {
			return damagedPage(id, "freelist of %d pages", n)
		}
		count, ids = int(n), ids[8:]
	}
	if count > len(ids)/8 {
		return damagedPage(id, "freelist of %d pages", count)
	}
	free := make([]uint64, len(w.seen))
	for i := range count {
		p := ne.Uint64(ids[i*8:])
		if p < 2 || p >= w.high {
			return damagedPage(id, "free page %d is out of range", p)
		}
		bit := uint64(1) << (p % 64)
		if w.seen[p/64]&bit != 0 || free[p/64]&bit != 0 {
			return damagedPage(p, "is free and in use, or free twice")
		}
		free[p/64] |= bit
	}
	return nil
}
