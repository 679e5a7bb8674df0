package grpcapi

import (
	"context"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/fault"
)

// While the scheduler is switched off, every call of the jobs API is refused as daprd does then.

func (s *service) ScheduleJob(_ context.Context, in *rtv1.ScheduleJobRequest) (*rtv1.ScheduleJobResponse, error) {
	job := in.GetJob()
	e := fault.JobScheduleOff(s.AppID, s.Namespace)
	switch {
	case job == nil:
		e = fault.JobEmpty(s.AppID, s.Namespace)
	case job.GetName() == "":
		e = fault.JobNameEmpty(s.AppID, s.Namespace)
	case job.Schedule == nil && job.DueTime == nil:
		e = fault.JobScheduleEmpty(s.AppID, s.Namespace)
	}
	return refuse[rtv1.ScheduleJobResponse](s, e)
}

func (s *service) ScheduleJobAlpha1(ctx context.Context, in *rtv1.ScheduleJobRequest) (*rtv1.ScheduleJobResponse, error) {
	return s.ScheduleJob(ctx, in)
}

func (s *service) GetJob(_ context.Context, in *rtv1.GetJobRequest) (*rtv1.GetJobResponse, error) {
	return refuse[rtv1.GetJobResponse](s, s.named(in.GetName(), fault.JobGetOff(s.AppID, s.Namespace)))
}

func (s *service) GetJobAlpha1(ctx context.Context, in *rtv1.GetJobRequest) (*rtv1.GetJobResponse, error) {
	return s.GetJob(ctx, in)
}

func (s *service) DeleteJob(_ context.Context, in *rtv1.DeleteJobRequest) (*rtv1.DeleteJobResponse, error) {
	return refuse[rtv1.DeleteJobResponse](s, s.named(in.GetName(), fault.JobDeleteOff(s.AppID, s.Namespace)))
}

func (s *service) DeleteJobAlpha1(ctx context.Context, in *rtv1.DeleteJobRequest) (*rtv1.DeleteJobResponse, error) {
	return s.DeleteJob(ctx, in)
}

// named is off, unless the job has no name.
func (s *service) named(job string, off *fault.Error) *fault.Error {
	if job == "" {
		return fault.JobNameEmpty(s.AppID, s.Namespace)
	}
	return off
}

func (s *service) DeleteJobsByPrefix(context.Context, *rtv1.DeleteJobsByPrefixRequest) (*rtv1.DeleteJobsByPrefixResponse, error) {
	return refuse[rtv1.DeleteJobsByPrefixResponse](s, fault.JobDeleteOff(s.AppID, s.Namespace))
}

func (s *service) DeleteJobsByPrefixAlpha1(context.Context, *rtv1.DeleteJobsByPrefixRequestAlpha1) (*rtv1.DeleteJobsByPrefixResponseAlpha1, error) {
	return refuse[rtv1.DeleteJobsByPrefixResponseAlpha1](s, fault.JobDeleteOff(s.AppID, s.Namespace))
}

func (s *service) ListJobs(context.Context, *rtv1.ListJobsRequest) (*rtv1.ListJobsResponse, error) {
	return refuse[rtv1.ListJobsResponse](s, fault.JobListOff(s.AppID, s.Namespace))
}

func (s *service) ListJobsAlpha1(context.Context, *rtv1.ListJobsRequestAlpha1) (*rtv1.ListJobsResponseAlpha1, error) {
	return refuse[rtv1.ListJobsResponseAlpha1](s, fault.JobListOff(s.AppID, s.Namespace))
}
