package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	stdsync "sync"
	"sync/atomic"
	"time"

	"github.com/edged-io/edged/edge/admin"
	"github.com/edged-io/edged/edge/app"
	"github.com/edged-io/edged/edge/grpcapi"
	"github.com/edged-io/edged/edge/httpapi"
	"github.com/edged-io/edged/edge/metadata"
	"github.com/edged-io/edged/edge/pubsub"
)

const (
	// defaultDrain is how long calls under way may take when edged stops.
	defaultDrain = 5 * time.Second
	// headerTimeout bounds how long a client may take to send a request's header.
	headerTimeout = 30 * time.Second
	// defaultMaxHeader bounds a request's header (daprd's --read-buffer-size has its own).
	defaultMaxHeader = 64 << 10
)

// application is one application that edged serves: its sockets, its API and the channel to it.
type application struct {
	rt       *Runtime
	cfg      AppConfig
	log      *slog.Logger
	channel  *app.Channel // nil: the application only calls
	metadata *metadata.Service
	specs    []pubsub.Spec // declarative subscriptions
	relays   []pubsub.Subscription

	http    *http.Server
	extra   []*http.Server // what else daprd serves: metrics, profiles
	grpc    *grpcapi.Server
	serving []func() error
	closers []io.Closer // listeners and splitters

	addresses admin.Attached
	cancel    context.CancelFunc
	wg        stdsync.WaitGroup
	once      stdsync.Once
	hosting   stdsync.Once
	started   bool // guarded by the runtime's changes
	ready     atomic.Bool
	gone      chan struct{} // set, under the runtime's mu, when it is being detached; closed when it is
}

// newApplication listens on the application's sockets; serve makes it answer.
func newApplication(rt *Runtime, cfg AppConfig) (a *application, err error) {
	a = &application{rt: rt, cfg: cfg, log: rt.log.With("app", cfg.ID), specs: declared(rt.set.Subscriptions, cfg.ID)}
	if rt.cfg.dropIn != nil {
		a.log = rt.log
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("application %s: %w", cfg.ID, err), a.stop())
		}
	}()
	if cfg.Channel.Address != "" {
		if a.channel, err = app.New(rt.channelConfig(a)); err != nil {
			return a, err
		}
	}
	a.metadata = rt.newMetadata(a)
	o := a.apiOptions()
	a.http = a.newServer(httpapi.New(o))
	a.grpc = grpcapi.New(a.grpcOptions(o))
	if rt.cfg.dropIn != nil {
		return a, a.listenAsDaprd(rt.cfg.dropIn, o)
	}
	return a, a.listen()
}

func (a *application) newServer(h http.Handler) *http.Server {
	o := httpapi.ServerOptions{MaxHeaderBytes: defaultMaxHeader, Log: a.log}
	if d := a.rt.cfg.dropIn; d != nil && d.maxHeader > 0 {
		o.MaxHeaderBytes = d.maxHeader
	}
	return httpapi.NewServer(h, o)
}

// listen opens the socket, which speaks HTTP/1.1 and gRPC, and the TCP listeners if there are any.
func (a *application) listen() error {
	a.addresses.Socket = a.cfg.socket(a.rt.cfg.Run)
	access := newAccess(a.cfg.User, a.rt.cfg.Group)
	if access.user != "" && access.uid < 0 {
		a.log.Warn("the application's user does not exist: only root and the user that runs edged may connect", "user", access.user)
	}
	l, err := listenUnix(a.addresses.Socket, access)
	if err != nil {
		return err
	}
	s := split(&guarded{Listener: l, admit: access.admit, log: a.log})
	a.closers = append(a.closers, s)
	a.serveHTTP(a.http, s.http1)
	a.serveGRPC(s.grpc)
	if addr := a.cfg.Listen.HTTP; addr != "" {
		if a.addresses.HTTP, err = a.listenTCP(addr, a.http); err != nil {
			return err
		}
	}
	if addr := a.cfg.Listen.GRPC; addr != "" {
		if a.addresses.GRPC, err = a.listenTCP(addr, nil); err != nil {
			return err
		}
	}
	return nil
}

// listenAsDaprd opens what daprd opens: the ports, or two sockets in a folder.
func (a *application) listenAsDaprd(d *dropIn, o httpapi.Options) error {
	if d.socketFolder != "" {
		for name, server := range map[string]*http.Server{"http": a.http, "grpc": nil} {
			path := filepath.Join(d.socketFolder, fmt.Sprintf("dapr-%s-%s.socket", a.cfg.ID, name))
			l, err := listenUnix(path, access{uid: -1, gid: -1, mode: sharedMode})
			if err != nil {
				return err
			}
			a.serveOn(l, server)
		}
	}
	for _, addr := range d.grpcAddresses {
		if _, err := a.listenTCP(addr, nil); err != nil {
			return err
		}
	}
	for _, addr := range d.httpAddresses {
		if _, err := a.listenTCP(addr, a.http); err != nil {
			return err
		}
	}
	return a.listenExtra(d, httpapi.NewPublic(o))
}

