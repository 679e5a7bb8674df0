package pubsub

import (
	"maps"
	"slices"
)

// Crash returns what a restart finds after j's process died: all events, and the cursors that committed tells for each
// lane and consumer (the journal's own when it is nil).
func (j *MemoryJournal) Crash(committed func(lane, consumer string, latest Cursor) Cursor) *MemoryJournal {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := &MemoryJournal{clock: j.clock, discard: j.discard, gaps: slices.Clone(j.gaps)}
	for _, l := range j.lanes {
		n := &memoryLane{journal: c, contract: l.contract, events: slices.Clone(l.events), next: l.next, bytes: l.bytes,
			dropped: maps.Clone(l.dropped), consumers: map[string]*memoryConsumer{}}
		for name, consumer := range l.consumers {
			cursor := consumer.cursor
			if committed != nil {
				cursor = committed(l.Name(), name, cursor)
			}
			n.consumers[name] = &memoryConsumer{filter: consumer.filter, cursor: cursor}
		}
		c.lanes = append(c.lanes, n)
	}
	return c
}

// FirstValue, SkipWhole and AppendString are the hand-written JSON, for comparison with encoding/json.
func FirstValue(b []byte) ([]byte, bool) { return firstValue(b) }

// Valid reports whether b is one JSON value.
func Valid(b []byte) bool {
	i, ok := skipValue(b, skipSpace(b, 0), 0)
	return ok && skipSpace(b, i) == len(b)
}

// AppendString is the string encoder.
func AppendString(s string) []byte { return appendString(nil, s) }

// Attributes is what NewEnvelope takes.
type Attributes = attributes

// NewEnvelope, CompleteEnvelope, WrapRaw, NewID and TimeToLive are the parts of the envelope.
func NewEnvelope(a Attributes, metadata map[string]string, data []byte) []byte {
	a.override(metadata)
	return newEnvelope(&a, data)
}

func CompleteEnvelope(a Attributes, event []byte) ([]byte, error) { return completeEnvelope(&a, event) }

func WrapRaw(id, topic, pubsub string, metadata map[string]string, data []byte) []byte {
	return wrapRaw(id, topic, pubsub, metadata, data)
}

var (
	NewID      = newID
	TimeToLive = timeToLive
)
