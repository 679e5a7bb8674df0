package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged-io/edged/hub"
	edgesync "github.com/edged-io/edged/sync"
)

// upstream is a running upstream to test against: the hub, or a cluster.
type upstream struct {
	url         string
	replicas    int
	admin       *nats.Conn
	js          jetstream.JetStream
	count       *atomic.Int64                       // of device ids given out
	duplicates  time.Duration                       // how long message ids are remembered
	kill        func(t testing.TB) (restart func()) // kill -9 of the server that matters most
	backup      func(t testing.TB) (restore func()) // copies all folders; restore puts them back
	openBatches int                                 // that a stream allows
}

// deviceID returns an id that no other test on this upstream uses.
func (u upstream) deviceID() string { return fmt.Sprintf("dev%d", u.count.Add(1)) }

func (u upstream) config(url string) edgesync.Config {
	cfg := edgesync.DefaultConfig()
	cfg.URL = url
	cfg.Events = []edgesync.EventRule{{Topics: "alarms/#", Lane: "alarm"}, {Topics: "#", Lane: "telemetry"}}
	cfg.State = []edgesync.StateRule{{Prefix: "config/", Owner: edgesync.OwnerCloud}, {Owner: edgesync.OwnerDevice}}
	cfg.Backoff = edgesync.Backoff{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond}
	cfg.Timeout = 2 * time.Second
	return cfg
}

func newUpstream(t testing.TB, url string, replicas int, opts ...nats.Option) upstream {
	t.Helper()
	u := upstream{url: url, replicas: replicas, duplicates: duplicateWindow, count: new(atomic.Int64)}
	u.admin, u.js = connectAdmin(t, url, opts...)
	return u
}

// provision creates the stream and the bucket, or waits until they are there.
func (u upstream) provision(t testing.TB) {
	t.Helper()
	cfg := hub.DefaultConfig()
	cfg.Events.Duplicates = duplicateWindow
	eventually(t, "the upstream takes streams", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return hub.Provision(ctx, u.admin, cfg, u.replicas) == nil
	})
}

func connectAdmin(t testing.TB, url string, opts ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.RetryOnFailedConnect(true))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// duplicateWindow is short, so that tests outlast it.
const duplicateWindow = 500 * time.Millisecond

