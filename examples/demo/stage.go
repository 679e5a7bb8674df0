package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
)

// stage is all that plays: processes, the two links that can be cut, and who watches the far ends.
type stage struct {
	root, folder string
	procs        []*exec.Cmd
	edged        *exec.Cmd
	sensor       *exec.Cmd
	links        []*link
	watcher      mqtt.Client
	inMosquitto  *tally
	hub          *nats.Conn
	ports        struct{ mosquitto, hub, http, grpc, app int }
}

// report is what the sensor says at its end.
type report struct {
	Published int `json:"published"`
	Retries   int `json:"retries"`
}

func (s *stage) open(ctx context.Context) error {
	for _, p := range []*int{&s.ports.mosquitto, &s.ports.hub, &s.ports.http, &s.ports.grpc, &s.ports.app} {
		port, err := freePort()
		if err != nil {
			return err
		}
		*p = port
	}
	for _, step := range []func(context.Context) error{s.startMosquitto, s.startHub, s.openLinks, s.startEdged, s.startAggregator, s.startSensor} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) startMosquitto(ctx context.Context) error {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nmax_queued_messages 0\n",
		s.ports.mosquitto, s.folder)
	if err := os.WriteFile(s.file("mosquitto.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	args := []string{"-c", s.file("mosquitto.conf")}
	if os.Geteuid() == 0 {
		// mosquitto would change to a user of its own, who cannot write here.
		if err := os.WriteFile(s.file("mosquitto.conf"), []byte(conf+"user root\n"), 0o600); err != nil {
			return err
		}
	}
	if _, err := s.start(nil, "mosquitto", path, args...); err != nil {
		return fmt.Errorf("start mosquitto (Debian package mosquitto): %w", err)
	}
	if err := reachable(ctx, s.ports.mosquitto); err != nil {
		return err
	}
	s.inMosquitto = newTally()
	opts := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", s.ports.mosquitto)).SetClientID("ledger").SetCleanSession(false)
	opts.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { s.inMosquitto.addEvent(m.Payload()) })
	s.watcher = mqtt.NewClient(opts)
	if t := s.watcher.Connect(); !t.WaitTimeout(10*time.Second) || t.Error() != nil {
		return fmt.Errorf("watch mosquitto: %w", t.Error())
	}
	if t := s.watcher.Subscribe("plant1/#", 1, nil); !t.WaitTimeout(10*time.Second) || t.Error() != nil {
		return fmt.Errorf("watch mosquitto: %w", t.Error())
	}
	return nil
}

func (s *stage) startHub(ctx context.Context) error {
	conf := fmt.Sprintf("data: %s\nlisten: {nats: \"127.0.0.1:%d\", websocket: \"\"}\n", s.file("hub"), s.ports.hub)
	if err := os.WriteFile(s.file("hub.yaml"), []byte(conf), 0o600); err != nil {
		return err
	}
	if _, err := s.start(nil, "hub", filepath.Join(s.root, "bin/edged-hub"), "--config", s.file("hub.yaml")); err != nil {
		return err
	}
	if err := reachable(ctx, s.ports.hub); err != nil {
		return err
	}
	var err error
	s.hub, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", s.ports.hub))
	return err
}

