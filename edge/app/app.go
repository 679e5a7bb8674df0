// Package app is the way from edged to one application: it delivers events, asks for the application's subscriptions
// and configuration, calls its methods and probes its health, over HTTP or gRPC, TCP or a Unix socket. What it sends,
// and how it takes the answers, is Dapr's application channel (API level 1.18).
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/pubsub"
)

// Protocol is how the application speaks. The ones with TLS do not verify the certificate, as the peer is on this
// machine.
type Protocol string

// The protocols of Dapr's --app-protocol.
const (
	HTTP  Protocol = "http"
	HTTPS Protocol = "https"
	H2C   Protocol = "h2c"
	GRPC  Protocol = "grpc"
	GRPCS Protocol = "grpcs"
)

// Config says how to reach the application. Zero values mean the defaults.
type Config struct {
	AppID          string
	Address        string   // host:port, or unix:///path
	Protocol       Protocol // default http
	MaxConcurrency int      // calls under way at once; 0 or less means 1024
	Token          string   // sent as dapr-api-token (APP_API_TOKEN)
	MaxBodySize    int      // bytes of an answer that are taken in; default 4 MiB
	Health         Health
	// OnHealth is called by Run when the application becomes healthy and when it stops to be: with true first, then in
	// turns, never twice at once. A change that is undone while OnHealth runs is not reported. ctx is Run's.
	OnHealth func(ctx context.Context, healthy bool)
	Log      *slog.Logger // default slog.Default
}

// Health configures the probes (Dapr app health checks).
type Health struct {
	Enabled   bool          // otherwise the application counts as healthy
	Path      string        // of the HTTP probe; default /healthz
	Interval  time.Duration // default 5 s
	Timeout   time.Duration // of one probe; default 500 ms, at most Interval
	Threshold int           // failures in a row until the application counts as unhealthy; default 3
}

// Channel is the way to one application. It is safe for concurrent use.
type Channel struct {
	cfg     Config
	network string
	address string
	log     *slog.Logger
	slots   chan struct{} // one per call under way
	wire    wire
	healthy atomic.Bool

	mu     sync.RWMutex // Lock: set closed; RLock: count a call
	closed bool
	calls  sync.WaitGroup
}

// wire is one of the two transports.
type wire interface {
	deliver(ctx context.Context, d *pubsub.Delivery) (pubsub.Verdict, error)
	deliverBulk(ctx context.Context, d *pubsub.BulkDelivery, verdicts []pubsub.Verdict) error
	subscriptions(ctx context.Context) ([]pubsub.Spec, error)
	hosting(ctx context.Context) (Hosting, error)
	invoke(ctx context.Context, r invoke.Request) (*invoke.Response, error)
	probe(ctx context.Context) error
	close() error
}

var (
	_ pubsub.Channel = (*Channel)(nil)
	_ invoke.Channel = (*Channel)(nil)
)

// ErrUnreachable reports that the application was not reached and has not seen the call.
var ErrUnreachable = errors.New("application is not reachable")

// ErrClosed reports a call on a closed Channel.
var ErrClosed = errors.New("application channel is closed")

const maxCalls = 1024 // as many connections as daprd allows to its application

// New returns the channel to an application. It does not connect. Without health probes the application counts as
// healthy; with them, only after the first one that succeeds.
func New(cfg Config) (*Channel, error) {
	c := &Channel{cfg: cfg, log: cfg.Log}
	if err := c.setDefaults(); err != nil {
		return nil, fmt.Errorf("application channel of %s: %w", cfg.AppID, err)
	}
	c.slots = make(chan struct{}, c.cfg.MaxConcurrency)
	c.healthy.Store(!c.cfg.Health.Enabled)
	switch c.cfg.Protocol {
	case HTTP, HTTPS, H2C:
		c.wire = newHTTPWire(c)
	case GRPC, GRPCS:
		w, err := newGRPCWire(c)
		if err != nil {
			return nil, fmt.Errorf("application channel of %s: %w", cfg.AppID, err)
		}
		c.wire = w
	default:
		return nil, fmt.Errorf("application channel of %s: protocol %q is none of http, https, h2c, grpc, grpcs", cfg.AppID, cfg.Protocol)
	}
	return c, nil
}

func (c *Channel) setDefaults() error {
	cfg := &c.cfg
	if c.log == nil {
		c.log = slog.Default()
	}
	var err error
	if c.network, c.address, err = parseAddress(cfg.Address); err != nil {
		return err
	}
	orDefault(&cfg.Protocol, HTTP)
	orDefault(&cfg.Health.Path, "/healthz")
	orDefault(&cfg.Health.Interval, 5*time.Second)
	orDefault(&cfg.Health.Timeout, 500*time.Millisecond)
	orDefault(&cfg.Health.Threshold, 3)
	orDefault(&cfg.MaxBodySize, 4<<20)
	if cfg.MaxConcurrency <= 0 {
		cfg.MaxConcurrency = maxCalls
	}
	if h := cfg.Health; h.Interval < 0 || h.Timeout < 0 || h.Threshold < 0 {
		return errors.New("health probes: interval, timeout and threshold must be positive")
	} else if h.Timeout > h.Interval {
		return fmt.Errorf("health probes: timeout %s must be smaller than interval %s", h.Timeout, h.Interval)
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// parseAddress splits an address into what net.Dial takes.
func parseAddress(s string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if after, ok := strings.CutPrefix(path, "//"); ok {
			path = after
		}
		if path == "" {
			return "", "", fmt.Errorf("address %q has no path: give unix:///path/app.sock", s)
		}
		return "unix", path, nil
	}
	if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
		return "", "", fmt.Errorf("address %q is neither host:port nor unix:///path", s)
	}
	return "tcp", s, nil
}

