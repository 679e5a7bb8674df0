package pubsub

import "context"

// Delivery is one event on its way to an application. Envelope is the CloudEvent as JSON; only in bulk deliveries of
// rawPayload subscriptions is it the publisher's bytes, and Raw is set.
type Delivery struct {
	PubSub      string
	Topic       string
	Path        string // route: HTTP path, or gRPC TopicEventRequest.path
	Envelope    []byte
	ContentType string // application/cloudevents+json, or that of the bytes when Raw
	Raw         bool
	Metadata    map[string]string // what the publisher sent with the event; may be nil, and is not to be changed
	EntryID     string            // in bulk deliveries
	ID          string            // CloudEvent id
	TraceParent string            // W3C trace context of the event; all zeros if it has none, as in Dapr
	TraceState  string
}

// BulkDelivery is a batch for one path.
type BulkDelivery struct {
	ID       string
	PubSub   string
	Topic    string
	Path     string
	Metadata map[string]string
	Entries  []Delivery
}

// Channel is the way to one application, over HTTP or gRPC. An error means that the application could not be reached
// and has not seen the event; what it answered is a Verdict. It is safe for concurrent use.
type Channel interface {
	// Deliver posts one event and maps the answer as Dapr does: the status field; 404 and Unimplemented are Drop, other
	// failures Nak.
	Deliver(ctx context.Context, d Delivery) (Verdict, error)
	// DeliverBulk posts a batch; verdict i belongs to entry i.
	DeliverBulk(ctx context.Context, d BulkDelivery) ([]Verdict, error)
	// Subscriptions asks the application for its programmatic subscriptions (GET /dapr/subscribe, ListTopicSubscriptions).
	// An application that answers anything but a list has none; an error means that it could not be reached, and it is
	// asked again.
	Subscriptions(ctx context.Context) ([]Spec, error)
}

// Rule sends the events that Match to Path.
type Rule struct {
	Match string // CEL over event.*; empty: default
	Path  string
}

// BulkSubscribe asks for batches.
type BulkSubscribe struct {
	Enabled            bool
	MaxMessagesCount   int
	MaxAwaitDurationMs int
}

// SpecKind says where a subscription comes from, in the words of the metadata API.
type SpecKind string

// The kinds of subscription.
const (
	Declarative  SpecKind = "DECLARATIVE"
	Programmatic SpecKind = "PROGRAMMATIC"
	Streaming    SpecKind = "STREAMING"
)

// Spec is a subscription as it was asked for.
type Spec struct {
	Name            string // resource name; empty when programmatic or streaming
	PubSub          string
	Topic           string
	Kind            SpecKind
	Rules           []Rule // in order; a rule without Match is the default and comes last
	DeadLetterTopic string
	Metadata        map[string]string // rawPayload, consumerID, startFrom, ...
	Bulk            BulkSubscribe
	Scopes          []string
}
