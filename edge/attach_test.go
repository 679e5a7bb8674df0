package edge_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edged-io/edged/edge"
)

func testConfig(t *testing.T) edge.Config {
	t.Helper()
	folder := t.TempDir()
	cfg := edge.DefaultConfig()
	cfg.Device, cfg.Data, cfg.Run = "test", filepath.Join(folder, "data"), filepath.Join(folder, "run")
	cfg.Health.Interval = 0
	return cfg
}

// run opens and runs a Runtime; stop ends it with a cause and returns what Run and Close say.
func run(t *testing.T, cfg edge.Config) (rt *edge.Runtime, stop func(cause error) error) {
	t.Helper()
	rt, err := edge.Open(t.Context(), cfg, edge.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- rt.Run(ctx) }()
	var once sync.Once
	stop = func(cause error) (err error) {
		once.Do(func() {
			cancel(cause)
			err = errors.Join(<-done, rt.Close())
		})
		return err
	}
	t.Cleanup(func() { _ = stop(nil) }) // what it says is looked at where it matters
	return rt, stop
}

// TestRuntime_AttachAgainAndAgain gives one id from holder to holder: it is free when the one before is detached.
func TestRuntime_AttachAgainAndAgain(t *testing.T) {
	cfg := testConfig(t)
	run(t, cfg)
	for i := range 20 {
		lease := attach(t, cfg, "guest")
		if _, err := edge.AttachTo(t.Context(), cfg, edge.Attachment{ID: "guest"}); err == nil || !strings.Contains(err.Error(), "served already") {
			t.Fatalf("round %d: a second holder: %v", i, err)
		}
		if err := lease.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// attach waits until the daemon has noticed that the lease before is gone.
func attach(t *testing.T, cfg edge.Config, id string) *edge.Lease {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		lease, err := edge.AttachTo(t.Context(), cfg, edge.Attachment{ID: id})
		if err == nil {
			return lease
		}
		if !strings.Contains(err.Error(), "served already") || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestRuntime_AttachWhileStopping attaches all the time while the Runtime starts and stops: whatever was attached ends
// with it, and its socket is gone.
func TestRuntime_AttachWhileStopping(t *testing.T) {
	for round := range 5 {
		cfg := testConfig(t)
		_, stop := run(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		first := make(chan struct{})
		var once sync.Once
		for i := range 4 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					lease, err := edge.AttachTo(ctx, cfg, edge.Attachment{ID: fmt.Sprintf("guest-%d-%d", i, n)})
					if err != nil {
						continue
					}
					once.Do(func() { close(first) })
					defer lease.Close()
				}
			})
		}
		<-first
		if err := stop(nil); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		cancel()
		wg.Wait()
		if left, err := filepath.Glob(filepath.Join(cfg.Run, "*.sock")); err != nil || len(left) > 0 {
			t.Errorf("round %d: sockets left behind: %v %v", round, left, err)
		}
	}
}

// TestRuntime_StopEndsLeases stops with an attachment: it ends at once, and its holder is told.
func TestRuntime_StopEndsLeases(t *testing.T) {
	cfg := testConfig(t)
	_, stop := run(t, cfg)
	lease := attach(t, cfg, "guest")
	if err := stop(nil); err != nil {
		t.Error(err)
	}
	select {
	case <-lease.Ended():
	case <-time.After(10 * time.Second):
		t.Error("the lease goes on without its daemon")
	}
	if err := errors.Join(lease.Close(), lease.Close()); err != nil {
		t.Error(err)
	}
}

// TestRuntime_ApplicationsCannotStopIt asks for a shutdown through one application's API.
func TestRuntime_ApplicationsCannotStopIt(t *testing.T) {
	c, _ := startRuntime(t, t.TempDir(), time.Now, "")
	healthy := func() {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			status, body := request(t, c, "GET", "/v1.0/healthz", "")
			if status == 204 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d %s", status, body)
			}
		}
	}
	healthy()
	if status, body := request(t, c, "POST", "/v1.0/shutdown", ""); status != 403 {
		t.Fatalf("%d %s", status, body)
	}
	healthy()
}

// TestRuntime_TellsTheServiceManager listens as systemd does. A stop that is announced in the course of a reload would make
// systemd kill the daemon after TimeoutStopSec.
func TestRuntime_TellsTheServiceManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	heard := func() string {
		t.Helper()
		b := make([]byte, 256)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	for _, c := range []struct {
		cause error
		want  string
	}{{edge.ErrReload, "RELOADING=1\nMONOTONIC_USEC="}, {nil, "STOPPING=1"}} {
		_, stop := run(t, testConfig(t))
		if got := heard(); got != "READY=1" {
			t.Errorf("at the start: %q", got)
		}
		if err := stop(c.cause); err != nil {
			t.Error(err)
		}
		if got := heard(); !strings.HasPrefix(got, c.want) {
			t.Errorf("at the end because of %v: %q, want %q", c.cause, got, c.want)
		}
	}
}

// TestRuntime_SocketModes looks at who may connect, whatever the umask is.
func TestRuntime_SocketModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o027))
	cfg := testConfig(t)
	cfg.Apps = []edge.AppConfig{{ID: "app"}}
	run(t, cfg)
	for name, want := range map[string]os.FileMode{"app.sock": 0o660, "admin.sock": 0o600} {
		fi, err := os.Stat(filepath.Join(cfg.Run, name))
		if err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want %v", name, fi.Mode(), err, want)
		}
	}
}
