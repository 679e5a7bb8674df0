package sync_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

// long says whether the long versions of the fault tests run (make test-long).
func long() bool { return os.Getenv("EDGED_LONG_TESTS") != "" }

// A cut at each step of the protocol, in both directions: nothing is lost, nothing is stored twice.
func testCutAtEveryStep(t *testing.T, u upstream) {
	type step struct {
		name string
		up   bool
		text string
		do   act
	}
	steps := []step{
		{"hello asked", true, "$JS.API.STREAM.INFO", cut},
		{"hello answered", false, `"created"`, cut},
		{"cursor asked", true, "$JS.API.DIRECT.GET", cut},
		{"cursor answered", false, "Nats-Sequence", cut},
		{"first message lost", true, "Nats-Batch-Sequence: 1\r", cut},
		{"first message arrives", true, "Nats-Batch-Sequence: 1\r", passCut},
		{"middle of a batch", true, "Nats-Batch-Sequence: 40\r", cut},
		{"commit lost", true, "Nats-Batch-Commit", cut},
		{"commit arrives, answer lost", true, "Nats-Batch-Commit", passCut},
		{"answer lost, link stays deaf", false, `"batch":`, deaf},
		{"answer lost", false, `"batch":`, cut},
		{"answer arrives", false, `"batch":`, passCut},
	}
	for i, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, u.url)
			cfg := u.config(p.url())
			cfg.Timeout = 300 * time.Millisecond
			cfg.Batch.MaxEvents = 100
			var hits counter
			p.on(at(s.up, s.text, 1, s.do, &hits))
			d := start(t, u.deviceID(), newDisk("#"), cfg)
			for round := range 3 {
				d.publish("t", round*150+1, round*150+150)
				p.on(at(s.up, s.text, 1+(i+round)%2, s.do, &hits))
				if strings.Contains(s.name, "hello") || strings.Contains(s.name, "cursor") {
					p.reset() // they happen at a connect
				}
				eventually(t, "events of the round are stored", func() bool { return d.upTo("telemetry") })
			}
			u.arrived(t, d, "t", 450)
			if hits.get() == 0 {
				t.Error("the cut never happened")
			}
		})
	}
}

// Cuts at random bytes of the stream, many times.
func testCutAnywhere(t *testing.T, u upstream) {
	cuts := 25
	if long() {
		cuts = 500
	}
	p := newProxy(t, u.url)
	cfg := u.config(p.url())
	cfg.Timeout = 500 * time.Millisecond
	disk := newDisk("alarms/#", "#")
	d := start(t, u.deviceID(), disk, cfg)
	rnd := rand.New(rand.NewPCG(1, 2))
	events := 0
	for i := range cuts {
		n := 20 + rnd.IntN(300)
		d.publish("t", events+1, events+n)
		d.publish("alarms/a", i+1, i+1)
		for k := range 10 {
			disk.store.put(fmt.Sprintf("app||k%d", rnd.IntN(50)), fmt.Sprintf("%d-%d", i, k))
		}
		events += n
		left := int64(rnd.IntN(60_000))
		dirUp := rnd.IntN(3) > 0
		do := []act{cut, passCut}[rnd.IntN(2)]
		var hits counter
		p.on(func(up bool, seen []byte) act {
			if up != dirUp {
				return pass
			}
			if left -= int64(len(seen)); left > 0 || hits.get() > 0 {
				return pass
			}
			hits.add()
			return do
		})
		if rnd.IntN(5) == 0 {
			d.close() // a device that stops, or dies, in between
			d = start(t, d.id, disk, cfg)
		}
		if rnd.IntN(3) == 0 {
			eventually(t, "the lane has caught up", func() bool { return d.upTo("telemetry") })
		}
	}
	p.on(nil)
	u.arrived(t, d, "t", events)
	u.arrived(t, d, "alarms/a", cuts)
	u.sameState(t, d)
}

// sameState waits until the bucket holds what the device holds.
func (u upstream) sameState(t testing.TB, d *device) {
	t.Helper()
	want := map[string]string{}
	for k, v := range d.disk.store.live() {
		want[strings.Replace(k, "||", ".", 1)] = v
	}
	var got map[string]string
	defer func() {
		if !maps.Equal(got, want) {
			t.Errorf("state differs: %d keys upstream, %d here", len(got), len(want))
		}
	}()
	eventually(t, "state is the same on both sides", func() bool {
		got = u.keys(t, d.id)
		return maps.Equal(got, want)
	})
}

