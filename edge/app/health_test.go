package app_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/app"
	"github.com/edged-io/edged/edge/invoke"
)

// serveProtocol starts an application that speaks https or h2c and returns its address.
func serveProtocol(t *testing.T, p app.Protocol, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	if p == app.HTTPS {
		srv.TLSConfig = selfSigned(t)
		go func() { _ = srv.ServeTLS(l, "", "") }()
	} else {
		srv.Protocols = new(http.Protocols)
		srv.Protocols.SetUnencryptedHTTP2(true)
		go func() { _ = srv.Serve(l) }()
	}
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// run runs the channel until the test ends.
func run(t *testing.T, c *app.Channel) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

func TestChannel_Run(t *testing.T) {
	var up atomic.Bool
	var probes atomic.Int64
	changes := make(chan bool, 16)
	c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/check" {
			return
		}
		probes.Add(1)
		if !up.Load() {
			w.WriteHeader(503)
		}
	}), app.Config{
		Health:   app.Health{Enabled: true, Path: "check", Interval: 5 * time.Millisecond, Timeout: 5 * time.Millisecond, Threshold: 3},
		OnHealth: func(_ context.Context, healthy bool) { changes <- healthy },
	})
	if c.Healthy() {
		t.Error("healthy before the first probe")
	}
	if _, err := c.Deliver(t.Context(), delivery()); !errors.Is(err, invoke.ErrUnhealthy) {
		t.Errorf("got %v", err)
	}
	run(t, c)
	eventually(t, "probes", func() bool { return probes.Load() > 5 })
	if len(changes) != 0 || c.Healthy() {
		t.Error("a change was reported")
	}
	for range 3 {
		up.Store(true)
		if !<-changes || !c.Healthy() {
			t.Error("not healthy")
		}
		if _, err := c.Deliver(t.Context(), delivery()); err != nil {
			t.Error(err)
		}
		up.Store(false)
		if <-changes || c.Healthy() {
			t.Error("not unhealthy")
		}
	}
}

// With fake time and a scripted probe: one letter per probe, and what is reported after it.
func TestChannel_Run_Threshold(t *testing.T) {
	for probes, want := range map[string]string{
		"++++":         "+...",
		"-----+":       ".....+",
		"+---+":        "+..-+",
		"+--+--+---":   "+........-", // only failures in a row count
		"+-----++---+": "+..-..+...-+",
		"tt+tt+ttt":    "..+.....-", // a probe that takes too long has failed
	} {
		synctest.Test(t, func(t *testing.T) {
			n, got := 0, []byte(nil)
			c := open(t, app.Config{
				Address:  "127.0.0.1:1",
				Health:   app.Health{Enabled: true, Interval: time.Second, Timeout: 100 * time.Millisecond, Threshold: 3},
				OnHealth: func(_ context.Context, healthy bool) { got[len(got)-1] = map[bool]byte{true: '+', false: '-'}[healthy] },
			})
			ctx, cancel := context.WithCancel(t.Context())
			c.FakeProbe(func(probe context.Context) error {
				synctest.Wait() // for OnHealth
				if n == len(probes) {
					cancel()
					return nil
				}
				got = append(got, '.')
				switch n++; probes[n-1] {
				case '+':
					return nil
				case 't':
					<-probe.Done()
				}
				return errors.New("no")
			})
			start := time.Now()
			if err := c.Run(ctx); err != nil {
				t.Error(err)
			}
			if string(got) != want {
				t.Errorf("%s: got %s, want %s", probes, got, want)
			}
			if d := time.Since(start); d != time.Duration(len(probes))*time.Second {
				t.Errorf("%s: %d probes took %s", probes, len(probes), d)
			}
		})
	}
}

func TestChannel_Run_SlowOnHealth(t *testing.T) {
	var up atomic.Bool
	up.Store(true)
	var probes atomic.Int64
	in, out := make(chan bool), make(chan struct{})
	c := serveApp(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		probes.Add(1)
		if !up.Load() {
			w.WriteHeader(500)
		}
	}), app.Config{
		Health: app.Health{Enabled: true, Interval: time.Millisecond, Timeout: time.Millisecond, Threshold: 1},
		OnHealth: func(_ context.Context, healthy bool) {
			in <- healthy
			<-out
		},
	})
	run(t, c)
	if !<-in {
		t.Error("not healthy")
	}
	up.Store(false)
	eventually(t, "unhealthy", func() bool { return !c.Healthy() }) // probing goes on meanwhile
	out <- struct{}{}
	if <-in {
		t.Error("not unhealthy")
	}
	close(out)
	go func() {
		for range in {
		}
	}()
	t.Cleanup(func() { close(in) })
}

func TestChannel_Run_WithoutProbes(t *testing.T) {
	changes := make(chan bool, 1)
	c := open(t, app.Config{Address: "127.0.0.1:1", OnHealth: func(_ context.Context, healthy bool) { changes <- healthy }})
	if !c.Healthy() {
		t.Error("not healthy")
	}
	run(t, c)
	if !<-changes {
		t.Error("not healthy")
	}
}

func TestChannel_WaitReady(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.sock")
	c := open(t, app.Config{Address: "unix://" + path})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ready := make(chan error)
	go func() { ready <- c.WaitReady(t.Context()) }()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := <-ready; err != nil {
		t.Error(err)
	}
}
