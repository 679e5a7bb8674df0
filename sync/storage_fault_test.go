package sync_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/edged-io/edged/hub"
)

// The upstream's folders are put back to a copy: it has lost what it acknowledged since. The device sends it again, as far
// as its journal still has it, and says exactly what it has not.
func testUpstreamRolledBack(t *testing.T, u upstream) {
	d := start(t, u.deviceID(), newDisk("#"), u.config(u.url))
	d.publish("t", 1, 300)
	d.disk.store.put("app||a", "1")
	u.arrived(t, d, "t", 300)
	u.sameState(t, d)
	restore := u.backup(t)
	d.publish("t", 301, 800)
	d.disk.store.put("app||b", "1")
	d.disk.store.del("app||a")
	u.arrived(t, d, "t", 800)
	u.sameState(t, d)
	restore()
	d.publish("t", 801, 900)
	eventually(t, "the loss is noticed", func() bool { return d.lane("telemetry").Resent >= 500 })
	eventually(t, "the lane has caught up", func() bool { return d.upTo("telemetry") })
	u.arrived(t, d, "t", 900)
	u.sameState(t, d)
	if !d.alarmed("has lost what it had acknowledged") {
		t.Errorf("no alarm: %+v", d.sync.Status().Alarms)
	}
	if u.replicas > 1 && !long() {
		return // elections take too long
	}
	restore()
	d.disk.journal.lanes[0].cut(400) // the journal has let some go
	d.publish("t", 901, 950)
	eventually(t, "what can not be sent again is told", func() bool { return d.alarmed("301 to 400 can not be sent again") })
	eventually(t, "the rest is sent again", func() bool { return d.upTo("telemetry") && d.lane("telemetry").Lost == 100 })
	if got := u.check(t, d.id, "t", 950); got != (tally{Stored: 850, Lost: 100}) {
		t.Errorf("%+v", got)
	}
}

// The stream is deleted and made anew.
func testStreamDeleted(t *testing.T, u upstream) {
	ctx := context.Background()
	d := start(t, u.deviceID(), newDisk("#"), u.config(u.url))
	d.publish("t", 1, 200)
	d.disk.store.put("app||a", "1")
	u.arrived(t, d, "t", 200)
	u.sameState(t, d)
	for _, stream := range []string{"EDGED_EV", "KV_edged"} {
		if err := u.js.DeleteStream(ctx, stream); err != nil {
			t.Fatal(err)
		}
	}
	d.publish("t", 201, 250)
	d.disk.store.put("app||b", "1")
	eventually(t, "the lane says what is missing", func() bool {
		l := d.lane("telemetry")
		return l.State == "failing" && strings.Contains(l.LastError, "missing")
	})
	u.provision(t)
	u.arrived(t, d, "t", 250)
	u.sameState(t, d)
	if !d.alarmed("has no record of this device any more") {
		t.Errorf("no alarm: %+v", d.sync.Status().Alarms)
	}
}

