package app

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

const (
	dialPause     = 100 * time.Millisecond // between looks whether the application listens
	dialTimeout   = 500 * time.Millisecond
	dialsPerWords = 100 // a reminder in the log every 10 s
)

// WaitReady returns when the application listens on its address, or with ctx's error.
func (c *Channel) WaitReady(ctx context.Context) error {
	where := "port " + c.port()
	if c.network == "unix" {
		where = "socket " + c.address
	}
	c.log.Info("application protocol: " + string(c.cfg.Protocol) + ". waiting on " + where +
		".  This will block until the app is listening on that " + wordFor(c.network) + ".")
	for tries := 1; ; tries++ {
		if c.listens(ctx) {
			c.log.Info("application discovered on " + where)
			return nil
		}
		pause := time.NewTimer(dialPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		case <-pause.C:
		}
		if tries%dialsPerWords == 0 {
			c.log.Info("waiting for application to listen on " + where)
		}
	}
}

func wordFor(network string) string {
	if network == "unix" {
		return "socket"
	}
	return "port"
}

func (c *Channel) port() string {
	_, port, _ := net.SplitHostPort(c.address) // New has checked it
	return port
}

// listens connects once.
func (c *Channel) listens(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := (&net.Dialer{}).DialContext(ctx, c.network, c.address)
	if err != nil {
		return false
	}
	if c.cfg.Protocol == HTTPS || c.cfg.Protocol == GRPCS {
		tc := tls.Client(nc, tlsConfig())
		err = tc.HandshakeContext(ctx)
	}
	_ = nc.Close() // it was only to see that somebody is there
	return err == nil
}

// tlsConfig trusts whoever listens: the application is on this machine, and its certificate is its own affair.
func tlsConfig() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
}

// Run probes the application's health until ctx ends: once at the start, then every interval. The application counts as
// unhealthy until a probe succeeds, and again after Threshold failures in a row. Without probes Run reports it healthy
// and waits. Run returns when the last OnHealth has returned, with nil. It must not run twice at once.
func (c *Channel) Run(ctx context.Context) error {
	turns := newHealthTurns(c.cfg.OnHealth)
	defer turns.wait()
	if !c.cfg.Health.Enabled {
		turns.report(ctx, true)
		<-ctx.Done()
		return nil
	}
	c.log.Info("App health probes starting")
	defer c.log.Info("App health probes stopping")
	tick := time.NewTicker(c.cfg.Health.Interval)
	defer tick.Stop()
	for failures := c.cfg.Health.Threshold; ; {
		failures = c.countProbe(ctx, turns, failures)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// countProbe probes once and returns the failures in a row, at most the threshold.
func (c *Channel) countProbe(ctx context.Context, turns *healthTurns, failures int) int {
	probeCtx, cancel := context.WithTimeout(ctx, c.cfg.Health.Timeout)
	defer cancel()
	err := c.wire.probe(probeCtx)
	switch {
	case ctx.Err() != nil:
		return failures
	case err == nil:
		if c.healthy.CompareAndSwap(false, true) {
			c.log.Info("App entered healthy status")
			turns.report(ctx, true)
		}
		return 0
	case failures >= c.cfg.Health.Threshold:
		return failures
	}
	if failures++; failures == c.cfg.Health.Threshold {
		c.healthy.Store(false)
		c.log.Warn("App entered un-healthy status", "error", err)
		turns.report(ctx, false)
	}
	return failures
}

// healthTurns calls OnHealth one at a time, beside the probes, with the newest state only.
type healthTurns struct {
	call func(ctx context.Context, healthy bool)

	mu      sync.Mutex
	running bool
	now     bool // as the probes see it
	told    bool // as OnHealth was told last
	done    sync.WaitGroup
}

func newHealthTurns(call func(context.Context, bool)) *healthTurns { return &healthTurns{call: call} }

func (t *healthTurns) report(ctx context.Context, healthy bool) {
	if t.call == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = healthy
	if t.running || t.now == t.told {
		return
	}
	t.running = true
	t.done.Go(func() {
		for t.next() {
			t.call(ctx, t.told)
		}
	})
}

// next takes the state that is to be told, if OnHealth does not know it. Only the calling goroutine writes told.
func (t *healthTurns) next() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = t.now != t.told
	t.told = t.now
	return t.running
}

func (t *healthTurns) wait() { t.done.Wait() }