// listenExtra opens what daprd listens on besides its APIs. Nothing answers between daemons in this version, which the
// internal port says at once.
func (a *application) listenExtra(d *dropIn, public http.Handler) error {
	profiles := http.NewServeMux()
	admin.Profiles(profiles)
	for _, extra := range []struct {
		addr    string
		handler http.Handler
	}{
		{d.publicAddress, public},
		{d.metricsAddress, admin.Metrics(a.rt)},
		{d.profileAddress, profiles},
		{d.internalAddress, http.NotFoundHandler()},
	} {
		if extra.addr == "" {
			continue
		}
		server := a.newServer(extra.handler)
		if _, err := a.listenTCP(extra.addr, server); err != nil {
			return err
		}
		a.extra = append(a.extra, server)
	}
	return nil
}

// listenTCP listens for server, or for gRPC if it is nil, and returns the address.
func (a *application) listenTCP(addr string, server *http.Server) (string, error) {
	l, err := listenTCP(addr)
	if err != nil {
		return "", err
	}
	a.serveOn(l, server)
	return l.Addr().String(), nil
}

func (a *application) serveOn(l net.Listener, server *http.Server) {
	a.closers = append(a.closers, l)
	if server == nil {
		a.serveGRPC(l)
		return
	}
	a.serveHTTP(server, l)
}

func (a *application) serveHTTP(s *http.Server, l net.Listener) {
	a.serving = append(a.serving, func() error { return s.Serve(l) })
}

func (a *application) serveGRPC(l net.Listener) {
	a.serving = append(a.serving, func() error { return a.grpc.Serve(l) })
}

// serve starts to answer on all sockets, and to follow the application's life. The runtime's changes is held.
func (a *application) serve() {
	if a.started {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.started = cancel, true
	for _, f := range a.serving {
		a.wg.Go(func() {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				a.log.Error("listener ended", "error", err)
			}
		})
	}
	a.relays = outbox{a.rt}.start(ctx, a.cfg.ID)
	a.wg.Go(func() { a.follow(ctx) })
}

// follow waits until the application listens, then delivers to it while it is healthy. As with daprd, the application
// counts as ready when its subscriptions work; one that is probed, or that only calls, at once.
func (a *application) follow(ctx context.Context) {
	if a.channel == nil {
		a.startDeliveries(ctx, nil)
		a.ready.Store(true)
		return
	}
	if err := a.channel.WaitReady(ctx); err != nil {
		return // edged stops
	}
	var channel pubsub.Channel = a.channel
	if a.rt.skips("subscribe") {
		a.log.Warn("Skipping programmatic subscription loading (disable-init-endpoints)")
		channel = unasked{a.channel}
	}
	a.rt.pubsub.AppHealthy(a.cfg.ID, a.channel.Healthy())
	a.startDeliveries(ctx, channel)
	a.wg.Go(func() {
		if !a.cfg.Channel.Health.Enabled && a.rt.pubsub.WaitReady(ctx, a.cfg.ID) != nil {
			return // edged stops
		}
		a.ready.Store(true)
	})
	a.rt.logEnd("application channel", a.channel.Run(ctx))
}

func (a *application) startDeliveries(ctx context.Context, channel pubsub.Channel) {
	if err := a.rt.pubsub.StartApp(ctx, a.cfg.ID, channel, a.specs); err != nil && ctx.Err() == nil {
		a.log.Error("subscriptions not started", "error", err)
	}
}

// unasked is the channel to an application that is not asked for its subscriptions.
type unasked struct{ *app.Channel }

// Subscriptions returns none.
func (unasked) Subscriptions(context.Context) ([]pubsub.Spec, error) { return nil, nil }

// healthChanged pauses and resumes deliveries. An application that is healthy for the first time is asked what it hosts.
func (a *application) healthChanged(ctx context.Context, healthy bool) {
	if healthy && !a.rt.skips("config") {
		a.hosting.Do(func() { a.askHosting(ctx) })
	}
	a.rt.pubsub.AppHealthy(a.cfg.ID, healthy)
}

func (a *application) askHosting(ctx context.Context) {
	h, err := a.channel.Hosting(ctx)
	switch {
	case err != nil:
		a.log.Warn("application configuration not read", "error", err)
	case len(h.Entities) > 0:
		a.log.Warn("the application hosts actors, which this version does not run", "types", h.Entities)
	}
}

// stop ends deliveries, then the API, so that an application can use it while it finishes what it was given. Calls under
// way have until the drain deadline. It may be called twice.
func (a *application) stop() error {
	var errs []error
	a.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.rt.drain())
		defer cancel()
		if a.cancel != nil {
			a.cancel()
		}
		if a.started {
			errs = append(errs, a.rt.pubsub.StopApp(ctx, a.cfg.ID))
		}
		for _, relay := range a.relays {
			errs = append(errs, relay.Close())
		}
		for _, s := range append(slices.Clone(a.extra), a.http) {
			if s == nil {
				continue
			}
			if err := s.Shutdown(ctx); err != nil {
				errs = append(errs, s.Close()) // the time is up
			}
		}
		if a.grpc != nil {
			a.grpc.GracefulStop(ctx)
		}
		for _, c := range a.closers {
			if err := c.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		if a.channel != nil {
			errs = append(errs, a.channel.Close())
		}
		a.wg.Wait()
	})
	return errors.Join(errs...)
}

func (rt *Runtime) drain() time.Duration {
	if d := rt.cfg.dropIn; d != nil {
		return d.gracefulShutdown
	}
	return defaultDrain
}