// More batches are open than the stream allows: the device waits, and gets its turn.
func testTooManyBatches(t *testing.T, u upstream) {
	d := start(t, u.deviceID(), newDisk("#"), u.config(u.url))
	d.publish("t", 1, 10)
	u.arrived(t, d, "t", 10)
	var ids []string
	send := func(id, seq string) {
		m := nats.NewMsg("ev.storm.x")
		m.Header.Set("Nats-Batch-Id", id)
		m.Header.Set("Nats-Batch-Sequence", seq)
		if _, err := u.admin.RequestMsg(m, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for i := range u.openBatches {
		ids = append(ids, fmt.Sprintf("storm%d", i))
		send(ids[i], "1")
	}
	d.publish("t", 11, 20)
	eventually(t, "the upstream says that it is busy", func() bool { return strings.Contains(d.lane("telemetry").LastError, "busy") })
	for _, id := range ids {
		send(id, "9") // a gap ends a batch
	}
	u.arrived(t, d, "t", 20)
}

// withPlain runs a server whose streams have no atomic batches, as those of older servers.
func withPlain(t testing.TB) upstream {
	t.Helper()
	s := inProcess(t, &server.Options{StoreDir: t.TempDir()})
	u := newUpstream(t, s.ClientURL(), 1)
	cfg := hub.DefaultConfig()
	cfg.Events.Duplicates = duplicateWindow
	ctx := context.Background()
	events, keys := hub.EventStream(cfg.Events, 1), hub.StateStream(cfg.State, 1)
	events.AllowAtomicPublish, keys.AllowAtomicPublish = false, false
	events.AllowRollup, events.AllowMsgTTL = false, false
	keys.AllowMsgTTL, keys.SubjectDeleteMarkerTTL = false, 0
	if _, err := u.js.CreateStream(ctx, events); err != nil {
		t.Fatal(err)
	}
	if _, err := u.js.CreateStream(ctx, keys); err != nil {
		t.Fatal(err)
	}
	return u
}

// inProcess runs a NATS server with JetStream inside the test.
func inProcess(t testing.TB, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.Port, opts.JetStream, opts.NoSigs, opts.NoLog = "127.0.0.1", -1, true, true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return s
}

func TestPlainStreams(t *testing.T) {
	t.Parallel()
	u := withPlain(t)
	for name, test := range map[string]func(*testing.T, upstream){
		"Events": testEvents, "State": testState, "CloudKeys": testCloudKeys, "CutAnywhere": testCutAnywhere,
		"DeviceKilled": testDeviceKilled, "LongOutage": testPlainOutage, "DeviceRestored": testDeviceRestored,
	} {
		t.Run(name, func(t *testing.T) { test(t, u) })
	}
}

// Without atomic batches part of a batch may be stored, its message ids forgotten, and the cursor not moved.
func testPlainOutage(t *testing.T, u upstream) {
	p := newProxy(t, u.url)
	cfg := u.config(p.url())
	cfg.Timeout = 200 * time.Millisecond
	d := start(t, u.deviceID(), newDisk("#"), cfg)
	var hits counter
	p.on(at(true, "Nats-Msg-Id: "+d.id+":", 1, pass, &hits))
	d.publish("t", 1, 10)
	u.arrived(t, d, "t", 10)
	hits = counter{}
	p.on(func(up bool, seen []byte) act {
		if !up && strings.Contains(string(seen), `"seq":`) {
			hits.add()
			return cut
		}
		return pass
	})
	d.publish("t", 11, 1010)
	eventually(t, "answers are lost", func() bool { return hits.get() > 0 })
	p.cut()
	outage := time.After(2 * u.duplicates)
	<-outage
	p.on(nil)
	p.restore()
	u.arrived(t, d, "t", 1010)
	if l := d.lane("telemetry"); l.Avoided == 0 {
		t.Errorf("nothing was found stored already: %+v", l)
	}
}

// The permission to publish is taken away and given back: the lane says so, and nothing is lost.
func TestPermissionRevoked(t *testing.T) {
	t.Parallel()
	allowed := hub.DevicePermissions("dev1", "EDGED_EV", "edged")
	denied := hub.DevicePermissions("dev1", "EDGED_EV", "edged")
	denied.Publish.Deny = []string{"ev.dev1.>"}
	opts := func(p *server.Permissions) *server.Options {
		return &server.Options{Users: []*server.User{{Username: "dev1", Password: "pw", Permissions: p}, {Username: "admin", Password: "pw"}}}
	}
	first := opts(allowed)
	first.StoreDir = t.TempDir()
	s := inProcess(t, first)
	u := newUpstream(t, s.ClientURL(), 1, nats.UserInfo("admin", "pw"))
	u.provision(t)
	cfg := u.config(u.url)
	cfg.Credentials.User, cfg.Credentials.Password = "dev1", "pw"
	cfg.Timeout = time.Second
	d := start(t, "dev1", newDisk("#"), cfg)
	d.publish("t", 1, 100)
	u.arrived(t, d, "t", 100)
	change := func(p *server.Permissions) {
		t.Helper()
		next := opts(p)
		next.StoreDir, next.Host, next.Port, next.JetStream, next.NoSigs, next.NoLog = first.StoreDir, "127.0.0.1", first.Port, true, true, true
		if err := s.ReloadOptions(next); err != nil {
			t.Fatal(err)
		}
	}
	change(denied)
	d.publish("t", 101, 300)
	d.disk.store.put("app||still", "allowed")
	eventually(t, "the lane says that it is denied", func() bool { return d.lane("telemetry").State == "denied" })
	if l := d.lane("telemetry"); !strings.Contains(l.LastError, "credentials do not allow") {
		t.Errorf("last error: %s", l.LastError)
	}
	u.sameState(t, d) // another lane is not affected
	change(allowed)
	u.arrived(t, d, "t", 300)
}

// copyTree copies a folder.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
