// Package examples runs the first applications and the demo as the README says, against the built binaries.
package examples

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// output collects what a process prints. It is safe for concurrent use.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start runs a program in the project's folder until the test ends.
func start(t *testing.T, args ...string) *output {
	t.Helper()
	var out output
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "..", &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a program may start another: both get the signal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // it may have ended
		timer := time.AfterFunc(20*time.Second, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		_ = cmd.Wait() // told to end
		timer.Stop()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), &out)
		}
	})
	return &out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(90 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		case <-tick.C:
		}
	}
}

func TestFirstApplications(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "edged.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "device: first\ndata: %[1]s/data\nrun: %[1]s/run\n", dir), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "bin/edged", "serve", "--config", config)
	eventually(t, "the daemon answers", func() bool {
		c, err := net.Dial("unix", filepath.Join(dir, "run", "admin.sock"))
		return err == nil && c.Close() == nil
	})
	run := func(id, port, protocol string, command ...string) *output {
		args := []string{"bin/edged", "run", "--config", config, "--app-id", id}
		if port != "" {
			args = append(args, "--app-port", port, "--app-protocol", protocol)
		}
		return start(t, append(append(args, "--"), command...)...)
	}
	outputs := map[string]*output{
		"go: order 1, lamp":     run("orders-go", freePort(t), "http", "go", "-C", "examples", "run", "./first/go"),
		"js: order 1, lamp":     run("orders-js", freePort(t), "http", "node", "examples/first/js/app.mjs"),
		"python: order 1, lamp": run("orders-python", freePort(t), "grpc", "conformance/python/.venv/bin/python", "examples/first/python/app.py"),
	}
	eventually(t, "all three have subscribed", func() bool {
		status, err := exec.Command("../bin/edged", "status", "--config", config).Output()
		return err == nil && strings.Count(string(status), ":orders ") == 3
	})
	curl := run("orders-curl", "", "", "examples/first/curl/app.sh")
	eventually(t, "curl has published", func() bool { return strings.Contains(curl.String(), "published order 1") })
	for want, out := range outputs {
		eventually(t, want, func() bool { return strings.Contains(out.String(), want) })
	}
}

func TestDemo(t *testing.T) {
	cmd := exec.Command("go", "run", "./demo", "-root", "..", "-phase", "1500ms")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "the ledger balances") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
