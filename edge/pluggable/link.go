// Package pluggable attaches components that run as their own processes: Dapr's component gRPC protocol
// (dapr.proto.components.v1) over a Unix socket. A process that is away, or that is started again, costs the calls of
// that time and nothing else: the link connects again by itself, and initializes the component before anything else
// reaches it.
package pluggable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	proto "github.com/dapr/dapr/pkg/proto/components/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/edged-io/edged/edge/component"
)

const (
	// FolderVariable names the environment variable that says where the sockets are; DefaultFolder is used without it.
	FolderVariable = "DAPR_COMPONENTS_SOCKETS_FOLDER"
	// DefaultFolder is where Dapr looks.
	DefaultFolder = "/tmp/dapr-components-sockets"

	// instanceHeader tells a process which of its component instances a call is for.
	instanceHeader = "x-component-instance"

	retryMin, retryMax = 100 * time.Millisecond, 5 * time.Second
	// initTimeout bounds one attempt to initialize a component that came back.
	initTimeout = 10 * time.Second
	// maxMessage bounds what a component may answer.
	maxMessage = 64 << 20
)

// ErrAway reports a component whose process cannot be reached now.
var ErrAway = errors.New("the component's process is not connected")

// Socket returns the socket of a component type such as state.redis: the file redis.sock, or any other extension, in the
// folder.
func Socket(folder, componentType string) (path string, ok bool) {
	_, name, _ := strings.Cut(componentType, ".")
	entries, err := os.ReadDir(folder)
	if err != nil || name == "" {
		return "", false
	}
	for _, e := range entries {
		if strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())) == name && e.Type()&fs.ModeSocket != 0 {
			return filepath.Join(folder, e.Name()), true
		}
	}
	return "", false
}

// starter initializes a component over a new connection and returns its features.
type starter func(ctx context.Context, conn *grpc.ClientConn) (features []string, err error)

// link is the connection to a component's process. It hands out a connection only after the component behind it was
// initialized, and never the same one for two lives of the process: a gRPC connection here has one socket connection and
// is dropped with it, so no call can slip in between a restart and Init.
type link struct {
	socket, name string
	log          *slog.Logger
	start        starter

	mu       sync.Mutex
	conn     *grpc.ClientConn // nil: away
	features []string         // as the component said last
	why      error            // why it is away
	changed  chan struct{}    // closed when conn changes

	cancel context.CancelFunc
	done   chan struct{}
}

// open makes the link. A process that is away is no error; a component that refuses its metadata, or that is of another
// kind, is.
func open(ctx context.Context, spec component.Spec, socket string, start starter) (*link, error) {
	l := &link{socket: socket, name: spec.Name, start: start, log: cmp.Or(spec.Log, slog.Default()),
		changed: make(chan struct{}), done: make(chan struct{})}
	conn, err := l.connect(ctx)
	switch {
	case err == nil:
	case away(err):
		l.log.Warn("component is not there yet; it is used as soon as it is", "component", spec.Name, "socket", socket, "error", err)
	default:
		return nil, fmt.Errorf("initialize %s at %s: %w", spec.Type, socket, err)
	}
	ctx, l.cancel = context.WithCancel(context.Background())
	l.set(conn, err)
	go l.keep(ctx, conn)
	return l, nil
}

// away reports whether an error says that nobody answers, rather than what somebody answered.
func away(err error) bool {
	var dial *net.OpError
	c := status.Code(err)
	return errors.As(err, &dial) || errors.Is(err, context.DeadlineExceeded) || c == codes.Unavailable || c == codes.DeadlineExceeded ||
		errors.Is(err, syscall.ENOENT) || errors.Is(err, io.EOF)
}

// connect opens a connection and initializes the component.
func (l *link) connect(ctx context.Context) (*grpc.ClientConn, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "unix", l.socket)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///component", l.options(raw)...)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if err = wait(ctx, conn); err == nil {
		var features []string
		if features, err = l.start(ctx, conn); err == nil {
			l.mu.Lock()
			l.features = features
			l.mu.Unlock()
			return conn, nil
		}
	}
	_ = conn.Close() // it never carried anything
	_ = raw.Close()  // closed already if the connection used it
	return nil, err
}

func (l *link) options(raw net.Conn) []grpc.DialOption {
	var used atomic.Bool
	mark := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, instanceHeader, l.name)
	}
	return []grpc.DialOption{
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, ErrAway
			}
			return raw, nil
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the socket's mode says who may use it
		grpc.WithAuthority("localhost"),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return call(mark(ctx), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(mark(ctx), desc, cc, method, opts...)
		}),
	}
}

// wait returns when the connection is ready, or as soon as it will not be.
func wait(ctx context.Context, conn *grpc.ClientConn) error {
	conn.Connect()
	for {
		s := conn.GetState()
		switch s {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return status.Error(codes.Unavailable, "connection closed before it was ready")
		}
		if !conn.WaitForStateChange(ctx, s) {
			return fmt.Errorf("wait for the component: %w", ctx.Err())
		}
	}
}

// keep replaces the connection whenever it ends, until ctx ends.
func (l *link) keep(ctx context.Context, conn *grpc.ClientConn) {
	defer close(l.done)
	pause := retryMin
	for {
		if conn != nil {
			conn.WaitForStateChange(ctx, connectivity.Ready)
			l.set(nil, ErrAway)
			_ = conn.Close() // it is over
			if ctx.Err() != nil {
				return
			}
			l.log.Warn("component's process went away", "component", l.name, "socket", l.socket)
			pause = retryMin
		}
		attempt, cancel := context.WithTimeout(ctx, initTimeout)
		var err error
		conn, err = l.connect(attempt)
		cancel()
		if err == nil {
			l.set(conn, nil)
			l.log.Info("component is connected", "component", l.name, "socket", l.socket)
			continue
		}
		l.set(nil, err)
		if !away(err) {
			l.log.Error("component refused its metadata", "component", l.name, "socket", l.socket, "error", err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		pause = min(2*pause, retryMax)
	}
}

func (l *link) set(conn *grpc.ClientConn, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.why = conn, why
	close(l.changed)
	l.changed = make(chan struct{})
}

// use returns the connection, or why there is none.
func (l *link) use() (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return l.conn, nil
	}
	if errors.Is(l.why, ErrAway) {
		return nil, fmt.Errorf("component %s: %w", l.name, ErrAway)
	}
	return nil, fmt.Errorf("component %s: %w: %w", l.name, ErrAway, l.why)
}

// await returns a connection as soon as there is one.
func (l *link) await(ctx context.Context) (*grpc.ClientConn, error) {
	for {
		l.mu.Lock()
		conn, changed := l.conn, l.changed
		l.mu.Unlock()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Features returns what the component said last; nothing before it was there for the first time.
func (l *link) Features() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.features
}

// Ready reports whether the component's process is connected and initialized.
func (l *link) Ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn != nil
}

// Close drops the connection and ends the calls under way. It may be called twice.
func (l *link) Close() error {
	l.cancel()
	<-l.done
	return nil
}

func properties(spec component.Spec) *proto.MetadataRequest {
	return &proto.MetadataRequest{Properties: maps.Clone(spec.Properties)}
}

// kind makes Init's Unimplemented say that the process has other components.
func kind(err error, what string) error {
	if status.Code(err) == codes.Unimplemented {
		return fmt.Errorf("the process offers no %s: %w", what, err)
	}
	return err
}
