package grpcapi

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/invoke"
)

// InvokeService calls a method of an application (deprecated by Dapr in favour of proxying, and still used by SDKs).
func (s *service) InvokeService(ctx context.Context, in *rtv1.InvokeServiceRequest) (*commonv1.InvokeResponse, error) {
	if s.Invoke == nil {
		return nil, s.fail(fault.InvokeNotReady())
	}
	got, err := s.Invoke.Invoke(ctx, in.GetId(), invokeRequest(ctx, in.GetMessage()))
	if err != nil {
		return nil, s.fail(err)
	}
	defer func() { _ = got.Body.Close() }() // it was read to its end, or the call has failed
	body, err := io.ReadAll(io.LimitReader(got.Body, s.MaxBodySize+1))
	switch {
	case err != nil:
		return nil, s.fail(fault.InvokeFailed(in.GetId(), err))
	case int64(len(body)) > s.MaxBodySize:
		return nil, s.fail(fault.BodyTooLarge(s.MaxBodySize))
	}
	if err := grpc.SetHeader(ctx, answerHeader(got)); err != nil {
		return nil, s.fail(err)
	}
	if e := statusFault(got.Status, string(body)); e != nil {
		return nil, s.fail(e)
	}
	return &commonv1.InvokeResponse{ContentType: http.Header(got.Header).Get("Content-Type"), Data: &anypb.Any{Value: body}}, nil
}

func invokeRequest(ctx context.Context, m *commonv1.InvokeRequest) invoke.Request {
	r := invoke.Request{
		Verb: http.MethodPost, Path: strings.TrimPrefix(m.GetMethod(), "/"), Query: m.GetHttpExtension().GetQuerystring(),
		Header: map[string][]string{}, Body: bytes.NewReader(m.GetData().GetValue()), Length: int64(len(m.GetData().GetValue())),
	}
	if v := m.GetHttpExtension().GetVerb(); v != commonv1.HTTPExtension_NONE {
		r.Verb = v.String()
	}
	if path, query, ok := strings.Cut(r.Path, "?"); ok && r.Query == "" {
		r.Path, r.Query = path, query
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for name, values := range md {
		if !strings.HasPrefix(name, ":") && !strings.HasPrefix(name, "grpc-") && name != "content-type" && name != "te" {
			r.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if ct := m.GetContentType(); ct != "" {
		r.Header["Content-Type"] = []string{ct}
	}
	return r
}

// answerHeader passes the answer's headers on, and its HTTP status as dapr-http-status. Values that gRPC metadata cannot
// carry are left out.
func answerHeader(got *invoke.Response) metadata.MD {
	md := metadata.MD{"dapr-http-status": {strconv.Itoa(got.Status)}}
	for name, values := range got.Header {
		switch name = strings.ToLower(name); name {
		case "connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade":
			continue
		case "content-type":
			name = "dapr-content-type"
		}
		for _, v := range values {
			if printable(v) && !strings.HasPrefix(name, "grpc-") {
				md[name] = append(md[name], v)
			}
		}
	}
	return md
}

func printable(v string) bool {
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}

// statusFault makes an error of an HTTP status as Dapr does; nil for 2xx.
func statusFault(status int, body string) *fault.Error {
	if status >= 200 && status < 300 {
		return nil
	}
	const longest = 63
	if len(body) > longest {
		body = strings.ToValidUTF8(body[:longest], "")
	}
	return &fault.Error{
		Category: fault.ServiceInvocation, Reason: http.StatusText(status), HTTP: status, GRPC: codeOf(status),
		Message:  http.StatusText(status),
		Metadata: map[string]string{"http.code": strconv.Itoa(status), "http.error_message": body},
	}
}

func codeOf(status int) fault.Code {
	switch status {
	case http.StatusRequestTimeout:
		return fault.Canceled
	case http.StatusBadRequest:
		return fault.Internal
	case http.StatusGatewayTimeout:
		return fault.DeadlineExceeded
	case http.StatusNotFound:
		return fault.NotFound
	case http.StatusConflict:
		return fault.AlreadyExists
	case http.StatusForbidden:
		return fault.PermissionDenied
	case http.StatusUnauthorized:
		return fault.Unauthenticated
	case http.StatusTooManyRequests:
		return fault.ResourceExhausted
	case http.StatusNotImplemented:
		return fault.Unimplemented
	case http.StatusServiceUnavailable:
		return fault.Unavailable
	}
	return fault.Unknown
}
