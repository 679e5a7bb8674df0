package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// edgedBinary is the binary under test: EDGED, or one that TestMain builds with the release's flags.
var edgedBinary string

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if edgedBinary = os.Getenv("EDGED"); edgedBinary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "edged-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	edgedBinary = filepath.Join(dir, "edged")
	build := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", edgedBinary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build edged: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// device is a folder with an edged that can be started and killed again and again.
type device struct {
	t       testing.TB
	command []string // how the binary is run
	folder  string
	config  string
	cmd     *exec.Cmd
	exited  chan error
}

// pollLong is how long tests wait for what takes a moment on a busy machine.
const pollLong = 60 * time.Second

// newDevice writes the configuration; extra is appended to it. The daemon is not started.
func newDevice(t testing.TB, apps, extra string) *device {
	t.Helper()
	d := &device{t: t, command: []string{edgedBinary}, folder: t.TempDir()}
	d.config = filepath.Join(d.folder, "edged.yaml")
	text := fmt.Sprintf("device: test-device\ndata: %[1]s/data\nrun: %[1]s/run\ndeviceHealth: {interval: 0s}\n%[2]s%[3]s", d.folder, apps, extra)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.kill()
		if b, err := os.ReadFile(d.logFile()); err == nil && t.Failed() {
			t.Logf("end of edged's log:\n%s", tail(b, 6000))
		}
	})
	return d
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func (d *device) socket(app string) string { return filepath.Join(d.folder, "run", app+".sock") }
func (d *device) logFile() string          { return filepath.Join(d.folder, "edged.log") }

// start runs edged and waits until the application's API answers.
func (d *device) start(app string) {
	d.t.Helper()
	out, err := os.OpenFile(d.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer out.Close()
	d.cmd = exec.Command(d.command[0], append(d.command[1:], "serve", "--config", d.config)...)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	cmd, exited := d.cmd, make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	d.exited = exited
	client := unixClient(d.socket(app))
	defer client.CloseIdleConnections()
	d.eventually(30*time.Second, "edged is ready", func() error {
		select {
		case err := <-exited:
			exited <- err
			b, _ := os.ReadFile(d.logFile()) // best effort: the log only helps to understand
			d.t.Fatalf("edged ended at its start: %v\n%s", err, tail(b, 4000))
		default:
		}
		resp, err := client.Get("http://edged/v1.0/healthz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			return fmt.Errorf("health: %s", resp.Status)
		}
		return nil
	})
}

// kill ends edged with SIGKILL, as a power cut would.
func (d *device) kill() {
	if d.cmd == nil {
		return
	}
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Errorf("kill edged: %v", err)
	}
	<-d.exited
	d.cmd = nil
}

// stop ends edged with SIGTERM and wants exit code 0.
func (d *device) stop() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatalf("stop edged: %v", err)
	}
	select {
	case err := <-d.exited:
		if err != nil {
			d.t.Errorf("edged ended with %v", err)
		}
	case <-time.After(30 * time.Second):
		d.t.Errorf("edged did not end within 30 s of SIGTERM")
		d.kill()
	}
	d.cmd = nil
}

func (d *device) eventually(within time.Duration, what string, check func() error) {
	d.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			d.t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-tick.C:
		}
	}
}

func unixClient(socket string) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}
}

// call sends a request to the API and returns status and body. An error means that no answer came.
func call(ctx context.Context, c *http.Client, method, path, contentType string, body []byte, header ...string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://edged"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, b, errors.Join(err, resp.Body.Close())
}
