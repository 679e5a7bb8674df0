package sync_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// Every test of the suite runs against both kinds of upstream.
func TestHub(t *testing.T) {
	t.Parallel()
	suite(t, withHub(t))
}

func TestCluster(t *testing.T) {
	t.Parallel()
	suite(t, withCluster(t))
}

func suite(t *testing.T, u upstream) {
	for name, test := range map[string]func(*testing.T, upstream){
		"Events":             testEvents,
		"State":              testState,
		"CloudKeys":          testCloudKeys,
		"UpstreamRolledBack": testUpstreamRolledBack,
		"StreamDeleted":      testStreamDeleted,
		"CutAtEveryStep":     testCutAtEveryStep,
		"CutAnywhere":        testCutAnywhere,
		"LostAnswers":        testLostAnswers,
		"DeviceKilled":       testDeviceKilled,
		"ServerKilled":       testServerKilled,
		"LongOutage":         testLongOutage,
		"DeviceRestored":     testDeviceRestored,
		"DeviceCloned":       testDeviceCloned,
		"UnknownEpoch":       testUnknownEpoch,
		"TooLarge":           testTooLarge,
	} {
		t.Run(name, func(t *testing.T) { test(t, u) })
	}
	if u.openBatches > 0 {
		t.Run("TooManyBatches", func(t *testing.T) { testTooManyBatches(t, u) })
	}
}

func testEvents(t *testing.T, u upstream) {
	disk := newDisk("alarms/#", "#")
	d := start(t, u.deviceID(), disk, u.config(u.url))
	d.publish("sensors/temp", 1, 2000)
	d.publish("alarms/fire", 1, 3)
	u.arrived(t, d, "sensors/temp", 2000)
	u.arrived(t, d, "alarms/fire", 3)
	if l := d.lane("telemetry"); l.State != "active" || l.Changes != 2000 || l.Avoided != 0 {
		t.Errorf("telemetry lane: %+v", l)
	}
}

func testState(t *testing.T, u upstream) {
	disk := newDisk("#")
	disk.store.put("orders||before", "written before sync was set up")
	d := start(t, u.deviceID(), disk, u.config(u.url))
	for n := range 1200 {
		disk.store.put(fmt.Sprintf("orders||key/%d", n), fmt.Sprintf("value %d", n))
	}
	disk.store.put("orders||key/1", "newer")
	disk.store.del("orders||key/2")
	want := map[string]string{}
	for k, v := range disk.store.live() {
		want[strings.Replace(k, "||", ".", 1)] = v
	}
	eventually(t, "the bucket holds what the store holds", func() bool { return maps.Equal(u.keys(t, d.id), want) })
}

func testCloudKeys(t *testing.T, u upstream) {
	ctx := context.Background()
	disk := newDisk("#")
	id := u.deviceID()
	kv, err := u.js.KeyValue(ctx, "edged")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key, value string) {
		t.Helper()
		if _, err := kv.Put(ctx, id+"."+key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put("orders.config/rate", "5")
	d := start(t, id, disk, u.config(u.url))
	has := func(key, value string) func() bool {
		return func() bool { return disk.store.live()[key] == value }
	}
	eventually(t, "the cloud's key is here", has("orders||config/rate", "5"))
	put("orders.config/rate", "6")
	eventually(t, "the cloud's new value is here", has("orders||config/rate", "6"))
	disk.store.put("orders||config/rate", "mine")
	eventually(t, "the cloud's value won", has("orders||config/rate", "6"))
	eventually(t, "the conflict is told", func() bool { return len(d.conflicts()) == 1 })
	if c := d.conflicts()[0]; c.Key != "orders||config/rate" || string(c.Value) != "mine" {
		t.Errorf("conflict: %+v", c)
	}
	if err := kv.Delete(ctx, id+".orders.config/rate"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cloud's deletion is here", has("orders||config/rate", ""))
	d.close()
	put("orders.config/away", "while away")
	started := time.Now()
	start(t, id, disk, u.config(u.url))
	eventually(t, "what came meanwhile is here", has("orders||config/away", "while away"))
	t.Logf("downlink after reconnect: %s", time.Since(started).Round(time.Millisecond))
}