func hubConfig(t testing.TB) hub.Config {
	cfg := hub.DefaultConfig()
	cfg.Events.Duplicates = duplicateWindow
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.Listen = hub.ListenConfig{NATS: "127.0.0.1:" + strconv.Itoa(freePort(t))}
	return cfg
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// openHub runs a hub inside the test.
func openHub(t testing.TB, cfg hub.Config) *hub.Hub {
	t.Helper()
	h, err := hub.Open(t.Context(), cfg, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// withHub runs the built edged-hub as a process.
func withHub(t testing.TB) upstream {
	p := &process{t: t, cfg: hubConfig(t)}
	p.start()
	t.Cleanup(p.kill)
	u := newUpstream(t, p.url(), 1)
	u.provision(t)
	u.backup = func(t testing.TB) func() {
		p.kill()
		copyTree(t, p.cfg.Data, p.cfg.Data+".backup")
		p.start()
		return func() {
			p.kill()
			copyTree(t, p.cfg.Data+".backup", p.cfg.Data)
			p.start()
		}
	}
	u.kill = func(testing.TB) func() {
		p.kill()
		return p.start
	}
	return u
}

// process is edged-hub as a process.
type process struct {
	t   testing.TB
	cfg hub.Config
	cmd *exec.Cmd
}

func (p *process) url() string { return "nats://" + p.cfg.Listen.NATS }

func (p *process) start() {
	p.t.Helper()
	conf := fmt.Sprintf("data: %q\nlisten: {nats: %q, websocket: \"\"}\nlog: {level: error}\nevents: {duplicates: %s}\ndevices: %q\n",
		p.cfg.Data, p.cfg.Listen.NATS, p.cfg.Events.Duplicates, p.cfg.Devices)
	file := filepath.Join(filepath.Dir(p.cfg.Data), "hub.yaml")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(buildTool(p.t, "edged-hub", "github.com/edged-io/edged/cmd/edged-hub"), "--config", file)
	p.cmd.Stderr = os.Stderr
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	waitPort(p.t, p.cfg.Listen.NATS)
}

func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may be gone already
	_ = p.cmd.Wait()         // a killed process has no good exit code
	p.cmd = nil
}

func waitPort(t testing.TB, addr string) {
	t.Helper()
	eventually(t, "a server on "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// buildTool builds a main package once per test run, into a folder of the project's cache that the go command keeps fresh.
func buildTool(t testing.TB, name, pkg string) string {
	t.Helper()
	buildLock.Lock()
	defer buildLock.Unlock()
	root, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(filepath.Dir(strings.TrimSpace(string(root))), ".cache", "test", name)
	if built[name] {
		return out
	}
	cmd := exec.Command("go", "build", "-tags", "grpcnotrace", "-o", out, pkg)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
	built[name] = true
	return out
}

var (
	buildLock sync.Mutex
	built     = map[string]bool{}
)

// withCluster runs three NATS servers as processes, with R3 streams.
func withCluster(t testing.TB) upstream {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	for range 3 {
		c.client = append(c.client, freePort(t))
		c.routes = append(c.routes, freePort(t))
	}
	c.cmds = make([]*exec.Cmd, 3)
	for i := range 3 {
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range 3 {
			c.kill(i)
		}
	})
	u := newUpstream(t, c.url(), 3)
	u.openBatches = 50
	u.provision(t)
	all := func(fn func(i int)) {
		for i := range 3 {
			fn(i)
		}
	}
	u.backup = func(t testing.TB) func() {
		all(c.kill)
		copyTree(t, c.dir, c.dir+".backup")
		all(c.start)
		return func() {
			all(c.kill)
			copyTree(t, c.dir+".backup", c.dir)
			all(c.start)
		}
	}
	u.kill = func(t testing.TB) func() {
		i := c.leader(u.js)
		c.kill(i)
		return func() { c.start(i) }
	}
	return u
}

type cluster struct {
	t      testing.TB
	dir    string
	client []int
	routes []int
	cmds   []*exec.Cmd
}

func (c *cluster) url() string {
	var urls []string
	for _, p := range c.client {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	return strings.Join(urls, ",")
}

func (c *cluster) start(i int) {
	c.t.Helper()
	var routes []string
	for _, p := range c.routes {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	conf := fmt.Sprintf("server_name: n%d\nlisten: 127.0.0.1:%d\njetstream { store_dir: %q }\ncluster { name: c, no_advertise: true, listen: 127.0.0.1:%d, routes: [%s] }\n",
		i, c.client[i], filepath.Join(c.dir, "n"+strconv.Itoa(i)), c.routes[i], strings.Join(routes, ", "))
	file := filepath.Join(c.dir, fmt.Sprintf("n%d.conf", i))
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(buildTool(c.t, "nats-server", "github.com/nats-io/nats-server/v2"), "-c", file, "-l", file+".log")
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.cmds[i] = cmd
	waitPort(c.t, fmt.Sprintf("127.0.0.1:%d", c.client[i]))
}

func (c *cluster) kill(i int) {
	if c.cmds[i] == nil {
		return
	}
	_ = c.cmds[i].Process.Kill() // it may be gone already
	_ = c.cmds[i].Wait()         // a killed process has no good exit code
	c.cmds[i] = nil
}

// leader is the server that leads the event stream.
func (c *cluster) leader(js jetstream.JetStream) int {
	leader := -1
	eventually(c.t, "the stream has a leader", func() bool {
		s, err := js.Stream(context.Background(), "EDGED_EV")
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		_, err = fmt.Sscanf(s.CachedInfo().Cluster.Leader, "n%d", &leader)
		return err == nil
	})
	return leader
}

// stored is what lies in the event stream for a device, in its order.
type stored struct {
	Subject, MsgID string
	Body           []byte
	Seq            uint64
}

// events reads all of a device's messages in the stream with a plain NATS client; cursors are left out.
func (u upstream) events(t testing.TB, device string) []stored {
	t.Helper()
	var out []stored
	eventually(t, "the stream can be read", func() bool { // a cluster may be electing
		var err error
		out, err = u.tryEvents(device)
		return err == nil
	})
	return out
}

func (u upstream) tryEvents(device string) ([]stored, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s, err := u.js.Stream(ctx, "EDGED_EV")
	if err != nil {
		return nil, err
	}
	c, err := s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: "ev." + device + ".>", AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	var out []stored
	for left := c.CachedInfo().NumPending; left > 0; {
		batch, err := c.FetchNoWait(1000)
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return nil, err
			}
			if left = meta.NumPending; strings.HasPrefix(m.Subject(), "ev."+device+"._cur.") {
				continue
			}
			out = append(out, stored{Subject: m.Subject(), MsgID: m.Headers().Get("Nats-Msg-Id"), Body: m.Data(), Seq: meta.Sequence.Stream})
		}
		if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrNoResponders) { // not known everywhere in the cluster yet
			return nil, err
		}
	}
	return out, nil
}

// tally counts what is lost, duplicate or out of order of the numbered events 1..want of a topic.
type tally struct{ Stored, Lost, Duplicate, Disorder int }

func (u upstream) check(t testing.TB, device, topic string, want int) (got tally) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		got = u.look(t, device, topic, want)
		if got.Lost == 0 || time.Now().After(deadline) { // the replica that answers may be behind
			return got
		}
	}
}

