package pluggable

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/state"
)

// category is how Dapr counts the errors that pluggable components decide.
const category fault.Category = "pluggable-component"

// translate makes an API error of an error that the component wants to reach the application as it is, and an ETag error
// of one that says so; any other stays what it is.
func translate(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok || len(s.Details()) != 1 {
		return err
	}
	switch d := s.Details()[0].(type) {
	case *errdetails.ErrorInfo:
		return chosen(s, d, err)
	case *errdetails.BadRequest:
		return etagError(s, d, err)
	}
	return err
}

// chosen reads an error that a component made with Dapr's error kit: its HTTP status and code travel as metadata.
func chosen(s *status.Status, d *errdetails.ErrorInfo, err error) error {
	m := d.GetMetadata()
	code, bad := strconv.Atoi(m["http_code"])
	if m["kit_error"] != "true" || bad != nil || code < 100 || code > 999 {
		return err
	}
	return &fault.Error{
		ErrorCode: m["tag"], Category: category, HTTP: code, GRPC: fault.Code(s.Code()), Message: s.Message(),
		Reason: d.GetReason(), Domain: d.GetDomain(), Cause: err,
	}
}

// etagError reads a violation of the field etag: FailedPrecondition is a mismatch, InvalidArgument an ETag that cannot be.
func etagError(s *status.Status, d *errdetails.BadRequest, err error) error {
	v := d.GetFieldViolations()
	if len(v) != 1 || v[0].GetField() != "etag" {
		return err
	}
	said := errors.New(v[0].GetDescription())
	switch s.Code() {
	case codes.FailedPrecondition:
		return fmt.Errorf("%w: %w", state.ErrETagMismatch, said)
	case codes.InvalidArgument:
		return fmt.Errorf("%w: %w", state.ErrETagInvalid, said)
	}
	return err
}
