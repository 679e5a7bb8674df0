// Package fault holds the errors that cross the API: each has a stable code, an HTTP status and a gRPC code, and
// neither transport decides any of them. The codes and shapes are those of Dapr's API reference (error codes).
package fault

import (
	"context"
	"errors"
	"fmt"
)

// Code is a gRPC status code, numbered as in google.rpc.Code, so that domain packages need no gRPC import.
type Code uint32

// The gRPC codes that API errors use.
const (
	OK                 Code = 0
	Canceled           Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	DeadlineExceeded   Code = 4
	NotFound           Code = 5
	AlreadyExists      Code = 6
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	OutOfRange         Code = 11
	Unimplemented      Code = 12
	Internal           Code = 13
	Unavailable        Code = 14
	DataLoss           Code = 15
	Unauthenticated    Code = 16
)

// Error is an API error. A Reason makes both transports attach google.rpc details: ErrorInfo, and BadRequest, Help and
// ResourceInfo when set. Values are immutable once returned.
type Error struct {
	ErrorCode string            // HTTP body's errorCode, such as ERR_STATE_STORE_NOT_FOUND; also the error's name in metrics
	Category  Category          // building block, for metrics
	Reason    string            // google.rpc.ErrorInfo reason, such as DAPR_STATE_NOT_FOUND; empty: no details
	Domain    string            // google.rpc.ErrorInfo domain; empty: dapr.io
	HTTP      int               // HTTP status
	GRPC      Code              // gRPC status code
	Message   string            // what happened, and to what
	Metadata  map[string]string // google.rpc.ErrorInfo metadata
	Resource  *Resource         // google.rpc.ResourceInfo
	Fields    []FieldViolation  // google.rpc.BadRequest
	Help      []Link            // google.rpc.Help
	Cause     error             // for errors.Is and errors.As; not sent

	// OverGRPC is what gRPC clients get instead, where Dapr's two APIs say the same error differently; nil: the same.
	OverGRPC *Error
}

// DefaultDomain is the google.rpc.ErrorInfo domain of errors that do not name another.
const DefaultDomain = "dapr.io"

// Category says which building block an error belongs to, in the words of Dapr's dapr_error_code_total metric.
type Category string

// The categories of Dapr's error codes.
const (
	Actor             Category = "actor"
	Binding           Category = "binding"
	Common            Category = "common"
	Configuration     Category = "configuration"
	Conversation      Category = "conversation"
	Crypto            Category = "crypto"
	Health            Category = "health"
	Job               Category = "job"
	Lock              Category = "lock"
	PubSub            Category = "pubsub"
	Secret            Category = "secret"
	ServiceInvocation Category = "service-invocation"
	State             Category = "state"
	Workflow          Category = "workflow"
)

// Link points to documentation (google.rpc.Help.Link).
type Link struct {
	URL, Description string
}

// Resource names what an error is about (google.rpc.ResourceInfo).
type Resource struct {
	Type, Name, Owner, Description string
}

// FieldViolation says which field of a request was refused and why (google.rpc.BadRequest).
type FieldViolation struct {
	Field, Description string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Because returns a copy of e that wraps cause.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// ForGRPC returns the form of e that gRPC clients get.
func (e *Error) ForGRPC() *Error {
	if e.OverGRPC != nil {
		return e.OverGRPC
	}
	return e
}

// From returns the API error in err's chain, or a generic one that carries err's text: HTTP 500 with Dapr's errorCode
// ERROR, and gRPC Unknown, or Canceled and DeadlineExceeded if that is what err is.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	e = &Error{ErrorCode: "ERROR", Category: Common, HTTP: 500, GRPC: Unknown, Message: err.Error(), Cause: err}
	switch {
	case errors.Is(err, context.Canceled):
		e.GRPC = Canceled
	case errors.Is(err, context.DeadlineExceeded):
		e.GRPC = DeadlineExceeded
	}
	return e
}

// ErrStorageFull reports that a write was refused because the disk or a storage quota is full. Nothing of the write
// was kept. It is HTTP 507 and gRPC ResourceExhausted. Use errors.Is; wrap it with what was being written.
var ErrStorageFull = &Error{
	ErrorCode: "ERR_STORAGE_FULL", Category: Common, HTTP: 507, GRPC: ResourceExhausted,
	Message: "no space left on the device: the write was refused and nothing of it was kept; free space and retry",
}

// StorageFull returns an ErrStorageFull that says what could not be written.
func StorageFull(what string, cause error) *Error {
	e := *ErrStorageFull
	e.Message = fmt.Sprintf("%s: %s", what, ErrStorageFull.Message)
	e.Cause = errors.Join(ErrStorageFull, cause)
	return &e
}
