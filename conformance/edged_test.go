// Package conformance drives the built binary with the official Dapr SDKs, unmodified: what an application that is
// written for Dapr does must work on edged unchanged.
package conformance

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An app is one application of a test's edged.
type app struct {
	id       string
	protocol string // of its channel; empty: it only calls
	port     int    // on which it listens
	http     int    // port of its HTTP API
	grpc     int    // port of its gRPC API
}

func newApp(t *testing.T, id, protocol string) *app {
	t.Helper()
	return &app{id: id, protocol: protocol, port: freePort(t), http: freePort(t), grpc: freePort(t)}
}

func (a *app) httpAddress() string { return fmt.Sprintf("127.0.0.1:%d", a.http) }
func (a *app) grpcAddress() string { return fmt.Sprintf("127.0.0.1:%d", a.grpc) }

// env is the environment that Dapr's SDKs read.
func (a *app) env() []string {
	return append(os.Environ(),
		"APP_ID="+a.id, fmt.Sprintf("APP_PORT=%d", a.port), "APP_PROTOCOL="+a.protocol,
		fmt.Sprintf("DAPR_HTTP_PORT=%d", a.http), fmt.Sprintf("DAPR_GRPC_PORT=%d", a.grpc),
		"DAPR_HTTP_ENDPOINT=http://"+a.httpAddress(), "DAPR_GRPC_ENDPOINT="+a.grpcAddress())
}

type daemon struct {
	folder string
	apps   []*app
}

func (d *daemon) socket(id string) string { return filepath.Join(d.folder, "run", id+".sock") }

// startEdged starts bin/edged with the given applications and stops it with the test.
func startEdged(t *testing.T, apps ...*app) *daemon {
	t.Helper()
	d := &daemon{folder: t.TempDir(), apps: apps}
	d.write(t, "edged.yaml", d.config())
	d.write(t, "resources/secrets.yaml", secretComponent(d.write(t, "secrets.json", `{"api-key":"s3cret","db":{"password":"hunter2"}}`)))
	log := d.write(t, "edged.log", "")
	out, err := os.OpenFile(log, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), "serve", "--config", filepath.Join(d.folder, "edged.yaml"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Errorf("stop edged: %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("edged ended with %v", err)
		}
		if b, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("edged log:\n%s", b)
		}
	})
	for _, a := range apps {
		eventually(t, 10*time.Second, "edged ready for "+a.id, func() error {
			resp, err := http.Get("http://" + a.httpAddress() + "/v1.0/healthz/outbound")
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
	return d
}

func (d *daemon) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "device: conformance\ndata: %[1]s/data\nrun: %[1]s/run\nresources: [%[1]s/resources]\napps:\n", d.folder)
	for _, a := range d.apps {
		fmt.Fprintf(&b, "  - id: %s\n    listen: {http: %s, grpc: %s}\n", a.id, a.httpAddress(), a.grpcAddress())
		if a.protocol != "" {
			fmt.Fprintf(&b, "    channel: {address: \"127.0.0.1:%d\", protocol: %s}\n", a.port, a.protocol)
		}
	}
	return b.String()
}

func (d *daemon) write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(d.folder, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func secretComponent(file string) string {
	return `apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: secrets}
spec:
  type: secretstores.local.file
  version: v1
  metadata:
    - {name: secretsFile, value: ` + file + `}
    - {name: nestedSeparator, value: ":"}
`
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../bin/edged")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return path
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// eventually polls until check returns nil.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, within, err)
		case <-tick.C:
		}
	}
}
