// Package invoke is the service invocation building block between the applications of one daemon: a call reaches the
// named application over its channel, once. It promises no retry, since a call may not be idempotent.
package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/edged-io/edged/edge/fault"
)

// Request is a call of a method of an application. Bodies are streamed.
type Request struct {
	Verb   string // HTTP method
	Path   string // below the application's root, without a leading slash, still escaped
	Query  string // without the question mark
	Header map[string][]string
	Body   io.Reader
	Length int64 // of the body; -1 if not known
}

// Response is the application's answer. The caller closes Body.
type Response struct {
	Status int
	Header map[string][]string
	Body   io.ReadCloser
}

// Channel reaches one application. It is safe for concurrent use.
type Channel interface {
	// Invoke sends the request and returns when the answer's header is there. An error means that there is no answer.
	Invoke(ctx context.Context, r Request) (*Response, error)
}

// ErrUnhealthy reports that the application's health probes fail, so that it is not called.
var ErrUnhealthy = errors.New("app is not in a healthy state")

// Service finds applications and calls them. It is safe for concurrent use.
type Service struct {
	find func(app string) (Channel, bool)
}

// NewService returns a Service over the applications that find knows. find answers false for one that this daemon does
// not serve, and a nil Channel for one that only calls.
func NewService(find func(app string) (Channel, bool)) *Service { return &Service{find: find} }

// Invoke calls a method of the target application. Errors are Dapr's (ERR_DIRECT_INVOKE).
func (s *Service) Invoke(ctx context.Context, target string, r Request) (*Response, error) {
	if target == "" {
		return nil, &fault.Error{
			ErrorCode: "ERR_DIRECT_INVOKE", HTTP: 404, GRPC: fault.NotFound,
			Message: "failed getting app id either from the URL path or the header dapr-app-id",
		}
	}
	if err := checkPath(r.Path); err != nil {
		return nil, failed(target, 400, fault.InvalidArgument, err)
	}
	channel, known := s.find(target)
	switch {
	case !known:
		return nil, failed(target, 500, fault.Internal, fmt.Errorf("this device serves no application %s", target))
	case channel == nil:
		return nil, failed(target, 500, fault.Internal, fmt.Errorf("application %s listens on no port", target))
	}
	resp, err := channel.Invoke(ctx, r)
	if err != nil {
		return nil, failed(target, 500, fault.Internal, err)
	}
	return resp, nil
}

// checkPath refuses paths that would leave the application's root, also once it is decoded, or break its request.
func checkPath(path string) error {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return fmt.Errorf("invalid method: %w", err)
	}
	for i := range len(decoded) {
		if decoded[i] < ' ' || decoded[i] == 0x7f {
			return errors.New("invalid method: the path has control characters")
		}
	}
	for segment := range strings.SplitSeq(decoded, "/") {
		if segment == ".." {
			return errors.New("invalid method: the path climbs with '..'")
		}
	}
	return nil
}

func failed(target string, http int, grpc fault.Code, err error) error {
	return &fault.Error{
		ErrorCode: "ERR_DIRECT_INVOKE", HTTP: http, GRPC: grpc, Cause: err,
		Message: fmt.Sprintf("failed to invoke, id: %s, err: %v", target, err),
	}
}
