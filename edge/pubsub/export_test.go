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