// Answers that never come, for a while, on a link that stays up.
func testLostAnswers(t *testing.T, u upstream) {
	p := newProxy(t, u.url)
	cfg := u.config(p.url())
	cfg.Timeout = 200 * time.Millisecond
	d := start(t, u.deviceID(), newDisk("#"), cfg)
	d.publish("t", 1, 100)
	u.arrived(t, d, "t", 100)
	var hits counter
	p.on(func(up bool, seen []byte) act {
		if up || hits.get() >= 4 || !strings.Contains(string(seen), `"batch":`) {
			return pass
		}
		hits.add()
		return deaf
	})
	for i := range 8 {
		d.publish("t", 100+i*100+1, 100+i*100+100)
		eventually(t, "the batch is known to be stored", func() bool { return d.upTo("telemetry") })
	}
	u.arrived(t, d, "t", 900)
	if l := d.lane("telemetry"); l.Avoided == 0 {
		t.Errorf("no duplicates were avoided, so no answer was lost: %+v", l)
	}
}

// The device dies without a word, again and again: no checkpoint is written, cursors of the journal go back.
func testDeviceKilled(t *testing.T, u upstream) {
	rounds := 8
	if long() {
		rounds = 100
	}
	disk := newDisk("#")
	id := u.deviceID()
	events := 0
	for round := range rounds {
		before := disk.copy() // nothing that sync writes is on disk yet
		d := start(t, id, disk, u.config(u.url))
		d.publish("t", events+1, events+700)
		disk.store.put("app||k", fmt.Sprint(round))
		events += 700
		eventually(t, "part of it is sent", func() bool { return d.lane("telemetry").Batches > 0 })
		d.close()
		disk.store.mu.Lock()
		disk.store.meta = before.store.meta
		for k, rev := range disk.store.entries {
			disk.store.dirty[k] = rev.Sequence
		}
		disk.store.marks = nil
		disk.store.mu.Unlock()
		for i, l := range disk.journal.lanes {
			l.cursors = before.journal.lanes[i].cursors
		}
	}
	d := start(t, id, disk, u.config(u.url))
	u.arrived(t, d, "t", events)
	u.sameState(t, d)
	if d.alarmed("restored") {
		t.Errorf("a killed device is not a restored one: %+v", d.sync.Status().Alarms)
	}
}

// The upstream's most important server is killed while batches are under way.
func testServerKilled(t *testing.T, u upstream) {
	rounds := 3
	if u.replicas > 1 {
		rounds = 1 // an election takes several seconds
	}
	if long() {
		rounds = 20
	}
	disk := newDisk("#")
	d := start(t, u.deviceID(), disk, u.config(u.url))
	events := 0
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				d.publish("t", events+1, events+50)
				disk.store.put(fmt.Sprintf("app||k%d", events%100), fmt.Sprint(events))
				events += 50
			}
		}
	}()
	for range rounds {
		before := d.lane("telemetry").Changes
		eventually(t, "events flow", func() bool { return d.lane("telemetry").Changes > before+500 })
		restart := u.kill(t)
		restart()
	}
	close(stop)
	<-done
	u.arrived(t, d, "t", events)
	u.sameState(t, d)
}

// An outage longer than the upstream remembers message ids: the cursor is exact without them.
func testLongOutage(t *testing.T, u upstream) {
	p := newProxy(t, u.url)
	cfg := u.config(p.url())
	cfg.Timeout = 200 * time.Millisecond
	d := start(t, u.deviceID(), newDisk("#"), cfg)
	d.publish("t", 1, 1000)
	var hits counter
	p.on(at(false, `"batch":`, 1, cut, &hits)) // stored, but the device does not know
	eventually(t, "the answer is lost", func() bool { return hits.get() > 0 })
	p.cut()
	outage := time.After(u.duplicates + u.duplicates/2)
	<-outage
	p.restore()
	u.arrived(t, d, "t", 1000)
}

