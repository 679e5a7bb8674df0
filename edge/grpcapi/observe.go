package grpcapi

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/edged-io/edged/edge/fault"
)

// tokenKey is the metadata key of the API token.
const tokenKey = "dapr-api-token"

// tokenCheck lets only calls with the API token through, and takes it out of the call, so that it is not passed on.
type tokenCheck struct{ *Options }

func (t *tokenCheck) check(ctx context.Context) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx) // a copy
	given := md[tokenKey]
	switch {
	case len(given) == 0:
		return nil, t.fail(fault.TokenRefused("missing api token in request metadata"))
	case subtle.ConstantTimeCompare([]byte(given[0]), []byte(t.APIToken)) != 1:
		return nil, t.fail(fault.TokenRefused("authentication error: api token mismatch"))
	}
	delete(md, tokenKey)
	return metadata.NewIncomingContext(ctx, md), nil
}

func (t *tokenCheck) unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	ctx, err := t.check(ctx)
	if err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func (t *tokenCheck) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	ctx, err := t.check(ss.Context())
	if err != nil {
		return err
	}
	return next(srv, &streamWith{ss, ctx})
}

// streamWith is a stream with another context.
type streamWith struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *streamWith) Context() context.Context { return s.ctx }

// watcher observes calls.
type watcher struct{ *Options }

func (w *watcher) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	start := time.Now()
	answer, err := next(ctx, req)
	w.done(ctx, info.FullMethod, false, start, err)
	return answer, err
}

func (w *watcher) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	start := time.Now()
	err := next(srv, ss)
	w.done(ss.Context(), info.FullMethod, true, start, err)
	return err
}

func (w *watcher) done(ctx context.Context, method string, stream bool, start time.Time, err error) {
	c := Call{Method: method, Stream: stream, Code: uint32(status.Code(err)), Duration: time.Since(start)}
	if v := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(v) > 0 {
		c.UserAgent = v[0]
	}
	if w.OnCall != nil {
		w.OnCall(c)
	}
	if w.LogCalls {
		attrs := []any{slog.Int("code", int(c.Code)), slog.Int64("duration", c.Duration.Milliseconds()), slog.String("method", method)}
		if c.UserAgent != "" {
			attrs = append(attrs, slog.String("useragent", c.UserAgent))
		}
		w.Log.Info("gRPC API Called", attrs...)
	}
}
