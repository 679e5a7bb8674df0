package mqtt

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// The causes by which messages are dropped, as they appear in BridgeStatus and metrics.
const (
	CauseLoop      = "loop"      // the event has passed this device before
	CauseHops      = "hops"      // it has passed through too many devices
	CauseTopic     = "topic"     // its topic has no name on the other side, or none that brokers take
	CauseMalformed = "malformed" // it is not what the rule says it is
	CauseTooLarge  = "too-large" // its payload exceeds maxPayload
	CauseRejected  = "rejected"  // the local component refuses it for good
	CauseExpired   = "expired"   // its time to live ended while it waited for the broker
	CauseOverflow  = "overflow"  // QoS 0 messages arrived faster than they can be kept
)

// Refusal is a topic with messages that the broker does not take: it ends the connection when one arrives. They stay in
// the journal, are left out for a while and then tried again.
type Refusal struct {
	Topic     string    `json:"topic"`
	Whole     bool      `json:"whole"` // all messages of the topic are held back, not only some
	Times     int       `json:"times"` // connections that ended so
	Until     time.Time `json:"until"` // next attempt
	LastError string    `json:"lastError"`
}

// Traffic are the counters of one direction, since start.
type Traffic struct {
	Received uint64            `json:"received"` // offered by the journal, or by the broker
	Handled  uint64            `json:"handled"`  // acknowledged by the broker, or durable here
	Dropped  map[string]uint64 `json:"dropped,omitempty"`
}

// BridgeStatus says how a bridge is doing.
type BridgeStatus struct {
	Name    string    `json:"name"`
	Link    Status    `json:"link"`
	Out     Traffic   `json:"out"`
	In      Traffic   `json:"in"`
	Refused []Refusal `json:"refused,omitempty"`
	// Blocked is why received messages cannot be kept at the moment; they stay unacknowledged with the broker.
	Blocked string `json:"blocked,omitempty"`
}

// traffic counts; it is safe for concurrent use.
type traffic struct {
	received, handled atomic.Uint64
	mu                sync.Mutex
	dropped           map[string]uint64
}

// drop returns the new count, so that callers can log at 1, 2, 4, 8 ...
func (t *traffic) drop(cause string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped == nil {
		t.dropped = map[string]uint64{}
	}
	t.dropped[cause]++
	return t.dropped[cause]
}

func (t *traffic) stat() Traffic {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Traffic{Received: t.received.Load(), Handled: t.handled.Load(), Dropped: maps.Clone(t.dropped)}
}

// addOverflow adds what the client had to drop before anybody could look at it.
func (t *Traffic) addOverflow(c *Client) {
	n := c.inbox.overflow()
	if n == 0 {
		return
	}
	if t.Dropped == nil {
		t.Dropped = map[string]uint64{}
	}
	t.Dropped[CauseOverflow] = n
}