func (u upstream) look(t testing.TB, device, topic string, want int) tally {
	t.Helper()
	subject := edgesync.EventSubject(device, topic)
	var out tally
	seen := map[int]bool{}
	last := 0
	for _, e := range u.events(t, device) {
		if e.Subject != subject {
			continue
		}
		var body struct {
			Data struct{ N int } `json:"data"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatalf("%s: %v: %s", e.Subject, err, e.Body)
		}
		n := body.Data.N
		switch {
		case seen[n]:
			out.Duplicate++
		case n < last:
			out.Disorder++
		}
		seen[n] = true
		last = max(last, n)
		out.Stored++
	}
	for n := 1; n <= want; n++ {
		if !seen[n] {
			out.Lost++
		}
	}
	return out
}

// arrived waits until the newest event is upstream, then demands that all are, once and in order.
func (u upstream) arrived(t testing.TB, d *device, topic string, want int) {
	t.Helper()
	lane := "telemetry"
	if strings.HasPrefix(topic, "alarms/") {
		lane = "alarm"
	}
	within(t, 60*time.Second, fmt.Sprintf("%s has %d events of %s upstream", d.id, want, topic), func() bool {
		return d.upTo(lane)
	})
	if got := u.check(t, d.id, topic, want); got != (tally{Stored: want}) {
		t.Errorf("%s %s: %+v, want %d stored and nothing else", d.id, topic, got, want)
	}
}

// upTo reports whether everything in the journal lane of a sync lane is acknowledged.
func (d *device) upTo(lane string) bool {
	for _, l := range d.disk.journal.lanes {
		st := d.sync.Status()
		last := l.Stat().Last
		ok := last == 0
		for _, s := range st.Lanes {
			if strings.HasPrefix(s.Lane, lane+".") && s.Position >= last {
				ok = true
			}
		}
		if lane == "alarm" && l.match != "alarms/#" || lane != "alarm" && l.match == "alarms/#" {
			continue
		}
		if !ok {
			return false
		}
	}
	return true
}

// keys returns the live keys of a device in the bucket: application.key -> value.
func (u upstream) keys(t testing.TB, device string) map[string]string {
	t.Helper()
	var out map[string]string
	eventually(t, "the bucket can be read", func() bool {
		var err error
		out, err = u.tryKeys(device)
		return err == nil
	})
	return out
}

func (u upstream) tryKeys(device string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	kv, err := u.js.KeyValue(ctx, "edged")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	w, err := kv.Watch(ctx, device+".>", jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case e := <-w.Updates():
			if e == nil {
				return out, nil
			}
			out[strings.TrimPrefix(e.Key(), device+".")] = string(e.Value())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), errNotYet)
		}
	}
}
