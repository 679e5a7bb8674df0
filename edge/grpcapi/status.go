package grpcapi

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/edged-io/edged/edge/fault"
)

// fail makes the gRPC status of an error and counts it.
func (s *service) fail(err error) error { return s.Options.fail(err) }

func (o *Options) fail(err error) error {
	e := fault.From(err).ForGRPC()
	if o.OnError != nil && e.ErrorCode != "" {
		o.OnError(e.ErrorCode, string(e.Category))
	}
	return statusOf(e)
}

// statusOf returns the gRPC form of e: with a reason, the google.rpc details come in Dapr's order.
func statusOf(e *fault.Error) error {
	st := &spb.Status{Code: int32(e.GRPC), Message: e.Message}
	if e.Reason != "" {
		for _, detail := range details(e) {
			if packed, err := anypb.New(detail); err == nil { // these messages always encode, unless a text is not UTF-8
				st.Details = append(st.Details, packed)
			}
		}
	}
	return status.ErrorProto(st)
}

func details(e *fault.Error) []proto.Message {
	var out []proto.Message
	if len(e.Fields) > 0 {
		bad := &errdetails.BadRequest{}
		for _, f := range e.Fields {
			bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f.Field, Description: f.Description})
		}
		out = append(out, bad)
	}
	if len(e.Help) > 0 {
		help := &errdetails.Help{}
		for _, l := range e.Help {
			help.Links = append(help.Links, &errdetails.Help_Link{Description: l.Description, Url: l.URL})
		}
		out = append(out, help)
	}
	if r := e.Resource; r != nil {
		out = append(out, &errdetails.ResourceInfo{
			ResourceType: r.Type, ResourceName: r.Name, Owner: r.Owner, Description: r.Description,
		})
	}
	domain := e.Domain
	if domain == "" {
		domain = fault.DefaultDomain
	}
	return append(out, &errdetails.ErrorInfo{Domain: domain, Reason: e.Reason, Metadata: e.Metadata})
}
