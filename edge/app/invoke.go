package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	commonv1 "github.com/dapr/dapr/pkg/proto/common/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/edged-io/edged/edge/invoke"
)

// Invoke calls a method of the application, once. Over HTTP both bodies are streamed and redirects are the caller's to
// follow. Over gRPC the method is called by OnInvoke, and an error it returns becomes the status code's HTTP equivalent
// with the status as JSON. The call counts as under way until the answer's body is closed.
func (c *Channel) Invoke(ctx context.Context, r invoke.Request) (*invoke.Response, error) {
	if !c.healthy.Load() {
		return nil, invoke.ErrUnhealthy
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	resp, err := c.wire.invoke(ctx, r)
	if err != nil {
		c.leave()
		return nil, err
	}
	resp.Body = &leavingBody{ReadCloser: resp.Body, leave: sync.OnceFunc(c.leave)}
	return resp, nil
}

// leavingBody ends the call when it is closed.
type leavingBody struct {
	io.ReadCloser
	leave func()
}

// Close closes the body and ends the call.
func (b *leavingBody) Close() error {
	defer b.leave()
	return b.ReadCloser.Close()
}

func (h *httpWire) invoke(ctx context.Context, r invoke.Request) (*invoke.Response, error) {
	target := "/" + strings.TrimPrefix(r.Path, "/")
	if r.Query != "" {
		target += "?" + r.Query
	}
	u, err := url.Parse(h.scheme + "://" + h.c.host() + target)
	if err != nil {
		return nil, fmt.Errorf("invoke method: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, r.Verb, u.String(), r.Body)
	if err != nil {
		return nil, fmt.Errorf("invoke method: %w", err)
	}
	req.ContentLength = r.Length
	req.Header = endToEnd(r.Header)
	if h.c.cfg.Token != "" {
		req.Header.Set(tokenHeader, h.c.cfg.Token)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "edged")
	}
	resp, err := h.streams.RoundTrip(req) //nolint:bodyclose // the caller closes it
	if err != nil {
		return nil, fmt.Errorf("invoke method: %w", err)
	}
	return &invoke.Response{Status: resp.StatusCode, Header: endToEnd(resp.Header), Body: resp.Body}, nil
}

// endToEnd returns the header without the fields that belong to one connection (RFC 9110, 7.6.1).
func endToEnd(header map[string][]string) http.Header {
	nominated := make(map[string]bool)
	for name, values := range header {
		if strings.EqualFold(name, "Connection") {
			for _, v := range values {
				for token := range strings.SplitSeq(v, ",") {
					nominated[strings.ToLower(strings.TrimSpace(token))] = true
				}
			}
		}
	}
	out := make(http.Header, len(header))
	for name, values := range header {
		switch lower := strings.ToLower(name); lower {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "te",
			"trailer", "proxy-authorization", "proxy-authenticate", "content-length", "host", "destination-app-id":
		default:
			if !nominated[lower] {
				out[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
			}
		}
	}
	return out
}

func (g *grpcWire) invoke(ctx context.Context, r invoke.Request) (*invoke.Response, error) {
	req, err := g.invokeRequest(r)
	if err != nil {
		return nil, fmt.Errorf("invoke method: %w", err)
	}
	pairs, trace := invokePairs(endToEnd(r.Header))
	var head, trailer metadata.MD
	var to peer.Peer
	answer, err := g.callback.OnInvoke(g.outgoing(ctx, pairs, trace), req, grpc.Header(&head), grpc.Trailer(&trailer), grpc.Peer(&to))
	if err != nil && to.Addr == nil {
		return nil, fmt.Errorf("invoke method: %w: %w", ErrUnreachable, err)
	}
	header := make(http.Header, len(head)+1)
	for _, md := range []metadata.MD{head, trailer} {
		for name, values := range md {
			if name != "content-type" && !strings.HasSuffix(name, "-bin") {
				header[http.CanonicalHeaderKey(name)] = values
			}
		}
	}
	code, body, contentType := http.StatusOK, answer.GetData().GetValue(), answer.GetContentType()
	if err != nil {
		code, contentType = httpStatus(status.Code(err)), jsonType
		if body, err = protojson.Marshal(status.Convert(err).Proto()); err != nil {
			return nil, fmt.Errorf("invoke method: encode status: %w", err)
		}
	}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	return &invoke.Response{Status: code, Header: header, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

func (g *grpcWire) invokeRequest(r invoke.Request) (*commonv1.InvokeRequest, error) {
	verb, ok := commonv1.HTTPExtension_Verb_value[strings.ToUpper(r.Verb)]
	if !ok {
		return nil, fmt.Errorf("verb %q is none that Dapr has", r.Verb)
	}
	method, err := url.PathUnescape(strings.TrimPrefix(r.Path, "/"))
	if err != nil {
		return nil, err
	}
	data, err := readAtMost(r.Body, g.c.cfg.MaxBodySize)
	if err != nil {
		return nil, err
	}
	return &commonv1.InvokeRequest{
		Method: method, Data: &anypb.Any{Value: data}, ContentType: http.Header(r.Header).Get("Content-Type"),
		HttpExtension: &commonv1.HTTPExtension{Verb: commonv1.HTTPExtension_Verb(verb), Querystring: r.Query},
	}, nil
}

// invokePairs returns a request's header as gRPC metadata. Fields that mean something to HTTP get the prefix dapr-.
func invokePairs(header http.Header) (pairs []string, trace traceContext) {
	for name, values := range header {
		lower := strings.ToLower(name)
		if strings.HasSuffix(lower, "-bin") || len(values) > 0 && trace.take(lower, values[0]) {
			continue
		}
		if isHTTPOnly(lower) || strings.HasPrefix(lower, "grpc-") {
			lower = "dapr-" + lower
		}
		for _, v := range values {
			if lower != tokenHeader && validPair(lower, v) {
				pairs = append(pairs, lower, v)
			}
		}
	}
	return pairs, trace
}

func isHTTPOnly(name string) bool {
	switch name {
	case "accept", "accept-charset", "accept-language", "accept-ranges", "cache-control",
		"content-type", "cookie", "date", "expect", "from", "if-match", "if-modified-since", "if-none-match",
		"if-schedule-tag-match", "if-unmodified-since", "max-forwards", "origin", "pragma", "referer",
		"via", "warning":
		return true
	}
	return false
}

var errBodyTooLarge = errors.New("request body is over the size limit")

func readAtMost(r io.Reader, limit int) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(data) > limit {
		err = errBodyTooLarge
	}
	return data, err
}

// httpStatus maps a gRPC code as google.rpc.Code documents it.
func httpStatus(code codes.Code) int {
	switch code {
	case codes.OK:
		return http.StatusOK
	case codes.Canceled:
		return http.StatusRequestTimeout
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
