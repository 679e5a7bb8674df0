package grpcapi

import (
	"context"
	"strings"

	grpcmd "google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/metadata"
)

func (s *service) GetMetadata(context.Context, *rtv1.GetMetadataRequest) (*rtv1.GetMetadataResponse, error) {
	r := s.Metadata.Get()
	out := &rtv1.GetMetadataResponse{
		Id: r.ID, RuntimeVersion: r.RuntimeVersion, EnabledFeatures: r.Features, ExtendedMetadata: r.Extended,
		ActorRuntime:            actorRuntime(r.Actors),
		AppConnectionProperties: appConnection(r.App),
		Workflows:               &rtv1.MetadataWorkflows{ConnectedWorkers: int32(r.Workers)},
	}
	out.ActiveActorsCount = out.ActorRuntime.ActiveActors //nolint:staticcheck // deprecated, but older clients read it
	for _, c := range r.Components {
		out.RegisteredComponents = append(out.RegisteredComponents, &rtv1.RegisteredComponents{
			Name: c.Name, Type: c.Type, Version: c.Version, Capabilities: c.Capabilities,
		})
	}
	for _, sub := range r.Subscriptions {
		out.Subscriptions = append(out.Subscriptions, subscription(sub))
	}
	for _, name := range r.HTTPEndpoints {
		out.HttpEndpoints = append(out.HttpEndpoints, &rtv1.MetadataHTTPEndpoint{Name: name})
	}
	for _, name := range r.MCPServers {
		out.McpServers = append(out.McpServers, &rtv1.MetadataMCPServer{Name: name})
	}
	for _, name := range r.WorkflowPolicy {
		out.WorkflowAccessPolicies = append(out.WorkflowAccessPolicies, &rtv1.MetadataWorkflowAccessPolicy{Name: name})
	}
	for _, name := range r.Resiliencies {
		out.Resiliencies = append(out.Resiliencies, &rtv1.MetadataResiliency{Name: name})
	}
	if len(r.Scheduler) > 0 {
		out.Scheduler = &rtv1.MetadataScheduler{ConnectedAddresses: r.Scheduler}
	}
	return out, nil
}

func actorRuntime(a metadata.Actors) *rtv1.ActorRuntime {
	out := &rtv1.ActorRuntime{HostReady: a.HostReady, Placement: a.Placement}
	out.RuntimeStatus = rtv1.ActorRuntime_ActorRuntimeStatus(rtv1.ActorRuntime_ActorRuntimeStatus_value[a.Status])
	for _, t := range a.Active {
		out.ActiveActors = append(out.ActiveActors, &rtv1.ActiveActorsCount{Type: t.Type, Count: int32(t.Count)})
	}
	return out
}

func appConnection(a metadata.App) *rtv1.AppConnectionProperties {
	out := &rtv1.AppConnectionProperties{
		Port: int32(a.Port), Protocol: a.Protocol, ChannelAddress: a.Address, MaxConcurrency: int32(a.MaxConcurrency),
	}
	if h := a.Health; h != nil {
		out.Health = &rtv1.AppConnectionHealthProperties{
			HealthCheckPath: h.Path, HealthProbeInterval: h.Interval, HealthProbeTimeout: h.Timeout, HealthThreshold: int32(h.Threshold),
		}
	}
	return out
}

func subscription(sub metadata.Subscription) *rtv1.PubsubSubscription {
	out := &rtv1.PubsubSubscription{
		PubsubName: sub.PubSub, Topic: sub.Topic, Metadata: sub.Metadata, DeadLetterTopic: sub.DeadLetterTopic,
		Rules: &rtv1.PubsubSubscriptionRules{},
		Type:  rtv1.PubsubSubscriptionType(rtv1.PubsubSubscriptionType_value[sub.Kind]),
	}
	for _, r := range sub.Rules {
		out.Rules.Rules = append(out.Rules.Rules, &rtv1.PubsubSubscriptionRule{Match: r.Match, Path: r.Path})
	}
	return out
}

func (s *service) SetMetadata(_ context.Context, in *rtv1.SetMetadataRequest) (*emptypb.Empty, error) {
	s.Metadata.Set(in.GetKey(), in.GetValue())
	return &emptypb.Empty{}, nil
}

// Shutdown asks the process to stop. The answer goes out before it does: stopping waits for calls under way.
func (s *service) Shutdown(ctx context.Context, _ *rtv1.ShutdownRequest) (*emptypb.Empty, error) {
	stop := s.Options.Shutdown
	for _, v := range grpcmd.ValueFromIncomingContext(ctx, "dapr-force-shutdown") {
		if strings.EqualFold(v, "true") {
			stop = s.ForceShutdown
		}
	}
	if stop == nil {
		return nil, s.fail(fault.ShutdownRefused(s.AppID))
	}
	stop()
	return &emptypb.Empty{}, nil
}
