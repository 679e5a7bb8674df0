package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runEdged runs the binary to its end and returns its output and exit code.
func runEdged(t *testing.T, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(edgedBinary, args...)
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func wantAll(t *testing.T, output string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(output, p) {
			t.Errorf("the output misses %q:\n%s", p, output)
		}
	}
}

func TestCLI(t *testing.T) {
	t.Run("Usage", func(t *testing.T) {
		out, code := runEdged(t, "help")
		wantAll(t, out, "serve", "daprd", "status")
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		if out, code := runEdged(t, "fly"); code != 2 || !strings.Contains(out, `no command "fly"`) {
			t.Errorf("%d %s", code, out)
		}
		if out, code := runEdged(t, "serve", "--nonsense"); code != 2 {
			t.Errorf("%d %s", code, out)
		}
	})
	t.Run("Version", func(t *testing.T) {
		if out, code := runEdged(t, "version"); code != 0 || !strings.HasPrefix(out, "edged ") {
			t.Errorf("%d %s", code, out)
		}
	})
	t.Run("StatusWithoutDaemon", func(t *testing.T) {
		d := newDevice(t, "apps: []\n", "")
		out, code := runEdged(t, "status", "--config", d.config)
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
		wantAll(t, out, "admin.sock", "is edged running")
	})
}

func TestCheck_AllFaultsAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "edged.yaml")
	text := `device: Gateway.17
dat: /var/lib/edged
limits: {maxBodySize: a lot}
apps:
  - id: orders
    listen: {http: "3500"}
  - id: orders
    channel: {protocol: smoke}
topics:
  - {match: "", whenFull: explode}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "serve"} {
		out, code := runEdged(t, command, "--config", file)
		if code != 1 {
			t.Errorf("%s: exit code %d", command, code)
		}
		wantAll(t, out, file+":2:", "dat", "data", // an unknown field, with the field that was meant
			file+":1:", "Gateway.17", file+":3:", "a lot", file+":6:", "3500", file+":7:", "used twice", file+":8:", "smoke", file+":10:", "explode")
	}
}

func TestServe_WhatIsTaken(t *testing.T) {
	t.Run("DataFolder", func(t *testing.T) {
		d := newDevice(t, "apps: [{id: app}]\n", "")
		d.start("app")
		other := filepath.Join(t.TempDir(), "edged.yaml")
		text := "device: other\ndata: " + d.folder + "/data\nrun: " + t.TempDir() + "\n"
		if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, code := runEdged(t, "serve", "--config", other)
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
		wantAll(t, out, d.folder+"/data", "process")
	})
	t.Run("SocketInUse", func(t *testing.T) {
		d := newDevice(t, "apps: [{id: app}]\n", "")
		if err := os.MkdirAll(filepath.Join(d.folder, "run"), 0o755); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", d.socket("app"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out, code := runEdged(t, "serve", "--config", d.config)
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
		wantAll(t, out, d.socket("app"), "in use by process")
	})
	t.Run("SocketPathIsAFile", func(t *testing.T) {
		d := newDevice(t, "apps: [{id: app}]\n", "")
		if err := os.MkdirAll(filepath.Join(d.folder, "run"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.socket("app"), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, code := runEdged(t, "serve", "--config", d.config)
		if b, err := os.ReadFile(d.socket("app")); code != 1 || err != nil || string(b) != "precious" {
			t.Errorf("exit code %d, file %q %v", code, b, err)
		}
		wantAll(t, out, "not a socket")
	})
	t.Run("StaleSocketIsReplaced", func(t *testing.T) {
		d := newDevice(t, "apps: [{id: app}]\n", "")
		d.start("app")
		d.kill() // leaves its socket behind
		d.start("app")
		d.stop()
	})
	t.Run("Port", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		d := newDevice(t, "apps: [{id: app, listen: {http: \""+l.Addr().String()+"\"}}]\n", "")
		out, code := runEdged(t, "serve", "--config", d.config)
		if code != 1 {
			t.Errorf("exit code %d", code)
		}
		wantAll(t, out, l.Addr().String(), "the port is taken", "by process")
	})
}

func TestRun_PrivateDaemon(t *testing.T) {
	d := newDevice(t, "", "")
	out, code := runEdged(t, "run", "--config", d.config, "--app-id", "mine", "--", "sh", "-c", `test -S "$EDGED_SOCKET" && echo "id=$APP_ID http=$DAPR_HTTP_ENDPOINT"; exit 7`)
	wantAll(t, out, "id=mine http=http://127.0.0.1:")
	if code != 7 {
		t.Errorf("exit code %d, want the command's", code)
	}
}

func TestRun_AttachesForTheCommandsLife(t *testing.T) {
	d := newDevice(t, "apps: [{id: app}]\n", "")
	d.start("app")
	out, code := runEdged(t, "run", "--config", d.config, "--app-id", "mine", "--", "sh", "-c", "ls "+d.folder+"/run")
	if code != 0 || !strings.Contains(out, "mine.sock") {
		t.Errorf("%d %s", code, out)
	}
	if out, code := runEdged(t, "run", "--config", d.config, "--app-id", "app", "--", "true"); code != 1 || !strings.Contains(out, "served already") {
		t.Errorf("%d %s", code, out)
	}
	d.eventually(5*time.Second, "the application is detached", func() error {
		_, err := os.Stat(d.socket("mine"))
		if err == nil {
			return os.ErrExist
		}
		return nil
	})
	status, code := runEdged(t, "status", "--config", d.config)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantAll(t, status, "test-device", "statestore", "pubsub.durable")
	d.stop()
}
