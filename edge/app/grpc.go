package app

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/edged-io/edged/edge/pubsub"
)

// grpcWire speaks Dapr's AppCallback services to the application.
type grpcWire struct {
	c        *Channel
	conn     *grpc.ClientConn
	callback runtimev1.AppCallbackClient
	alpha    runtimev1.AppCallbackAlphaClient
	health   runtimev1.AppCallbackHealthCheckClient
	oldBulk  atomic.Bool // the application knows only OnBulkTopicEventAlpha1
}

func newGRPCWire(c *Channel) (*grpcWire, error) {
	creds := insecure.NewCredentials()
	if c.cfg.Protocol == GRPCS {
		creds = credentials.NewTLS(tlsConfig())
	}
	dialer := &net.Dialer{KeepAlive: -1}
	retry := backoff.DefaultConfig // waits up to two minutes; the application is on this machine
	retry.BaseDelay, retry.MaxDelay = 100*time.Millisecond, 2*time.Second
	conn, err := grpc.NewClient("passthrough:///"+c.host(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, c.network, c.address)
		}),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: retry, MinConnectTimeout: time.Second}),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("edged"),
		grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(8<<10),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(c.cfg.MaxBodySize)),
	)
	if err != nil {
		return nil, fmt.Errorf("create gRPC client: %w", err)
	}
	return &grpcWire{
		c: c, conn: conn,
		callback: runtimev1.NewAppCallbackClient(conn),
		alpha:    runtimev1.NewAppCallbackAlphaClient(conn),
		health:   runtimev1.NewAppCallbackHealthCheckClient(conn),
	}, nil
}

func (g *grpcWire) deliver(ctx context.Context, d *pubsub.Delivery) (pubsub.Verdict, error) {
	pairs, trace := metadataPairs(d.Metadata, d.PubSub)
	trace = trace.orEvent(d)
	event, err := topicEvent(d, trace)
	if err != nil {
		g.c.log.Error("pub/sub event cannot be sent to the application", "topic", d.Topic, "error", err)
		return pubsub.Nak, nil
	}
	var to peer.Peer
	answer, err := g.callback.OnTopicEvent(g.outgoing(ctx, pairs, trace), event, grpc.Peer(&to))
	switch {
	case status.Code(err) == codes.Unimplemented:
		g.c.log.Warn("non-retriable error returned from app while processing pub/sub event", "id", event.GetId(), "topic", d.Topic, "error", err)
		return pubsub.Drop, nil
	case err != nil:
		return pubsub.Nak, g.unanswered(ctx, d.Topic, d.Path, err, to)
	}
	return g.verdict(answer.GetStatus(), "id", event.GetId(), d.Topic), nil
}

// unanswered returns the error of a delivery that failed, or nil if the application may have seen it.
func (g *grpcWire) unanswered(ctx context.Context, topic, route string, err error, to peer.Peer) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("deliver event of topic %s: %w: %w", topic, ctx.Err(), err)
	case to.Addr != nil: // the call was put on a connection
		g.c.log.Warn("error returned from app while processing pub/sub event", "topic", topic, "path", route, "error", err)
		return nil
	}
	return fmt.Errorf("deliver event of topic %s: %w: %w", topic, ErrUnreachable, err)
}

func (g *grpcWire) verdict(s runtimev1.TopicEventResponse_TopicEventResponseStatus, key, id, topic string) pubsub.Verdict {
	switch s {
	case runtimev1.TopicEventResponse_SUCCESS:
		return pubsub.Ack
	case runtimev1.TopicEventResponse_RETRY:
		g.c.log.Debug("RETRY status returned from app while processing pub/sub event", key, id, "topic", topic)
	case runtimev1.TopicEventResponse_DROP:
		g.c.log.Warn("DROP status returned from app while processing pub/sub event", key, id, "topic", topic)
		return pubsub.Drop
	default:
		g.c.log.Warn("unknown status returned from app while processing pub/sub event", key, id, "topic", topic, "status", int32(s))
	}
	return pubsub.Nak
}

func (g *grpcWire) deliverBulk(ctx context.Context, d *pubsub.BulkDelivery, verdicts []pubsub.Verdict) error {
	pairs, trace := metadataPairs(d.Metadata, d.PubSub)
	batch, index := g.topicBatch(d)
	if len(index) == 0 {
		return nil
	}
	var to peer.Peer
	answer, err := g.callBulk(g.outgoing(ctx, pairs, trace), batch, &to)
	switch {
	case status.Code(err) == codes.Unimplemented:
		g.c.log.Warn("non-retriable error returned from app while processing bulk pub/sub event", "topic", d.Topic, "error", err)
		for _, i := range index {
			verdicts[i] = pubsub.Drop
		}
		return nil
	case err != nil:
		return g.unanswered(ctx, d.Topic, d.Path, err, to)
	}
	for _, s := range answer.GetStatuses() {
		i, ok := index[s.GetEntryId()]
		if !ok {
			g.c.log.Warn("Invalid entry id received from app while processing pub/sub event", "entryId", s.GetEntryId())
			continue
		}
		verdicts[i] = g.verdict(s.GetStatus(), "entryId", s.GetEntryId(), d.Topic)
	}
	return nil
}

