package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/edged-io/edged/edge/pubsub"
)

// cursorStore keeps the small durable facts of a journal: lanes, cursors, gaps. The event log needs no more of a
// database than this.
type cursorStore interface {
	// LoadMeta returns a copy of everything.
	LoadMeta() (map[string][]byte, error)
	// SaveMeta puts and deletes in one durable step: all or nothing.
	SaveMeta(ctx context.Context, puts map[string][]byte, deletes []string) error
}

// Keys of a journal's facts, in the bucket j/<component> of state.db. Lanes are named by their folder.
const (
	journalPrefix = "j/"

	metaLane   = "l/" // <lane>            -> laneFacts
	metaCursor = "c/" // <lane>/<consumer> -> cursorFacts
	metaGap    = "g/" // <number, 16 hex>  -> pubsub.Gap
	metaTx     = "t/" // <lane>            -> id of the last append to several lanes that was committed
	metaAge    = "age"

	factsFormat = 1
)

func cursorKey(lane, consumer string) string { return metaCursor + lane + "/" + consumer }
func gapKey(number uint64) string            { return fmt.Sprintf("%s%016x", metaGap, number) }

// laneFacts are what a lane needs across restarts and is not in its segments.
type laneFacts struct {
	contract pubsub.Contract
	salt     laneSalt
	head     uint64 // oldest kept sequence: what is before was dropped or handled
	last     uint64 // a sequence known to be on disk
	released uint64 // newest sequence of a segment that was let go of
	void     uint64 // see abandon
	routes   uint32 // see mix
}

func (l laneFacts) encode() []byte {
	b := appendString([]byte{factsFormat}, l.contract.Match)
	b = binary.AppendUvarint(b, uint64(l.contract.MaxBytes))
	b = binary.AppendUvarint(b, uint64(l.contract.MaxEvents))
	b = binary.AppendUvarint(b, uint64(l.contract.MaxAge))
	b = appendString(b, string(l.contract.WhenFull))
	b = binary.LittleEndian.AppendUint32(b, uint32(l.salt))
	b = binary.AppendUvarint(b, l.head)
	b = binary.AppendUvarint(b, l.last)
	b = binary.AppendUvarint(b, l.released)
	b = binary.AppendUvarint(b, l.void)
	return binary.LittleEndian.AppendUint32(b, l.routes)
}

func decodeLaneFacts(b []byte) (l laneFacts, ok bool) {
	d := fields{b: b}
	if d.byte() != factsFormat {
		return l, false
	}
	l.contract.Match = d.string()
	l.contract.MaxBytes = int64(d.uvarint())
	l.contract.MaxEvents = int64(d.uvarint())
	l.contract.MaxAge = time.Duration(d.uvarint())
	l.contract.WhenFull = pubsub.Full(d.string())
	l.salt = laneSalt(d.uint32())
	l.head = d.uvarint()
	l.last = d.uvarint()
	l.released = d.uvarint()
	l.void = d.uvarint()
	l.routes = d.uint32()
	return l, d.done()
}

// encodeCursor is a consumer's filter and cursor.
func encodeCursor(filter string, c pubsub.Cursor) []byte {
	b := appendString([]byte{factsFormat}, filter)
	b = binary.AppendUvarint(b, c.Head)
	b = binary.AppendUvarint(b, uint64(len(c.Pending)))
	before := uint64(0)
	for _, seq := range c.Pending {
		b = binary.AppendUvarint(b, seq-before)
		before = seq
	}
	return b
}

func decodeCursor(b []byte) (filter string, c pubsub.Cursor, ok bool) {
	d := fields{b: b}
	if d.byte() != factsFormat {
		return "", c, false
	}
	filter = d.string()
	c.Head = d.uvarint()
	n := d.uvarint()
	if n > uint64(len(b)) {
		return "", c, false
	}
	seq := uint64(0)
	for range n {
		seq += d.uvarint()
		c.Pending = append(c.Pending, seq)
	}
	return filter, c, d.done()
}

func encodeGap(g *pubsub.Gap) []byte {
	b := appendString([]byte{factsFormat}, g.Lane)
	b = binary.AppendUvarint(b, uint64(len(g.Topics)))
	for _, t := range g.Topics {
		b = appendString(b, t)
	}
	b = binary.AppendUvarint(b, g.From)
	b = binary.AppendUvarint(b, g.To)
	b = binary.AppendUvarint(b, g.Events)
	b = appendString(b, g.Reason)
	return binary.LittleEndian.AppendUint64(b, uint64(unixNano(g.Time)))
}

func decodeGap(b []byte) (g pubsub.Gap, ok bool) {
	d := fields{b: b}
	if d.byte() != factsFormat {
		return g, false
	}
	g.Lane = d.string()
	n := d.uvarint()
	if n > maxGapTopics {
		return g, false
	}
	for range n {
		g.Topics = append(g.Topics, d.string())
	}
	g.From, g.To, g.Events = d.uvarint(), d.uvarint(), d.uvarint()
	g.Reason = d.string()
	g.Time = fromUnixNano(int64(d.uint64()))
	return g, d.done()
}

// journalFacts is the cursorStore in state.db.
type journalFacts struct {
	s      *Store
	bucket []byte
}

func (f journalFacts) LoadMeta() (map[string][]byte, error) {
	all := map[string][]byte{}
	err := f.s.view(func(tx *bbolt.Tx) error {
		b := tx.Bucket(f.bucket)
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			all[string(k)] = append([]byte(nil), v...)
			return nil
		})
	})
	if errors.Is(err, ErrDamaged) {
		// What could be read is used. The segments hold the events; consumers whose cursor is lost begin again.
		f.s.log.Error("cursors of the event log are damaged", "component", strings.TrimPrefix(string(f.bucket), journalPrefix),
			"read", len(all), "error", err)
		err = nil
	}
	return all, err
}

func (f journalFacts) SaveMeta(ctx context.Context, puts map[string][]byte, deletes []string) error {
	return f.s.submit(ctx, &saveFacts{f.bucket, puts, deletes})
}

// saveFacts is the mutation of one SaveMeta. It is not refused when the reserve is touched: acknowledging and dropping
// events must go on when the disk is full, because they make it less so.
type saveFacts struct {
	bucket  []byte
	puts    map[string][]byte
	deletes []string
}

func (m *saveFacts) apply(tx *writeTx) (bool, error) {
	b, err := tx.CreateBucketIfNotExists(m.bucket)
	if err != nil {
		return false, fmt.Errorf("save cursors: %w", err)
	}
	for k, v := range m.puts {
		if err := b.Put([]byte(k), v); err != nil {
			return false, fmt.Errorf("save cursors: %w", err)
		}
	}
	for _, k := range m.deletes {
		if err := b.Delete([]byte(k)); err != nil {
			return false, fmt.Errorf("save cursors: %w", err)
		}
	}
	return true, nil
}
func (m *saveFacts) committed() {}
