package pubsub

import (
	"context"
	"slices"
	"time"
)

// Event is one published message. Data is a CloudEvent in JSON, or the publisher's raw bytes, as ContentType says.
type Event struct {
	Sequence    uint64 // given by the log on append, increasing per lane; 0 before
	Topic       string
	Data        []byte
	ContentType string
	Metadata    map[string]string // transport metadata kept with the event (such as partition or MQTT properties)
	Time        time.Time         // when the event was accepted, by this device's clock
	Expires     time.Time         // zero: only the topic's contract bounds its life
}

// Full says what a topic does with a new event when its bound is reached.
type Full string

// Reject answers the publisher with an error; DropOldest removes the oldest events and records a gap.
const (
	Reject     Full = "reject"
	DropOldest Full = "drop-oldest"
)

// Contract is the delivery contract of the topics that match Match (MQTT topic filter; the first match wins). The
// topics of one contract share one lane and its bounds. Zero bounds mean no bound of that kind.
type Contract struct {
	Match     string
	MaxBytes  int64
	MaxEvents int64
	MaxAge    time.Duration
	WhenFull  Full
}

// Gap is a durable record of events that were removed before every consumer had them. From and To are sequences of
// the lane; Events is how many events in that range had not been handled by at least one consumer.
type Gap struct {
	Lane     string
	Topics   []string // at most 16 names
	From, To uint64
	Events   uint64
	Reason   string // age | bytes | events | corrupt | expired | disk
	Time     time.Time
}

// Cursor is a consumer's durable position in a lane: every sequence up to Head is handled, except those of Pending,
// which wait for redelivery. Pending is sorted, not above Head, and bounded by the consumer (MaxPending), so one poisoned
// event does not block a topic and a cursor stays small however far the head runs ahead of it.
type Cursor struct {
	Head    uint64
	Pending []uint64
}

// Floor returns the sequence up to which everything is handled: what a journal may delete for this consumer.
func (c Cursor) Floor() uint64 {
	if len(c.Pending) > 0 {
		return c.Pending[0] - 1
	}
	return c.Head
}

// Handled reports whether the consumer is done with a sequence.
func (c Cursor) Handled(seq uint64) bool {
	if seq > c.Head {
		return false
	}
	_, pending := slices.BinarySearch(c.Pending, seq)
	return !pending
}

// StartFrom says where a consumer that has no cursor yet begins.
type StartFrom string

// Oldest delivers what the topic still keeps (the default); Newest only what is published from now on.
const (
	Oldest StartFrom = "oldest"
	Newest StartFrom = "newest"
)

// Journal keeps the events of one pub/sub component in lanes, one per contract. It is safe for concurrent use.
type Journal interface {
	// Append keeps events and returns when they are as durable as the journal promises; it sets their Sequence. Either
	// all events of the call are kept or none. The caller does not change Data or Metadata afterwards: a journal may keep
	// them. A full lane under Reject returns an error that is ErrTopicFull, a full
	// disk one that is fault.ErrStorageFull.
	Append(ctx context.Context, events []Event) error
	// Lanes returns the lanes that hold, or may come to hold, topics matching filter (an MQTT topic filter, or a plain
	// topic name). The answer does not change while the journal is open.
	Lanes(filter string) []Lane
	// Gaps returns the newest gap records, oldest first, at most limit.
	Gaps(limit int) []Gap
}

// Lane is one ordered log of a journal.
type Lane interface {
	// Name is unique in the journal and stable across restarts.
	Name() string
	// Attach registers a consumer durably, if it is new, and returns its cursor. Events are kept for it from then on.
	Attach(ctx context.Context, consumer, filter string, start StartFrom) (Cursor, error)
	// Detach forgets a consumer and its cursor.
	Detach(ctx context.Context, consumer string) error
	// Read returns, in order, up to max events after a sequence whose topic matches filter and which have not expired,
	// and scanned, the sequence up to which the lane was searched (>= after). It returns fewer than max rather than much
	// more than 1 MiB of data, but at least one event if there is one. It waits until there is at least one event or
	// scanned has advanced, or ctx is done; if the lane's newest sequence is already beyond after it does not wait. While it
	// waits it may let a bounded number of events go by that do not match before it reports that scanned has advanced.
	// Reading does not remove anything. Events stay valid for as long as they are held, and nobody changes their Data or Metadata.
	Read(ctx context.Context, after uint64, filter string, max int) (events []Event, scanned uint64, err error)
	// Commit moves a consumer's cursor. It is lazy: a crash may undo the last moments, which then are delivered again,
	// but a cursor on disk is never ahead of what was committed. Flush (and closing the journal) makes it durable. It is
	// cheap and called after every batch; neither side changes c.Pending afterwards. An unknown consumer is ignored.
	Commit(consumer string, c Cursor)
	// Flush makes all committed cursors of the lane durable.
	Flush(ctx context.Context) error
	// Stat returns the lane's figures.
	Stat() LaneStat
}

// LaneStat are the figures of a lane.
type LaneStat struct {
	Lane        string
	First, Last uint64            // oldest kept and newest sequence; First > Last when empty
	Events      int64             // kept
	Bytes       int64             // on disk
	Appended    uint64            // since start
	Dropped     map[string]uint64 // by Gap.Reason, since start
	Consumers   map[string]uint64 // consumer -> floor
}
