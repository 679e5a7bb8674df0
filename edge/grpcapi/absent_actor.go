package grpcapi

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/fault"
)

// While the actor runtime is switched off, every call of the actor and workflow APIs is refused as daprd does then.

// reservedActors is how the names of the workflow engine's actor types begin.
const reservedActors = "dapr.internal."

// refuse answers a call with an error.
func refuse[T any](s *service, e *fault.Error) (*T, error) { return nil, s.fail(e) }

func actorsOff(actorType string) *fault.Error {
	if strings.HasPrefix(actorType, reservedActors) {
		return fault.ActorTypeReserved(actorType)
	}
	return fault.ActorNoPlacement()
}

func (s *service) RegisterActorTimer(_ context.Context, in *rtv1.RegisterActorTimerRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, actorsOff(in.GetActorType()))
}

func (s *service) UnregisterActorTimer(_ context.Context, in *rtv1.UnregisterActorTimerRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, actorsOff(in.GetActorType()))
}

func (s *service) RegisterActorReminder(_ context.Context, in *rtv1.RegisterActorReminderRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, actorsOff(in.GetActorType()))
}

func (s *service) UnregisterActorReminder(_ context.Context, in *rtv1.UnregisterActorReminderRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, actorsOff(in.GetActorType()))
}

func (s *service) UnregisterActorRemindersByType(_ context.Context, in *rtv1.UnregisterActorRemindersByTypeRequest) (*rtv1.UnregisterActorRemindersByTypeResponse, error) {
	return refuse[rtv1.UnregisterActorRemindersByTypeResponse](s, actorsOff(in.GetActorType()))
}

func (s *service) ListActorReminders(_ context.Context, in *rtv1.ListActorRemindersRequest) (*rtv1.ListActorRemindersResponse, error) {
	return refuse[rtv1.ListActorRemindersResponse](s, actorsOff(in.GetActorType()))
}

func (s *service) GetActorState(_ context.Context, in *rtv1.GetActorStateRequest) (*rtv1.GetActorStateResponse, error) {
	return refuse[rtv1.GetActorStateResponse](s, actorsOff(in.GetActorType()))
}

func (s *service) GetActorReminder(_ context.Context, in *rtv1.GetActorReminderRequest) (*rtv1.GetActorReminderResponse, error) {
	return refuse[rtv1.GetActorReminderResponse](s, actorsOff(in.GetActorType()))
}

func (s *service) ExecuteActorStateTransaction(_ context.Context, in *rtv1.ExecuteActorStateTransactionRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, actorsOff(in.GetActorType()))
}

func (s *service) InvokeActor(context.Context, *rtv1.InvokeActorRequest) (*rtv1.InvokeActorResponse, error) {
	return refuse[rtv1.InvokeActorResponse](s, fault.ActorNoPlacement())
}

// SubscribeActorEventsAlpha1 refuses the stream, in daprd's words.
func (s *service) SubscribeActorEventsAlpha1(rtv1.Dapr_SubscribeActorEventsAlpha1Server) error {
	return status.Error(codes.FailedPrecondition, "actor callback streaming requires a gRPC app channel")
}