// callBulk falls back to the service's first version, and stays with it while the application answers that.
func (g *grpcWire) callBulk(ctx context.Context, batch *runtimev1.TopicEventBulkRequest, to *peer.Peer) (*runtimev1.TopicEventBulkResponse, error) {
	if !g.oldBulk.Load() {
		answer, err := g.callback.OnBulkTopicEvent(ctx, batch, grpc.Peer(to))
		if status.Code(err) != codes.Unimplemented {
			return answer, err
		}
	}
	answer, err := g.alpha.OnBulkTopicEventAlpha1(ctx, batch, grpc.Peer(to)) //nolint:staticcheck // older SDKs have only this one
	g.oldBulk.Store(err == nil)
	return answer, err
}

func (g *grpcWire) subscriptions(ctx context.Context) ([]pubsub.Spec, error) {
	var to peer.Peer
	answer, err := g.callback.ListTopicSubscriptions(g.outgoing(ctx, nil, traceContext{}), &emptypb.Empty{}, grpc.Peer(&to))
	switch {
	case status.Code(err) == codes.Unimplemented:
		g.c.log.Info("pubsub subscriptions: gRPC app does not implement ListTopicSubscriptions")
		return nil, nil
	case err != nil && ctx.Err() == nil && to.Addr != nil:
		return nil, &answerError{err, true}
	case err != nil:
		return nil, fmt.Errorf("list subscriptions of the application: %w: %w", ErrUnreachable, err)
	}
	specs := make([]pubsub.Spec, 0, len(answer.GetSubscriptions()))
	for _, s := range answer.GetSubscriptions() {
		bulk := s.GetBulkSubscribe()
		spec := pubsub.Spec{
			PubSub: s.GetPubsubName(), Topic: s.GetTopic(), Kind: pubsub.Programmatic,
			DeadLetterTopic: s.GetDeadLetterTopic(), Metadata: s.GetMetadata(), Bulk: pubsub.BulkSubscribe{
				Enabled: bulk.GetEnabled(), MaxMessagesCount: int(bulk.GetMaxMessagesCount()),
				MaxAwaitDurationMs: int(bulk.GetMaxAwaitDurationMs()),
			},
		}
		for _, r := range s.GetRoutes().GetRules() {
			spec.Rules = append(spec.Rules, pubsub.Rule{Match: strings.TrimSpace(r.GetMatch()), Path: r.GetPath()})
		}
		if route := s.GetRoutes().GetDefault(); route != "" || len(spec.Rules) == 0 { // without routes, the path is empty
			spec.Rules = append(spec.Rules, pubsub.Rule{Path: route})
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// hosting is not asked for: a gRPC application registers its actors over the stream that it opens to edged.
func (g *grpcWire) hosting(context.Context) (Hosting, error) { return Hosting{}, nil }

func (g *grpcWire) probe(ctx context.Context) error {
	if _, err := g.health.HealthCheck(ctx, &emptypb.Empty{}); err != nil {
		return fmt.Errorf("probe health: %w", err)
	}
	return nil
}

func (g *grpcWire) close() error { return g.conn.Close() }

// outgoing returns ctx with the request metadata of a call.
func (g *grpcWire) outgoing(ctx context.Context, pairs []string, trace traceContext) context.Context {
	if trace.parent == "" {
		trace.parent = noParent
	}
	trace.each(func(name, value string) {
		if validPair(name, value) {
			pairs = append(pairs, name, value)
		}
	})
	if bin := traceBin(trace.parent); bin != "" {
		pairs = append(pairs, "grpc-trace-bin", bin)
	}
	if g.c.cfg.Token != "" {
		pairs = append(pairs, tokenHeader, g.c.cfg.Token)
	}
	if len(pairs) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// metadataPairs returns an event's metadata as gRPC metadata, without what gRPC cannot carry or sets itself, and the
// trace context among it apart.
func metadataPairs(md map[string]string, pubsubName string) (pairs []string, trace traceContext) {
	pairs = make([]string, 0, 2*len(md)+10)
	for k, v := range md {
		name := strings.ToLower(k)
		if trace.take(name, v) || isHopField(name) || strings.HasPrefix(name, "grpc-") || !validPair(name, v) {
			continue
		}
		pairs = append(pairs, name, v)
	}
	return append(pairs, pubsubHeader, pubsubName), trace
}

// validPair reports whether gRPC can carry a metadata pair: it refuses a call with one that it cannot.
func validPair(name, value string) bool {
	if name == "" || name[0] == ':' {
		return false
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.') {
			return false
		}
	}
	if strings.HasSuffix(name, "-bin") {
		return true
	}
	for i := 0; i < len(value); i++ {
		if value[i] < ' ' || value[i] > '~' {
			return false
		}
	}
	return true
}

// traceBin encodes a traceparent in the binary form of OpenCensus, which older gRPC clients read: version 0, then the
// fields 0 (trace id), 1 (span id) and 2 (flags). It is empty for what is no traceparent.
func traceBin(parent string) string {
	if len(parent) != 55 || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return ""
	}
	bin := make([]byte, 29)
	if _, err := hex.Decode(bin[2:18], []byte(parent[3:35])); err != nil {
		return ""
	}
	if _, err := hex.Decode(bin[19:27], []byte(parent[36:52])); err != nil {
		return ""
	}
	if _, err := hex.Decode(bin[28:], []byte(parent[53:])); err != nil {
		return ""
	}
	bin[18], bin[27] = 1, 2
	return string(bin)
}
