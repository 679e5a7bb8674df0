package grpcapi

import (
	"context"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/telemetry"
)

func (s *service) PublishEvent(ctx context.Context, in *rtv1.PublishEventRequest) (*emptypb.Empty, error) {
	p := pubsub.Publication{
		PubSub: in.GetPubsubName(), Topic: in.GetTopic(), Data: in.GetData(),
		ContentType: in.GetDataContentType(), Metadata: in.GetMetadata(),
	}
	p.TraceParent, p.TraceState = trace(ctx)
	return s.empty(s.PubSub.Publish(ctx, s.AppID, p))
}

func (s *service) BulkPublishEventAlpha1(ctx context.Context, in *rtv1.BulkPublishRequest) (*rtv1.BulkPublishResponse, error) {
	return s.BulkPublishEvent(ctx, in)
}

func (s *service) BulkPublishEvent(ctx context.Context, in *rtv1.BulkPublishRequest) (*rtv1.BulkPublishResponse, error) {
	p := pubsub.Publication{PubSub: in.GetPubsubName(), Topic: in.GetTopic(), Metadata: in.GetMetadata()}
	p.TraceParent, p.TraceState = trace(ctx)
	entries := make([]pubsub.BulkEntry, len(in.GetEntries()))
	for i, e := range in.GetEntries() {
		entries[i] = pubsub.BulkEntry{ID: e.GetEntryId(), Data: e.GetEvent(), ContentType: e.GetContentType(), Metadata: e.GetMetadata()}
	}
	if _, err := s.PubSub.BulkPublish(ctx, s.AppID, p, entries); err != nil {
		return nil, s.fail(err) // with an error, Dapr's clients do not look for failed entries
	}
	return &rtv1.BulkPublishResponse{}, nil
}

// trace is the caller's W3C trace context: grpc-trace-bin, or else traceparent. What is not valid is left out.
func trace(ctx context.Context) (parent, state string) {
	if v := metadata.ValueFromIncomingContext(ctx, "grpc-trace-bin"); len(v) > 0 {
		parent = telemetry.TraceParentFromBinary(v[0])
	} else if v := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(v) > 0 && telemetry.ValidTraceParent(v[0]) {
		parent = v[0]
	}
	if parent == "" {
		return "", ""
	}
	if v := metadata.ValueFromIncomingContext(ctx, "tracestate"); len(v) > 0 {
		state = v[0]
	}
	return parent, state
}
