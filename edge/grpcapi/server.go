package grpcapi

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	rtv1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
)

// Server serves the gRPC API of one application on any number of listeners.
type Server struct {
	grpc    *grpc.Server
	stopped context.CancelFunc // ends open streams
}

// service implements the Dapr service.
type service struct {
	rtv1.UnsafeDaprServer
	Options
	stopping context.Context // done when the server stops: streams end
}

var _ rtv1.DaprServer = (*service)(nil)

// Most of what goes over an application's socket is small and the way is short, so buffers are small and
// windows are fixed: grpc-go then leaves out the pings by which it measures a network. A few workers that stay spare
// most calls a new goroutine, whose stack would have to grow: a fifth of the CPU time of a small call.
const (
	readBuffer = 8 << 10
	window     = 256 << 10
	workers    = 4
)

// New returns a server that is ready to serve.
func New(o Options) *Server {
	if o.MaxBodySize <= 0 {
		o.MaxBodySize = DefaultMaxBodySize
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ForceShutdown == nil {
		o.ForceShutdown = o.Shutdown
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{grpc: grpc.NewServer(serverOptions(&o)...), stopped: cancel}
	rtv1.RegisterDaprServer(s.grpc, &service{Options: o, stopping: ctx})
	return s
}

func serverOptions(o *Options) []grpc.ServerOption {
	const never = time.Duration(math.MaxInt64)
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(int(min(o.MaxBodySize, math.MaxInt32))),
		grpc.MaxSendMsgSize(int(min(o.MaxBodySize, math.MaxInt32))),
		grpc.ReadBufferSize(readBuffer),
		grpc.NumStreamWorkers(workers),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
		// As daprd: clients may ping often, and idle connections are closed after three minutes.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 8 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: never, MaxConnectionAgeGrace: never, MaxConnectionIdle: 3 * time.Minute,
			Time: 10 * time.Second, Timeout: 5 * time.Second,
		}),
	}
	if o.MaxHeaderBytes > 0 {
		options = append(options, grpc.MaxHeaderListSize(o.MaxHeaderBytes))
	}
	if o.Unknown != nil {
		options = append(options, grpc.UnknownServiceHandler(o.Unknown))
	}
	var unary []grpc.UnaryServerInterceptor
	var stream []grpc.StreamServerInterceptor
	if o.LogCalls || o.OnCall != nil {
		w := &watcher{o}
		unary, stream = append(unary, w.unary), append(stream, w.stream)
	}
	if o.APIToken != "" {
		t := &tokenCheck{o}
		unary, stream = append(unary, t.unary), append(stream, t.stream)
	}
	if o.Access != nil {
		a := &access{o}
		unary, stream = append(unary, a.unary), append(stream, a.stream)
	}
	return append(options, grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...))
}

// Serve answers on l until the server is stopped, which is no error. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// GracefulStop refuses new calls, ends open subscriptions and waits until the calls under way are answered, or until ctx
// is done: then those are broken off.
func (s *Server) GracefulStop(ctx context.Context) {
	s.stopped()
	done := make(chan struct{})
	go func() { defer close(done); s.grpc.GracefulStop() }() // ends with the last call, which Stop cancels
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
	}
}

// Stop closes all connections and breaks off the calls under way.
func (s *Server) Stop() {
	s.stopped()
	s.grpc.Stop()
}