func (s *stage) openLinks(context.Context) error {
	for _, port := range []int{s.ports.mosquitto, s.ports.hub} {
		l, err := newLink(fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		s.links = append(s.links, l)
	}
	return nil
}

func (s *stage) startEdged(ctx context.Context) error {
	conf := fmt.Sprintf(`device: %[1]s
data: %[2]s/data
run: %[2]s/run
apps:
  - id: sensor
  - id: aggregator
    listen: {http: "127.0.0.1:%[3]d", grpc: "127.0.0.1:%[4]d"}
    channel: {address: "127.0.0.1:%[5]d", protocol: http}
topics:
  - {match: "#", maxBytes: 256MiB, maxAge: 24h, whenFull: reject}
bridges:
  - name: plant
    broker: "mqtt://%[6]s"
    out: [{topics: "sensors/#", prefix: "plant1/", qos: 1}]
upstream:
  url: "nats://%[7]s"
  events: [{topics: "sensors/#", lane: telemetry}]
  state: [{store: statestore, owner: device}]
`, device, s.folder, s.ports.http, s.ports.grpc, s.ports.app, s.links[0].address(), s.links[1].address())
	if err := os.WriteFile(s.file("edged.yaml"), []byte(conf), 0o600); err != nil {
		return err
	}
	var err error
	if s.edged, err = s.start(nil, "edged", filepath.Join(s.root, "bin/edged"), "serve", "--config", s.file("edged.yaml")); err != nil {
		return err
	}
	return healthy(ctx, s.ports.http)
}

func (s *stage) startAggregator(ctx context.Context) error {
	if _, err := os.Stat("node_modules"); err != nil {
		return fmt.Errorf("%w: `make demo` installs the JavaScript SDK", err)
	}
	env := []string{
		"LEDGER=" + s.file("delivered"), fmt.Sprintf("APP_PORT=%d", s.ports.app),
		fmt.Sprintf("DAPR_HTTP_PORT=%d", s.ports.http), fmt.Sprintf("DAPR_GRPC_PORT=%d", s.ports.grpc),
	}
	if _, err := s.start(env, "aggregator", "node", "demo/aggregator/app.mjs"); err != nil {
		return err
	}
	return reachable(ctx, s.ports.app)
}

func (s *stage) startSensor(ctx context.Context) error {
	bin := s.file("sensor")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "./demo/sensor").CombinedOutput(); err != nil {
		return fmt.Errorf("build the sensor: %w\n%s", err, out)
	}
	var err error
	s.sensor, err = s.start(nil, "sensor-app", bin, "--socket", s.file("run/sensor.sock"))
	return err
}

// start runs a program whose output goes to <name>.log in the demo's folder.
func (s *stage) start(env []string, name, path string, args ...string) (*exec.Cmd, error) {
	out, err := os.OpenFile(s.file(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.procs = append(s.procs, cmd)
	return cmd, nil
}

func (s *stage) cut() {
	for _, l := range s.links {
		l.cut()
	}
}

func (s *stage) restore() {
	for _, l := range s.links {
		l.restore()
	}
}

func (s *stage) killEdged(ctx context.Context) error {
	if err := s.edged.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := s.edged.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	s.procs = slices.DeleteFunc(s.procs, func(c *exec.Cmd) bool { return c == s.edged })
	return s.startEdged(ctx)
}

func (s *stage) stopSensor() (report, error) {
	var r report
	if err := s.sensor.Process.Signal(syscall.SIGTERM); err != nil {
		return r, err
	}
	if err := s.sensor.Wait(); err != nil {
		return r, fmt.Errorf("sensor: %w", err)
	}
	s.procs = slices.DeleteFunc(s.procs, func(c *exec.Cmd) bool { return c == s.sensor })
	line, err := lastLine(s.file("sensor-app.log"))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(line, &r)
}

// close stops everything, newest first, and waits.
func (s *stage) close() error {
	if s.watcher != nil {
		s.watcher.Disconnect(100)
	}
	if s.hub != nil {
		s.hub.Close()
	}
	for _, p := range slices.Backward(s.procs) {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			continue // it has ended already
		}
		timer := time.AfterFunc(15*time.Second, func() { _ = p.Process.Kill() })
		_ = p.Wait() // a program that was told to end may report that it was
		timer.Stop()
	}
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

func healthy(ctx context.Context, port int) error {
	url := fmt.Sprintf("http://127.0.0.1:%d/v1.0/healthz/outbound", port)
	return poll(ctx, fmt.Sprintf("edged is ready on port %d", port), func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusNoContent
	})
}

func reachable(ctx context.Context, port int) error {
	return poll(ctx, fmt.Sprintf("port %d is open", port), func() bool {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func poll(ctx context.Context, what string, ok func() bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited too long until %s", what)
		}
		if err := wait(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}
