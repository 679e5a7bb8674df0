package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func (d *device) hangup() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		d.t.Fatal(err)
	}
}

// logged waits until the log has a text n times.
func (d *device) logged(text string, n int) {
	d.t.Helper()
	d.eventually(pollLong, fmt.Sprintf("%q in the log", text), func() error {
		b, err := os.ReadFile(d.logFile())
		if err == nil && bytes.Count(b, []byte(text)) < n {
			err = fmt.Errorf("seen %d times", bytes.Count(b, []byte(text)))
		}
		return err
	})
}

func (d *device) rewrite(old, replacement string) {
	d.t.Helper()
	b, err := os.ReadFile(d.config)
	if err == nil {
		err = os.WriteFile(d.config, bytes.Replace(b, []byte(old), []byte(replacement), 1), 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) answers(app string) {
	d.t.Helper()
	c := unixClient(d.socket(app))
	defer c.CloseIdleConnections()
	d.eventually(pollLong, app+" is served", func() error {
		resp, err := c.Get("http://edged/v1.0/healthz")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

func TestServe_Reload(t *testing.T) {
	d := newDevice(t, "apps: [{id: app}]\n", "")
	d.start("app")

	d.rewrite("apps: [{id: app}]", "apps: [{id: app}, {id: second}]")
	d.hangup()
	d.answers("second")
	d.answers("app")

	d.rewrite("{id: second}", "{id: second, nonsense: 1}")
	d.hangup()
	d.logged("the running configuration stays", 1)
	d.answers("second")

	// What only shows when it is started.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d.rewrite("{id: second, nonsense: 1}", "{id: third, listen: {http: \""+l.Addr().String()+"\"}}")
	d.hangup()
	d.logged("the configuration before goes on", 1)
	d.answers("second")
	d.stop()
}

// TestRun_StaysAttached lets the daemon reload, die and come back under an application of `edged run`.
func TestRun_StaysAttached(t *testing.T) {
	d := newDevice(t, "apps: [{id: app}]\n", "")
	d.start("app")
	var out bytes.Buffer
	cmd := exec.Command(edgedBinary, "run", "--config", d.config, "--app-id", "mine", "--", "cat")
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	d.answers("mine")
	d.hangup()
	d.logged(`msg="application attached" app=mine`, 2)
	d.answers("mine")
	d.kill()
	d.start("app")
	d.answers("mine")
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, out.Bytes())
	}
	d.stop()
}

func TestRun_ExitCodeOfASignal(t *testing.T) {
	d := newDevice(t, "", "")
	if out, code := runEdged(t, "run", "--config", d.config, "--app-id", "mine", "--", "sh", "-c", "kill -KILL $$"); code != 128+9 {
		t.Errorf("exit code %d\n%s", code, out)
	}
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

func TestDaprd_CommandLine(t *testing.T) {
	if out, code := runEdged(t, "daprd", "--help"); code != 0 {
		t.Errorf("help: exit code %d\n%s", code, out)
	}
	for _, args := range [][]string{{}, {"--app-id", "a", "--no-such-flag"}, {"--app-id", "a", "--app-port", "many"}, {"--app-id", "a", "--log-level", "loud"}} {
		if out, code := runEdged(t, append([]string{"daprd"}, args...)...); code != 1 {
			t.Errorf("%v: exit code %d\n%s", args, code, out)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := runEdged(t, "daprd", "--app-id", "a", "--data-dir", file+"/data"); code != 1 || !strings.Contains(out, file) {
		t.Errorf("a data folder that cannot be made: exit code %d\n%s", code, out)
	}
}

// TestDaprd_AllFlags starts with every flag that daprd has, on sockets and on both loopback addresses, and stops.
func TestDaprd_AllFlags(t *testing.T) {
	folder := t.TempDir()
	for i := range 2 {
		if err := os.WriteFile(fmt.Sprintf("%s/config%d.yaml", folder, i), fmt.Appendf(nil, "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {name: c%d}\nspec: {}\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	common := []string{
		"daprd", "--app-id=a", "--app-protocol=http", "--app-channel-address=127.0.0.1", "--app-max-concurrency=2", "--app-health-check-path=/h",
		"--app-health-probe-interval=5", "--app-health-probe-timeout=500", "--app-health-threshold=3", "--enable-app-health-check=false",
		"--dapr-internal-grpc-listen-address=127.0.0.1", "--dapr-public-listen-address=127.0.0.1",
		"--resources-path=" + t.TempDir(), "--resources-path=" + t.TempDir(), "--log-level=info", "--log-as-json=false", "--enable-api-logging",
		"--metrics-port=" + freePort(t), "--metrics-listen-address=127.0.0.1", "--enable-metrics=true", "--profile-port=" + freePort(t), "--enable-profiling",
		"--placement-host-address= ", "--scheduler-host-address=''", "--mode=standalone", "--enable-mtls=false", "--sentry-address=x", "--control-plane-address=x",
		"--max-body-size=4Mi", "--read-buffer-size=4Ki", "--dapr-graceful-shutdown-seconds=1", "--dapr-block-shutdown-duration=0s",
		"--app-binding-options-timeout=1s", "--allowed-origins=*", "--disable-init-endpoints=config,subscribe", "--disable-builtin-k8s-secret-store",
		"--actors-disseminate-timeout=1s", "--hot-reload-reconcile-interval=1s", "--runtime-path=/x", "--data-dir=" + folder + "/data",
		"--config=" + folder + "/config0.yaml", "--config=" + folder + "/config1.yaml",
	}
	internal, http, grpc := freePort(t), freePort(t), freePort(t)
	for _, c := range []struct {
		name   string
		args   []string
		listen [][2]string
	}{
		{"Sockets", []string{"--unix-domain-socket=" + folder}, [][2]string{{"unix", folder + "/dapr-a-http.socket"}, {"unix", folder + "/dapr-a-grpc.socket"}}},
		{"Ports", []string{"--dapr-listen-addresses=[::1],127.0.0.1", "--dapr-http-port=" + http, "--dapr-grpc-port=" + grpc},
			[][2]string{{"tcp", "127.0.0.1:" + http}, {"tcp", "[::1]:" + http}, {"tcp", "127.0.0.1:" + grpc}, {"tcp", "[::1]:" + grpc}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &device{t: t, folder: t.TempDir()}
			out, err := os.Create(d.logFile())
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			public := freePort(t)
			args := append(common[:len(common):len(common)], "--dapr-internal-grpc-port="+internal, "--dapr-public-port="+public)
			d.cmd = exec.Command(edgedBinary, append(args, c.args...)...)
			d.cmd.Stdout, d.cmd.Stderr, d.cmd.Env = out, out, []string{}
			if err := d.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmd, exited := d.cmd, make(chan error, 1)
			go func() { exited <- cmd.Wait() }()
			d.exited = exited
			t.Cleanup(d.kill)
			for _, l := range append(c.listen, [2]string{"tcp", "127.0.0.1:" + internal}, [2]string{"tcp", "127.0.0.1:" + public}) {
				d.eventually(20*time.Second, l[1]+" is listened on", func() error {
					conn, err := net.Dial(l[0], l[1])
					if err != nil {
						return err
					}
					return conn.Close()
				})
			}
			d.stop()
			b, err := os.ReadFile(d.logFile())
			if err != nil {
				t.Fatal(err)
			}
			wantAll(t, string(b), "app_id=a", "Daprd shutdown gracefully")
		})
	}
}

// TestServe_ForcedStop asks twice: calls under way are not waited for, and the exit code says so.
func TestServe_ForcedStop(t *testing.T) {
	d := newDevice(t, "apps: [{id: app}]\n", "")
	d.start("app")
	conn, err := net.Dial("unix", d.socket("app"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A call under way: edged asks for its body, which never comes.
	if _, err := conn.Write([]byte("POST /v1.0/state/statestore HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if asked, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(asked, "100 Continue") {
		t.Fatal(asked, err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	d.logged("Dapr is shutting down", 1)
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-d.exited:
		if code := d.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("exit code %d (%v), want 1", code, err)
		}
	case <-time.After(20 * time.Second):
		t.Error("edged did not end")
		d.kill()
	}
	d.cmd = nil
}
