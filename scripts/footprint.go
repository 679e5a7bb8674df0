//go:build ignore

// Command footprint measures what a running edged costs on this machine, against the budget in ARCHITECTURE.md: time and
// CPU time from exec to ready, idle memory, memory after load, and memory per further application. State, pub/sub, an MQTT
// bridge and an upstream are configured; the broker and the upstream are not there, as on a device that is offline.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	runs     = 7  // starts; medians are reported
	moreApps = 20 // further applications
	requests = 10_000
	settle   = 2 * time.Second // of idling before memory is read
)

func main() {
	binary := flag.String("edged", "bin/edged", "binary to measure")
	flag.Parse()
	if err := measure(*binary); err != nil {
		fmt.Fprintln(os.Stderr, "footprint:", err)
		os.Exit(1)
	}
}

func measure(binary string) error {
	dir, err := os.MkdirTemp("", "edged-footprint-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var ready, cpu []float64
	for i := range runs {
		e, err := start(binary, filepath.Join(dir, "data"), filepath.Join(dir, fmt.Sprint("run", i)), 1)
		if err != nil {
			return err
		}
		ready, cpu = append(ready, ms(e.ready)), append(cpu, ms(e.cpu))
		if err := e.stop(); err != nil {
			return err
		}
	}
	one, err := idle(binary, filepath.Join(dir, "one"), 1, true)
	if err != nil {
		return err
	}
	many, err := idle(binary, filepath.Join(dir, "many"), 1+moreApps, false)
	if err != nil {
		return err
	}
	perApp := (many.idle.anonymous - one.idle.anonymous) / moreApps * 1000

	var r report
	r.figure("cold start, exec to ready", "ms", median(ready), 0, 0)
	r.figure("CPU time, exec to ready", "ms", median(cpu), 20, 8)
	r.figure("idle resident", "MB", one.idle.resident, 20, 12)
	r.figure("idle anonymous", "MB", one.idle.anonymous, 5, 2.5)
	r.figure(fmt.Sprintf("anonymous after %d requests", requests), "MB", one.loaded.anonymous, 8, 4.5)
	r.figure("anonymous per further application", "kB", perApp, 150, 50)
	fmt.Print(r.text.String())
	if r.over > 0 {
		return fmt.Errorf("%d figures are over the gate", r.over)
	}
	return nil
}

// report prints figures beside their gates and goals.
type report struct {
	text bytes.Buffer
	over int
}

func (r *report) figure(name, unit string, value, gate, goal float64) {
	fmt.Fprintf(&r.text, "%-36s %8.2f %s", name, value, unit)
	if gate > 0 {
		verdict := "ok"
		switch {
		case value > gate:
			verdict = "OVER THE GATE"
			r.over++
		case value <= goal:
			verdict = "goal reached"
		}
		fmt.Fprintf(&r.text, "   gate %g, goal %g: %s", gate, goal, verdict)
	}
	r.text.WriteByte('\n')
}

// memory is what the kernel says of a process (proc_pid_smaps_rollup), in MB of 10^6 bytes.
type memory struct{ resident, anonymous float64 }

type figures struct{ idle, loaded memory }

// idle starts edged, lets it idle, loads it if asked, and reads its memory each time.
func idle(binary, dir string, apps int, load bool) (f figures, err error) {
	e, err := start(binary, filepath.Join(dir, "data"), filepath.Join(dir, "run"), apps)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, e.stop()) }()
	time.Sleep(settle)
	if f.idle, err = e.memory(); err != nil || !load {
		return f, err
	}
	if err := e.load(); err != nil {
		return f, err
	}
	time.Sleep(settle)
	f.loaded, err = e.memory()
	return f, err
}

// process is an edged that runs.
type process struct {
	cmd    *exec.Cmd
	run    string
	ready  time.Duration
	cpu    time.Duration
	stderr bytes.Buffer
}

// start runs edged until it says that it is ready, in systemd's way (sd_notify(3)).
func start(binary, data, run string, apps int) (*process, error) {
	if err := os.MkdirAll(run, 0o755); err != nil {
		return nil, err
	}
	config := filepath.Join(run, "edged.yaml")
	if err := os.WriteFile(config, []byte(configuration(data, run, apps)), 0o600); err != nil {
		return nil, err
	}
	address := filepath.Join(run, "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	e := &process{cmd: exec.Command(binary, "serve", "--config", config), run: run}
	e.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+address)
	e.cmd.Stderr = &e.stderr
	began := time.Now()
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	message := make([]byte, 4096)
	for {
		if err := notify.SetReadDeadline(began.Add(20 * time.Second)); err != nil {
			return nil, err
		}
		n, err := notify.Read(message)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("edged did not become ready: %w\n%s", err, &e.stderr), e.cmd.Process.Kill(), e.cmd.Wait())
		}
		if strings.Contains(string(message[:n]), "READY=1") {
			break
		}
	}
	e.ready = time.Since(began)
	e.cpu, err = e.cpuTime()
	return e, err
}

func configuration(data, run string, apps int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "device: footprint\ndata: %s\nrun: %s\nresources: []\napps:\n", data, run)
	for i := range apps {
		fmt.Fprintf(&b, "  - {id: app%d}\n", i)
	}
	b.WriteString(`topics:
  - {match: "#", maxBytes: 64MiB, maxAge: 24h, whenFull: drop-oldest}
bridges:
  - {name: plant, broker: "mqtt://127.0.0.1:1", out: [{topics: "sensors/#", prefix: "plant/"}]}
upstream:
  url: nats://127.0.0.1:1
  events: [{topics: "sensors/#", lane: telemetry}]
  state: [{store: statestore, owner: device}]
`)
	return b.String()
}

// cpuTime sums what the scheduler gave to the threads that exist.
func (e *process) cpuTime() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", e.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("no schedstat: %w", err)
	}
	var sum time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has just ended
		}
		running, _, _ := strings.Cut(string(data), " ")
		ns, err := strconv.ParseInt(running, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

func (e *process) memory() (m memory, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", e.cmd.Process.Pid))
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64) // the first line is a header
		switch fields[0] {
		case "Rss:":
			m.resident = kib * 1024 / 1e6
		case "Anonymous:":
			m.anonymous = kib * 1024 / 1e6
		}
	}
	return m, nil
}

// load saves, reads and publishes over the application's socket, eight at a time.
func (e *process) load() error {
	socket := filepath.Join(e.run, "app0.sock")
	client := &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 8,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	defer client.CloseIdleConnections()
	errs := make(chan error, 8)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range requests / 8 {
				if err := one(client, w, i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func one(client *http.Client, worker, i int) error {
	value := strings.Repeat("x", 256)
	var err error
	var resp *http.Response
	switch i % 3 {
	case 0:
		body := fmt.Sprintf(`[{"key":"k%d-%d","value":%q}]`, worker, i%100, value)
		resp, err = client.Post("http://edged/v1.0/state/statestore", "application/json", strings.NewReader(body))
	case 1:
		resp, err = client.Get(fmt.Sprintf("http://edged/v1.0/state/statestore/k%d-%d", worker, i%100))
	default:
		resp, err = client.Post("http://edged/v1.0/publish/pubsub/load", "application/json", strings.NewReader(strconv.Quote(value)))
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return err
}

func (e *process) stop() error {
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.AfterFunc(20*time.Second, func() { _ = e.cmd.Process.Kill() })
	defer timer.Stop()
	if err := e.cmd.Wait(); err != nil {
		return fmt.Errorf("stop edged: %w\n%s", err, &e.stderr)
	}
	return nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
