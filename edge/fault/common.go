package fault

import (
	"errors"
	"net/http"
	"strconv"
)

// plain is an error without details on either transport.
func plain(code string, c Category, status int, grpc Code, message string) *Error {
	return &Error{ErrorCode: code, Category: c, HTTP: status, GRPC: grpc, Message: message}
}

// basic is an error without details over HTTP and with only its code as the ErrorInfo reason over gRPC.
func basic(code string, c Category, status int, grpc Code, message string, cause error) *Error {
	e := plain(code, c, status, grpc, message)
	e.Cause = cause
	over := *e
	over.Reason = code
	e.OverGRPC = &over
	return e
}

// componentFault wraps what a component said. A cause that is an API error with a code of its own keeps its HTTP
// status and, as with Dapr, reaches gRPC clients as it is; one without a code (an ETag error) only decides the status.
func componentFault(code string, c Category, prefix string, cause error) *Error {
	status, grpc, text := http.StatusInternalServerError, Internal, cause.Error()
	var own *Error
	if errors.As(cause, &own) {
		status, grpc = own.HTTP, own.GRPC
		if own.ErrorCode != "" {
			text = "api error: code = " + own.GRPC.String() + " desc = " + own.Message
		}
	}
	e := basic(code, c, status, grpc, prefix+text, cause)
	if own != nil && own.ErrorCode != "" {
		e.OverGRPC = own.ForGRPC()
	}
	return e
}

// MalformedRequest reports an HTTP body that is not what the operation takes.
func MalformedRequest(cause error) *Error {
	e := plain("ERR_MALFORMED_REQUEST", Common, http.StatusBadRequest, InvalidArgument,
		"failed deserializing HTTP body: "+cause.Error())
	e.Cause = cause
	return e
}

// MalformedSave reports a save request's HTTP body that is not a list of writes.
func MalformedSave(cause error) *Error {
	e := plain("ERR_MALFORMED_REQUEST", Common, http.StatusBadRequest, InvalidArgument, cause.Error())
	e.Cause = cause
	return e
}

// BadRequest reports a parameter or header that is wrong.
func BadRequest(problem string) *Error {
	return plain("ERR_BAD_REQUEST", Common, http.StatusBadRequest, InvalidArgument, "invalid request: "+problem)
}

// BodyRead reports that the request's body could not be read to its end.
func BodyRead(cause error) *Error {
	e := plain("ERR_BODY_READ", Common, http.StatusBadRequest, InvalidArgument, "failed to read request body: "+cause.Error())
	e.Cause = cause
	return e
}

// BodyTooLarge reports a request body over the limit: HTTP 413, gRPC ResourceExhausted. Nothing of it was used.
func BodyTooLarge(limit int64) *Error {
	return plain("ERR_BODY_READ", Common, http.StatusRequestEntityTooLarge, ResourceExhausted,
		"failed to read request body: stream too large: the limit is "+strconv.FormatInt(limit, 10)+" bytes (max-body-size)")
}

// APIUnimplemented reports a call that Dapr's protocol has and daprd does not implement either.
func APIUnimplemented() *Error {
	return plain("ERR_API_UNIMPLEMENTED", Common, http.StatusNotImplemented, Unimplemented, "this API is currently not implemented")
}

// ShutdownRefused reports that an application asked a daemon that serves the whole device to stop.
func ShutdownRefused(app string) *Error {
	return plain("ERR_SHUTDOWN_REFUSED", Common, http.StatusForbidden, PermissionDenied,
		"application "+app+" may not stop edged, which serves the whole device: its service manager does")
}

// HealthNotReady reports that not everything is up yet; targets names what is missing.
func HealthNotReady(targets string) *Error {
	return plain("ERR_HEALTH_NOT_READY", Health, http.StatusInternalServerError, Internal, "dapr is not ready: "+targets)
}

// HealthOutboundNotReady reports that the components are not up yet.
func HealthOutboundNotReady() *Error {
	return plain("ERR_OUTBOUND_HEALTH_NOT_READY", Health, http.StatusInternalServerError, Internal, "dapr outbound is not ready")
}

// HealthAppIDNotMatch reports a health question for another application.
func HealthAppIDNotMatch() *Error {
	return plain("ERR_HEALTH_APPID_NOT_MATCH", Health, http.StatusInternalServerError, Internal, "dapr app-id does not match")
}

// String names the code as grpc-go does, such as InvalidArgument.
func (c Code) String() string {
	switch c {
	case OK:
		return "OK"
	case Canceled:
		return "Canceled"
	case Unknown:
		return "Unknown"
	case InvalidArgument:
		return "InvalidArgument"
	case DeadlineExceeded:
		return "DeadlineExceeded"
	case NotFound:
		return "NotFound"
	case AlreadyExists:
		return "AlreadyExists"
	case PermissionDenied:
		return "PermissionDenied"
	case ResourceExhausted:
		return "ResourceExhausted"
	case FailedPrecondition:
		return "FailedPrecondition"
	case Aborted:
		return "Aborted"
	case OutOfRange:
		return "OutOfRange"
	case Unimplemented:
		return "Unimplemented"
	case Internal:
		return "Internal"
	case Unavailable:
		return "Unavailable"
	case DataLoss:
		return "DataLoss"
	case Unauthenticated:
		return "Unauthenticated"
	}
	return "Code(" + strconv.FormatUint(uint64(c), 10) + ")"
}
