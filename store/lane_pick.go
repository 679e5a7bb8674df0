package store

import (
	"sync"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// laneFilter is a topic filter prepared for matching many records.
type laneFilter struct {
	text     string
	wildcard bool
	topics   sync.Pool // of *topicCache
}

func newLaneFilter(filter string) *laneFilter {
	return &laneFilter{text: filter, wildcard: pubsub.IsWildcard(filter)}
}

func (f *laneFilter) matches(topic string) bool {
	if !f.wildcard {
		return f.text == topic
	}
	return pubsub.MatchTopic(f.text, topic)
}

// topicCache remembers topics as strings and whether they match, so that a record costs one look-up and no allocation.
type topicCache map[string]knownTopic

type knownTopic struct {
	name    string
	matches bool
}

const maxCachedTopics = 1024

// eventPicker collects the events of frames that a filter wants, up to max events or maxPickedBytes of data.
type eventPicker struct {
	filter *laneFilter
	known  topicCache
	max    int
	nowAge int64
	wall   time.Time

	events  []pubsub.Event
	bytes   int
	slab    []byte
	cut     bool     // there may be more in the frame than was taken
	expired []uint64 // matching sequences that were left out because their time is over
	// expiredTopics are their topics, or some of them.
	expiredTopics []string
}

const (
	maxPickedBytes = 1 << 20
	leastSlab      = 1 << 10
	mostSlab       = 16 << 10
)

// done gives the topics back for the next reader of this filter.
func (p *eventPicker) done() {
	if p.known != nil {
		p.filter.topics.Put(p.known)
	}
}

// full tells that no more events may be added.
func (p *eventPicker) full() bool { return len(p.events) >= p.max || p.bytes >= maxPickedBytes }

// frame adds the events of f after a sequence and returns up to which sequence it looked.
func (p *eventPicker) frame(f *frame, after uint64) (scanned uint64) {
	rest := f.records
	var r eventRecord
	for i := range uint64(f.count) {
		seq := f.seq + i
		var ok bool
		if rest, ok = decodeRecord(rest, &r); !ok {
			break // its checksum was right, so it was written like this: there is nothing to deliver
		}
		if seq <= after {
			continue
		}
		topic, ok := p.match(r.topic)
		if !ok {
			after = seq
			continue
		}
		if p.full() || len(p.events) > 0 && p.bytes+len(r.data) > maxPickedBytes {
			p.cut = true
			return seq - 1
		}
		after = seq
		if f.expired(&r, p.nowAge, p.wall) {
			p.expired = append(p.expired, seq)
			p.expiredTopics = mergeTopics(p.expiredTopics, []string{topic})
			continue
		}
		p.add(seq, topic, &r)
	}
	return max(after, f.seq+uint64(f.count)-1)
}

func (p *eventPicker) match(topic []byte) (string, bool) {
	if !p.filter.wildcard {
		return p.filter.text, string(topic) == p.filter.text
	}
	if p.known == nil {
		if p.known, _ = p.filter.topics.Get().(topicCache); p.known == nil {
			p.known = topicCache{}
		}
	}
	k, ok := p.known[string(topic)]
	if !ok {
		if len(p.known) >= maxCachedTopics {
			clear(p.known)
		}
		k.name = string(topic)
		k.matches = p.filter.matches(k.name)
		p.known[k.name] = k
	}
	return k.name, k.matches
}

func (p *eventPicker) add(seq uint64, topic string, r *eventRecord) {
	e := pubsub.Event{Sequence: seq, Topic: topic, Data: p.copy(r.data), Time: fromUnixNano(r.time), Expires: fromUnixNano(r.expires)}
	if r.contentCode == contentInline {
		e.ContentType = string(r.contentType)
	} else {
		e.ContentType = contentTypes[r.contentCode]
	}
	if r.metadata != nil {
		e.Metadata = metadataOf(r.metadata)
	}
	if p.events == nil {
		p.events = make([]pubsub.Event, 0, min(p.max, 8))
	}
	p.events = append(p.events, e)
	p.bytes += len(r.data)
}

// copy returns a copy of b. Small ones share an allocation, which grows with the batch.
func (p *eventPicker) copy(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if cap(p.slab)-len(p.slab) < len(b) {
		size := min(max(2*cap(p.slab), leastSlab), mostSlab)
		if len(p.events) == 0 || len(b) > size/4 {
			return append(make([]byte, 0, len(b)), b...)
		}
		p.slab = make([]byte, 0, size)
	}
	n := len(p.slab)
	p.slab = append(p.slab, b...)
	return p.slab[n:len(p.slab):len(p.slab)]
}

// sequenceSet is a set of sequences in ranges. It forgets the lowest when there are many.
type sequenceSet struct{ ranges []sequenceRange }

type sequenceRange struct{ from, to uint64 }

const maxRanges = 1024

// add reports whether seq is new.
func (s *sequenceSet) add(seq uint64) bool {
	i := len(s.ranges)
	for i > 0 && s.ranges[i-1].from > seq {
		i--
	}
	if i > 0 && seq <= s.ranges[i-1].to {
		return false
	}
	before := i > 0 && s.ranges[i-1].to+1 == seq
	after := i < len(s.ranges) && s.ranges[i].from == seq+1
	switch {
	case before && after:
		s.ranges[i-1].to = s.ranges[i].to
		s.ranges = append(s.ranges[:i], s.ranges[i+1:]...)
	case before:
		s.ranges[i-1].to = seq
	case after:
		s.ranges[i].from = seq
	default:
		s.ranges = append(s.ranges, sequenceRange{})
		copy(s.ranges[i+1:], s.ranges[i:])
		s.ranges[i] = sequenceRange{seq, seq}
		if len(s.ranges) > maxRanges {
			s.ranges = append(s.ranges[:0], s.ranges[1:]...)
		}
	}
	return true
}
