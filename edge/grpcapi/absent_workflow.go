package grpcapi

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/fault"
)

func (s *service) StartWorkflowAlpha1(context.Context, *rtv1.StartWorkflowRequest) (*rtv1.StartWorkflowResponse, error) {
	return refuse[rtv1.StartWorkflowResponse](s, fault.ActorNoPlacement())
}

func (s *service) GetWorkflowAlpha1(context.Context, *rtv1.GetWorkflowRequest) (*rtv1.GetWorkflowResponse, error) {
	return refuse[rtv1.GetWorkflowResponse](s, fault.ActorNoPlacement())
}

func (s *service) PurgeWorkflowAlpha1(context.Context, *rtv1.PurgeWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) TerminateWorkflowAlpha1(context.Context, *rtv1.TerminateWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) PauseWorkflowAlpha1(context.Context, *rtv1.PauseWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) ResumeWorkflowAlpha1(context.Context, *rtv1.ResumeWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) RaiseEventWorkflowAlpha1(context.Context, *rtv1.RaiseEventWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) StartWorkflowBeta1(context.Context, *rtv1.StartWorkflowRequest) (*rtv1.StartWorkflowResponse, error) {
	return refuse[rtv1.StartWorkflowResponse](s, fault.ActorNoPlacement())
}

func (s *service) GetWorkflowBeta1(context.Context, *rtv1.GetWorkflowRequest) (*rtv1.GetWorkflowResponse, error) {
	return refuse[rtv1.GetWorkflowResponse](s, fault.ActorNoPlacement())
}

func (s *service) PurgeWorkflowBeta1(context.Context, *rtv1.PurgeWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) TerminateWorkflowBeta1(context.Context, *rtv1.TerminateWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) PauseWorkflowBeta1(context.Context, *rtv1.PauseWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) ResumeWorkflowBeta1(context.Context, *rtv1.ResumeWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}

func (s *service) RaiseEventWorkflowBeta1(context.Context, *rtv1.RaiseEventWorkflowRequest) (*emptypb.Empty, error) {
	return refuse[emptypb.Empty](s, fault.ActorNoPlacement())
}