// A backup of the device is put back: it sends what it writes now under a new epoch, and what was sent before is not sent
// again.
func testDeviceRestored(t *testing.T, u upstream) {
	disk := newDisk("#")
	id := u.deviceID()
	d := start(t, id, disk, u.config(u.url))
	d.publish("t", 1, 300)
	disk.store.put("app||a", "1")
	disk.store.put("app||b", "1")
	u.arrived(t, d, "t", 300)
	u.sameState(t, d)
	d.close()
	d.publish("t", 301, 350) // on disk, not sent yet
	backup := disk.copy()
	d = start(t, id, disk, u.config(u.url))
	d.publish("t", 351, 500)
	disk.store.put("app||a", "2")
	disk.store.put("app||c", "2")
	u.arrived(t, d, "t", 500)
	u.sameState(t, d)
	d.close()

	d = start(t, id, backup, u.config(u.url))
	d.publish("after", 1, 400)
	within(t, 30*time.Second, "the restored device has caught up", func() bool { return d.upTo("telemetry") })
	if !d.alarmed("restored from a backup or cloned") {
		t.Errorf("no alarm: %+v", d.sync.Status())
	}
	if got := u.check(t, id, "t", 500); got != (tally{Stored: 500}) {
		t.Errorf("events from before: %+v", got)
	}
	if got := u.check(t, id, "after", 400); got != (tally{Stored: 400}) {
		t.Errorf("events of the restored device: %+v", got)
	}
	u.sameState(t, d)
}

// Two devices from one image: the second gets an epoch of its own, the first then stops for an operator.
func testDeviceCloned(t *testing.T, u upstream) {
	disk := newDisk("#")
	id := u.deviceID()
	first := start(t, id, disk, u.config(u.url))
	first.publish("t", 1, 100)
	u.arrived(t, first, "t", 100)
	first.close()
	clone := disk.copy()
	first = start(t, id, disk, u.config(u.url))
	first.publish("t", 101, 200)
	u.arrived(t, first, "t", 200)
	second := start(t, id, clone, u.config(u.url))
	second.publish("clone", 1, 150)
	eventually(t, "the clone is noticed", func() bool { return second.alarmed("cloned") })
	within(t, 30*time.Second, "the clone sends under its own epoch", func() bool { return second.upTo("telemetry") })
	first.publish("t", 201, 300)
	eventually(t, "the first stops", func() bool { return first.lane("telemetry").State == "stopped" })
	if got := u.check(t, id, "clone", 150); got != (tally{Stored: 150}) {
		t.Errorf("events of the clone: %+v", got)
	}
	second.close()
	first.close()
	cfg := u.config(u.url)
	cfg.AcceptEpoch = first.lane("telemetry").Upstream
	first = start(t, id, disk, cfg)
	u.arrived(t, first, "t", 300)
}

// A database made anew meets what its device stored before: it stops until an operator says so.
func testUnknownEpoch(t *testing.T, u upstream) {
	id := u.deviceID()
	d := start(t, id, newDisk("#"), u.config(u.url))
	d.publish("t", 1, 50)
	d.disk.store.put("app||kept", "1")
	u.arrived(t, d, "t", 50)
	u.sameState(t, d)
	d.close()
	fresh := newDisk("#")
	cfg := u.config(u.url)
	d = start(t, id, fresh, cfg)
	d.publish("t", 51, 120)
	eventually(t, "it stops", func() bool { return d.lane("telemetry").State == "stopped" && d.lane("state").State == "stopped" })
	d.close()
	cfg.UnknownEpoch = "take-over"
	d = start(t, id, fresh, cfg)
	within(t, 30*time.Second, "it takes over", func() bool { return d.upTo("telemetry") })
	if got := u.check(t, id, "t", 120); got != (tally{Stored: 120}) {
		t.Errorf("%+v", got)
	}
	d.disk.store.put("app||new", "1")
	eventually(t, "its keys are added, none is deleted", func() bool { return len(u.keys(t, id)) == 2 })
}

// Events that are too large, or whose topic is, become gap records and block nothing.
func testTooLarge(t *testing.T, u upstream) {
	d := start(t, u.deviceID(), newDisk("#"), u.config(u.url))
	d.publish("t", 1, 10)
	huge := event("huge", 1)
	huge.Data = append(huge.Data, make([]byte, 9<<20)...)
	long := event(strings.Repeat("long/", 2000), 1)
	if err := d.disk.journal.Append(context.Background(), []pubsub.Event{huge, long}); err != nil {
		t.Fatal(err)
	}
	d.publish("t", 11, 20)
	u.arrived(t, d, "t", 20)
	gaps := 0
	for _, e := range u.events(t, d.id) {
		if strings.HasPrefix(e.Subject, "ev."+d.id+"._gap.") {
			gaps++
		}
	}
	if gaps != 2 {
		t.Errorf("%d gap records, want 2", gaps)
	}
	if l := d.lane("telemetry"); len(l.Dropped) != 2 {
		t.Errorf("dropped: %+v", l.Dropped)
	}
}
