package pluggable

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	proto "github.com/dapr/dapr/pkg/proto/components/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/pubsub"
)

// PubSub is a message broker behind a process of its own. What it promises of durability and order is the component's
// matter. It is safe for concurrent use.
type PubSub struct {
	*link
	name string
}

var _ pubsub.Broker = (*PubSub)(nil)

// NewPubSub attaches the pub/sub component behind a socket. A process that is away is no error.
func NewPubSub(ctx context.Context, spec component.Spec, socket string) (*PubSub, error) {
	l, err := open(ctx, spec, socket, func(ctx context.Context, conn *grpc.ClientConn) ([]string, error) {
		client := proto.NewPubSubClient(conn)
		if _, err := client.Init(ctx, &proto.PubSubInitRequest{Metadata: properties(spec)}); err != nil {
			return nil, kind(err, "pub/sub component")
		}
		f, err := client.Features(ctx, &proto.FeaturesRequest{})
		return f.GetFeatures(), err
	})
	if err != nil {
		return nil, err
	}
	return &PubSub{link: l, name: spec.Name}, nil
}

// Publish hands events to the component: one at a time, or in bulk where they are several. Unlike a durable topic, a
// component may accept some of them: the error is then a *pubsub.PartialError.
func (p *PubSub) Publish(ctx context.Context, events []pubsub.Event) error {
	conn, err := p.use()
	if err != nil {
		return err
	}
	client := proto.NewPubSubClient(conn)
	if sameTopic(events) {
		err := p.publishBulk(ctx, client, events)
		if status.Code(err) != codes.Unimplemented {
			return translate(err)
		}
	}
	partial := &pubsub.PartialError{Failed: map[int]error{}}
	for i := range events {
		e := &events[i]
		_, err := client.Publish(ctx, &proto.PublishRequest{
			Data: e.Data, PubsubName: p.name, Topic: e.Topic, Metadata: e.Metadata, ContentType: e.ContentType,
		})
		if err != nil {
			partial.Failed[i] = translate(err)
		}
	}
	switch len(partial.Failed) {
	case 0:
		return nil
	case len(events):
		return partial.Failed[0]
	}
	return partial
}

// sameTopic reports whether events can be one bulk call.
func sameTopic(events []pubsub.Event) bool {
	for i := range events {
		if events[i].Topic != events[0].Topic {
			return false
		}
	}
	return len(events) > 1
}

func (p *PubSub) publishBulk(ctx context.Context, client proto.PubSubClient, events []pubsub.Event) error {
	r := &proto.BulkPublishRequest{PubsubName: p.name, Topic: events[0].Topic, Entries: make([]*proto.BulkMessageEntry, len(events))}
	for i := range events {
		e := &events[i]
		r.Entries[i] = &proto.BulkMessageEntry{EntryId: strconv.Itoa(i), Event: e.Data, ContentType: e.ContentType, Metadata: e.Metadata}
	}
	answer, err := client.BulkPublish(ctx, r)
	if err != nil {
		return err
	}
	failed := map[int]error{}
	for _, f := range answer.GetFailedEntries() {
		i, err := strconv.Atoi(f.GetEntryId())
		if err != nil || i < 0 || i >= len(events) {
			return fmt.Errorf("the component reports the failure of entry %q, which there is not: %s", f.GetEntryId(), f.GetError())
		}
		failed[i] = errors.New(f.GetError())
	}
	if len(failed) > 0 {
		return &pubsub.PartialError{Failed: failed}
	}
	return nil
}

// Subscribe pulls a topic from the component until Close, over a stream that is opened again whenever it ends. Handlers
// see one event, or one batch, after the other. An ack, or a drop, is told to the component after the handler returned;
// of a nak the component is told too, and it decides when the event comes again. While the receiver cannot be reached
// nothing is acked and no more is taken.
func (p *PubSub) Subscribe(_ context.Context, c pubsub.Consumer, h pubsub.Handler) (pubsub.Subscription, error) {
	if c.MaxBatch < 1 {
		c.MaxBatch = 1
	}
	s := &puller{link: p.link, consumer: c, handle: h, done: make(chan struct{}), stop: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run(ctx)
	return s, nil
}
