package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// The test binary is edged-hub when this is set.
const asHub = "EDGED_HUB_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asHub) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asHub+"=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func TestMain_Exit(t *testing.T) {
	dir := t.TempDir()
	faulty := filepath.Join(dir, "faulty.yaml")
	if err := os.WriteFile(faulty, []byte("listen: {nats: '0.0.0.0:1'}\nevents: {maxAge: soon}\nstrange: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"--help"}, 0, []string{"edged-hub provision", "-devices"}},
		{[]string{"version"}, 0, []string{"edged-hub "}},
		{[]string{"check"}, 0, []string{"the configuration is right"}},
		{[]string{"nonsense"}, 2, []string{"there is no command"}},
		{[]string{"--nonsense"}, 2, []string{"nonsense"}},
		{[]string{"run", "extra"}, 2, []string{"unexpected argument"}},
		{[]string{"provision"}, 2, []string{"needs --url"}},
		{[]string{"--config", filepath.Join(dir, "absent.yaml")}, 1, []string{"read configuration"}},
		{[]string{"--config", faulty}, 1, []string{"faulty.yaml:1: listen.nats", "faulty.yaml:2: events.maxAge", "faulty.yaml:3: strange"}},
		{[]string{"--listen", "0.0.0.0:0"}, 1, []string{"no credentials"}},
		{[]string{"check", "--devices", faulty}, 1, []string{"faulty.yaml"}},
	} {
		cmd, out := command(c.args...)
		err := cmd.Run()
		if cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%v: %v, want exit code %d:\n%s", c.args, err, c.code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: %q is not in\n%s", c.args, want, out)
			}
		}
	}
}

// It runs on embedded defaults, and Ctrl-C ends it cleanly.
func TestMain_Run(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, out := command("--data", filepath.Join(t.TempDir(), "data"), "--listen", addr, "--websocket", "127.0.0.1:0", "--mqtt", "127.0.0.1:0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect("nats://"+addr, nats.RetryOnFailedConnect(true), nats.MaxReconnects(500), nats.ReconnectWait(20*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.FlushTimeout(20 * time.Second); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		nc.Close()
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v\n%s", sig, err, out)
		}
	}
}
