package sync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/state"
	realstore "github.com/edged-io/edged/store"
	edgesync "github.com/edged-io/edged/sync"
)

// realDevice is a device on the real store.
type realDevice struct {
	t       testing.TB
	store   *realstore.Store
	journal pubsub.Journal
	state   *realstore.State
	sync    *edgesync.Sync
}

func openReal(t testing.TB, dir, id string, cfg edgesync.Config) *realDevice {
	t.Helper()
	d := &realDevice{t: t}
	var err error
	if d.store, err = realstore.Open(dir, realstore.Options{Log: testLog(t)}); err != nil {
		t.Fatal(err)
	}
	d.journal, err = d.store.Journal("pubsub", []pubsub.Contract{
		{Match: "alarms/#", MaxBytes: 64 << 20, WhenFull: pubsub.Reject}, {Match: "#", MaxBytes: 256 << 20, WhenFull: pubsub.DropOldest},
	})
	if err != nil {
		t.Fatal(err)
	}
	d.state = d.store.State("statestore")
	d.sync, err = edgesync.New(cfg, edgesync.Deps{
		Device: id, Log: testLog(t), Meta: d.state,
		Journals: func(string) (pubsub.Journal, bool) { return d.journal, true },
		Stores:   func(string) (edgesync.Store, bool) { return d.state, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = d.sync.Run(t.Context()) }() // close waits for it
	t.Cleanup(d.close)
	return d
}

func (d *realDevice) close() {
	if err := d.sync.Close(); err != nil {
		d.t.Error(err)
	}
	if err := d.store.Close(); err != nil {
		d.t.Error(err)
	}
}

func (d *realDevice) publish(topic string, first, last int) {
	d.t.Helper()
	for n := first; n <= last; n += 100 {
		var events []pubsub.Event
		for k := n; k < n+100 && k <= last; k++ {
			events = append(events, event(topic, k))
		}
		if err := d.journal.Append(context.Background(), events); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *realDevice) put(key, value string) {
	d.t.Helper()
	op := state.Op{Kind: state.Upsert, Key: key, Value: []byte(value)}
	if value == "" {
		op = state.Op{Kind: state.Delete, Key: key}
	}
	if err := d.state.Apply(context.Background(), []state.Op{op}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *realDevice) keys() map[string]string {
	out := map[string]string{}
	err := d.state.Scan(context.Background(), "", "", func(e state.Entry) bool {
		out[strings.Replace(e.Key, "||", ".", 1)] = string(e.Value)
		return true
	})
	if err != nil {
		d.t.Error(err)
	}
	return out
}

func (d *realDevice) alarmed(text string) bool {
	for _, a := range d.sync.Status().Alarms {
		if strings.Contains(a.Text, text) {
			return true
		}
	}
	return false
}

// settled waits until all of topic is upstream, once, in order, and the keys are the same on both sides.
func (d *realDevice) settled(u upstream, id, topic string, want int) {
	d.t.Helper()
	var got tally
	defer func() {
		if d.t.Failed() {
			d.t.Logf("%s: %+v, want %d; %+v", topic, got, want, d.sync.Status())
			d.t.Logf("keys here %v, upstream %v", d.keys(), u.keys(d.t, id))
		}
	}()
	eventually(d.t, "all is upstream", func() bool {
		got = u.look(d.t, id, topic, want)
		return got.Lost == 0 && maps.Equal(u.keys(d.t, id), d.keys())
	})
	if got != (tally{Stored: want}) {
		d.t.Errorf("%s: %+v, want %d stored and nothing else", topic, got, want)
	}
}

func TestRealStore(t *testing.T) {
	t.Parallel()
	h := openHub(t, hubConfig(t))
	u := newUpstream(t, h.ClientURL(), 1)
	cfg := u.config(u.url)
	t.Run("Restart", func(t *testing.T) {
		dir, id := filepath.Join(t.TempDir(), "data"), u.deviceID()
		total := 0
		for round := range 5 {
			d := openReal(t, dir, id, cfg)
			d.publish("sensors/a", total+1, total+1500)
			total += 1500
			d.put("app||counter", fmt.Sprint(total))
			d.put(fmt.Sprintf("app||round/%d", round), "1")
			if round == 4 {
				d.put("app||round/0", "")
				d.settled(u, id, "sensors/a", total)
			}
			d.close()
		}
	})
	t.Run("RestoredBackup", func(t *testing.T) {
		dir, id := filepath.Join(t.TempDir(), "data"), u.deviceID()
		d := openReal(t, dir, id, cfg)
		d.publish("t", 1, 500)
		d.put("app||k", "1")
		d.settled(u, id, "t", 500)
		d.close()
		copyTree(t, dir, dir+".backup")
		d = openReal(t, dir, id, cfg)
		d.publish("t", 501, 800)
		d.put("app||k", "2")
		d.settled(u, id, "t", 800)
		d.close()
		d = openReal(t, dir+".backup", id, cfg)
		d.publish("after", 1, 700)
		d.settled(u, id, "after", 700)
		if got := u.check(t, id, "t", 800); got != (tally{Stored: 800}) {
			t.Errorf("events from before: %+v", got)
		}
		if !d.alarmed("restored from a backup or cloned") {
			t.Errorf("no alarm: %+v", d.sync.Status().Alarms)
		}
	})
	t.Run("JournalLost", func(t *testing.T) {
		dir, id := filepath.Join(t.TempDir(), "data"), u.deviceID()
		d := openReal(t, dir, id, cfg)
		d.publish("t", 1, 500)
		d.settled(u, id, "t", 500)
		d.close()
		if err := os.RemoveAll(filepath.Join(dir, "events")); err != nil {
			t.Fatal(err)
		}
		d = openReal(t, dir, id, cfg)
		d.publish("after", 1, 300)
		d.settled(u, id, "after", 300)
	})
	t.Run("DatabaseLost", func(t *testing.T) {
		dir, id := filepath.Join(t.TempDir(), "data"), u.deviceID()
		d := openReal(t, dir, id, cfg)
		d.publish("t", 1, 500)
		d.settled(u, id, "t", 500)
		d.close()
		if err := os.Remove(filepath.Join(dir, "state.db")); err != nil {
			t.Fatal(err)
		}
		d = openReal(t, dir, id, cfg)
		d.publish("after", 1, 300)
		eventually(t, "it stops for an operator", func() bool { return d.alarmed("does not know") })
		d.close()
		accept := cfg
		accept.UnknownEpoch = "take-over"
		d = openReal(t, dir, id, accept)
		d.settled(u, id, "after", 300)
	})
	t.Run("CloudKeys", func(t *testing.T) {
		dir, id := filepath.Join(t.TempDir(), "data"), u.deviceID()
		d := openReal(t, dir, id, cfg)
		kv, err := u.js.KeyValue(context.Background(), "edged")
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"1", "2"} {
			if _, err := kv.PutString(context.Background(), id+".app.config/x", value); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the cloud's value is here", func() bool { return d.keys()["app.config/x"] == value })
		}
		d.put("app||config/x", "mine")
		eventually(t, "the cloud's value is back", func() bool { return d.keys()["app.config/x"] == "2" })
		if err := kv.Delete(context.Background(), id+".app.config/x"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is gone", func() bool { _, there := d.keys()["app.config/x"]; return !there })
	})
}

// A large backlog in the real journal, against plain nats.go.
func BenchmarkRealDrain(b *testing.B) {
	u := withHub(b)
	u.provision(b)
	for b.Loop() {
		dir := b.TempDir()
		cfg := u.config("nats://127.0.0.1:1")
		id := u.deviceID()
		d := openReal(b, dir, id, cfg)
		d.publish("sensors/a", 1, benchEvents)
		d.close()
		began := time.Now()
		d = openReal(b, dir, id, u.config(u.url))
		within(b, 2*time.Minute, "the backlog is drained", func() bool {
			for _, l := range d.sync.Status().Lanes {
				if l.Changes == benchEvents {
					return true
				}
			}
			return false
		})
		b.ReportMetric(benchEvents/time.Since(began).Seconds(), "events/s")
		d.close()
	}
}

// Events that the journal dropped before they could be sent are told upstream: no number is missing without a record.
func TestRealStore_Gaps(t *testing.T) {
	t.Parallel()
	h := openHub(t, hubConfig(t))
	u := newUpstream(t, h.ClientURL(), 1)
	st, err := realstore.Open(filepath.Join(t.TempDir(), "data"), realstore.Options{Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	j, err := st.Journal("pubsub", []pubsub.Contract{{Match: "#", MaxEvents: 1000, WhenFull: pubsub.DropOldest}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := u.config("nats://127.0.0.1:1")
	cfg.State, cfg.Events = nil, []edgesync.EventRule{{Topics: "#", Lane: "telemetry"}}
	run := func(url string) *edgesync.Sync {
		cfg.URL = url
		s, err := edgesync.New(cfg, edgesync.Deps{
			Device: "gw", Log: testLog(t), Meta: st.State("statestore"), Journals: func(string) (pubsub.Journal, bool) { return j, true },
		})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Run(t.Context()) }() // Close waits for it
		return s
	}
	s := run(cfg.URL)
	eventually(t, "the lane is attached", func() bool { return len(s.Status().Lanes) > 0 && len(j.Lanes("#")[0].Stat().Consumers) > 0 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 5000; n += 100 {
		var events []pubsub.Event
		for k := range 100 {
			events = append(events, event("t", n+k))
		}
		if err := j.Append(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	s = run(u.url)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the rest is upstream", func() bool { return len(s.Status().Lanes) > 0 && s.Status().Lanes[0].Position == 5000 })
	covered := map[uint64]bool{}
	for _, e := range u.events(t, "gw") {
		if !strings.Contains(e.Subject, "._gap.") {
			parts := strings.Split(e.MsgID, ":")
			var seq uint64
			if _, err := fmt.Sscan(parts[3], &seq); err != nil {
				t.Fatal(err)
			}
			covered[seq] = true
			continue
		}
		var g struct{ From, To uint64 }
		if err := json.Unmarshal(e.Body, &g); err != nil {
			t.Fatal(err)
		}
		t.Logf("gap record: %s", e.Body)
		for seq := g.From; seq <= g.To; seq++ {
			covered[seq] = true
		}
	}
	if len(covered) != 5000 {
		t.Errorf("%d of 5000 numbers are accounted for", len(covered))
	}
}
