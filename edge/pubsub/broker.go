// Package pubsub is the publish and subscribe building block: topics, subscriptions with routes, dead letters, and the
// consumer that reads a durable journal. Events are delivered at least once, in order per lane and consumer except for
// those that are delivered again after a nak.
package pubsub

import (
	"context"
	"fmt"
	"time"

	"github.com/edged-io/edged/edge/fault"
)

// Verdict is what a handler says of one event.
type Verdict uint8

// Ack: handled (Dapr SUCCESS). Nak: deliver again later (Dapr RETRY). Drop: never again, counted (Dapr DROP).
const (
	Ack Verdict = iota
	Nak
	Drop
)

// Handler takes a batch of events in order and says of each what became of it. An error means that the receiver is not
// reachable and the events without a verdict were not handled: the verdicts that come with the error, if any, belong to
// the first events, and the consumer waits with backoff and offers the rest again, in order. ctx ends when the
// subscription closes and its drain deadline has passed.
type Handler func(ctx context.Context, events []Event) ([]Verdict, error)

// Consumer describes who reads which topics, and how. Zero values mean the broker's defaults.
type Consumer struct {
	Name     string        // durable identity: the same name continues at its cursor
	Filter   string        // topic name, or MQTT topic filter
	Start    StartFrom     // for a name that is not known yet
	MaxBatch int           // events per Handler call; 0 means 1
	MaxWait  time.Duration // how long a batch that is not full waits for more events; 0: not at all
	// MaxPending bounds the events that wait for redelivery in one lane. When it is reached the lane stops reading new
	// events until one of them is handled: backpressure, not loss. 0 means 256.
	MaxPending int
	Backoff    Backoff // between redeliveries of one event: 100 ms to 30 s
	Reconnect  Backoff // between attempts to reach the receiver: 100 ms to 5 s
	// Volatile consumers leave nothing behind: they start at Newest and are forgotten when they close.
	Volatile bool
	// Metadata is the subscription's, for components outside that know more than this package does. Not to be changed.
	Metadata map[string]string
}

// Backoff grows from Min to Max by doubling, each wait shortened at random by up to half. Zero fields mean the defaults
// of the use.
type Backoff struct {
	Min, Max time.Duration
}

// Subscription is a running consumer. Close stops deliveries, waits for those under way and flushes the cursor; the
// consumer's place in the journal stays. It may be called twice.
type Subscription interface {
	Close() error
}

// Broker is a pub/sub component. It is safe for concurrent use.
type Broker interface {
	// Publish returns when all events are accepted with the component's durability, or an error and none is; a component
	// outside that accepted some of them returns a *PartialError.
	Publish(ctx context.Context, events []Event) error
	// Subscribe starts a consumer; h is called from one goroutine per lane until Close. Subscriptions that give the same
	// durable name and filter are one consumer: each event goes to one of them, still in order.
	Subscribe(ctx context.Context, c Consumer, h Handler) (Subscription, error)
	// Features lists what the component can do, in Dapr's words.
	Features() []string
}

// PartialError reports that a component outside accepted some of the events that were published together.
type PartialError struct {
	Failed map[int]error // by the position of the event
}

// Error tells how many events were refused, and why one of them was.
func (e *PartialError) Error() string {
	for _, err := range e.Failed {
		return fmt.Sprintf("%d events were not accepted: %v", len(e.Failed), err)
	}
	return "no event was refused"
}

// ErrTopicFull reports that a topic's contract refuses new events until consumers catch up. Nothing was kept.
// Use errors.Is; journals wrap it with the topic and the bound.
var ErrTopicFull = &fault.Error{
	ErrorCode: "ERR_PUBSUB_TOPIC_FULL", HTTP: 507, GRPC: fault.ResourceExhausted,
	Message: "the topic is full (policy reject): consumers must catch up, or its bounds in edged.yaml be raised",
}