// Address returns where the application is, as net.Dial takes it.
func (c *Channel) Address() (network, address string) { return c.network, c.address }

// Protocol returns how the application speaks.
func (c *Channel) Protocol() Protocol { return c.cfg.Protocol }

// Healthy reports the application's health as the probes see it.
func (c *Channel) Healthy() bool { return c.healthy.Load() }

// enter counts a call and waits for its turn; after a nil error, leave must follow.
func (c *Channel) enter(ctx context.Context) error {
	c.mu.RLock()
	if c.closed {
		c.mu.RUnlock()
		return ErrClosed
	}
	c.calls.Add(1)
	c.mu.RUnlock()
	select {
	case c.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		c.calls.Done()
		return fmt.Errorf("wait for one of %d calls to the application to end: %w", cap(c.slots), ctx.Err())
	}
}

func (c *Channel) leave() {
	<-c.slots
	c.calls.Done()
}

// Deliver posts one event and returns what the application made of it. SUCCESS, an empty answer, or one that is not
// JSON, with a 2xx status, is Ack. DROP, 404 and gRPC's Unimplemented are Drop. All else that was answered is Nak, and so is
// an application that hung up, or let ctx's deadline pass, after it may have seen the event. An error means that it has
// not seen it (ErrUnreachable, invoke.ErrUnhealthy), or that ctx was cancelled.
func (c *Channel) Deliver(ctx context.Context, d pubsub.Delivery) (pubsub.Verdict, error) {
	if !c.healthy.Load() {
		return pubsub.Nak, invoke.ErrUnhealthy
	}
	if err := c.enter(ctx); err != nil {
		return pubsub.Nak, err
	}
	defer c.leave()
	return c.wire.deliver(ctx, &d)
}

// DeliverBulk posts a batch, and verdict i belongs to entry i. An entry that the answer does not mention, or whose status
// is empty or unknown, is Nak; a 404 drops the batch. Errors are those of Deliver.
func (c *Channel) DeliverBulk(ctx context.Context, d pubsub.BulkDelivery) ([]pubsub.Verdict, error) {
	if !c.healthy.Load() {
		return nil, invoke.ErrUnhealthy
	}
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	verdicts := make([]pubsub.Verdict, len(d.Entries))
	for i := range verdicts {
		verdicts[i] = pubsub.Nak
	}
	if err := c.wire.deliverBulk(ctx, &d, verdicts); err != nil {
		return nil, err
	}
	return verdicts, nil
}

// Subscriptions asks the application for its programmatic subscriptions. One that does not offer the endpoint (404,
// Unimplemented) has none, and neither has one that answers something else than a list; a server error is given some
// seconds to pass before that. Subscriptions without a route are left out. An error means that the application was not
// reached (ErrUnreachable) or that ctx ended.
func (c *Channel) Subscriptions(ctx context.Context) ([]pubsub.Spec, error) {
	if err := c.enter(ctx); err != nil {
		return nil, err
	}
	defer c.leave()
	for wait := 500 * time.Millisecond; ; wait += wait / 2 {
		specs, err := c.wire.subscriptions(ctx)
		var failed *answerError
		if !errors.As(err, &failed) {
			return specs, err
		}
		if !failed.again || wait > 1200*time.Millisecond {
			c.log.Error("error getting topics from app", "app", c.cfg.AppID, "error", err)
			return nil, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

// answerError is an answer that is not what was asked for; again says that it may be another one a moment later.
type answerError struct {
	err   error
	again bool
}

func (e *answerError) Error() string { return e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// Hosting asks the application what it hosts (GET /dapr/config). One that does not offer the endpoint hosts nothing.
// A gRPC application is not asked: it says so over its own stream.
func (c *Channel) Hosting(ctx context.Context) (Hosting, error) {
	if err := c.enter(ctx); err != nil {
		return Hosting{}, err
	}
	defer c.leave()
	return c.wire.hosting(ctx)
}

// Close refuses new calls, waits for those under way (cancel their contexts to hasten them) and closes the connections.
// It may be called twice.
func (c *Channel) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	c.calls.Wait()
	if closed {
		return nil
	}
	if err := c.wire.close(); err != nil {
		return fmt.Errorf("close application channel of %s: %w", c.cfg.AppID, err)
	}
	return nil
}
