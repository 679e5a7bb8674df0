package sync_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/edged-io/edged/edge/resource"
	edgesync "github.com/edged-io/edged/sync"
)

func TestEventSubject(t *testing.T) {
	for topic, want := range map[string]string{
		"sensors/temp": "ev.gw.sensors.temp",
		"new-order":    "ev.gw.new-order",
		"a//b":         "ev.gw.a.=.b",
		"/a":           "ev.gw.=.a",
		"a/":           "ev.gw.a.=",
		"":             "ev.gw.=",
		"_cur/x":       "ev.gw.=5Fcur.x",
		"a/_cur":       "ev.gw.a._cur",
		"a.b/c d/*/>":  "ev.gw.a=2Eb.c=20d.=2A.=3E",
		"größe":        "ev.gw.gr=C3=B6=C3=9Fe",
		"a=b":          "ev.gw.a=3Db",
		"$SYS/broker":  "ev.gw.=24SYS.broker",
	} {
		got := edgesync.EventSubject("gw", topic)
		if got != want {
			t.Errorf("EventSubject(%q) = %q, want %q", topic, got, want)
		}
		if device, back, ok := edgesync.Topic(got); !ok || device != "gw" || back != topic {
			t.Errorf("Topic(%q) = %q %q %v", got, device, back, ok)
		}
	}
	for _, s := range []string{"ev.gw._cur.telemetry", "ev.gw", "ev..a", "x.gw.a", "ev.gw.a..b", "ev.gw.=2", "ev.gw.=61", "ev.gw.a=2Fb", "ev.gw.=zz"} {
		if _, topic, ok := edgesync.Topic(s); ok {
			t.Errorf("Topic(%q) = %q", s, topic)
		}
	}
}

func TestKeySubject(t *testing.T) {
	for key, want := range map[string]string{
		"orders||cart":         "gw.orders.cart",
		"orders||cart.1/a":     "gw.orders.cart.1/a",
		"orders||.hidden":      "gw.orders.=2Ehidden",
		"orders||a..b.":        "gw.orders.a.=2Eb=2E",
		"orders||":             "gw.orders.=",
		"orders||act||id||key": "gw.orders.act=7C=7Cid=7C=7Ckey",
		"plain":                "gw._.plain",
		"_||x":                 "gw.=5F.x",
		"||x":                  "gw.=.x",
		"my.app||x":            "gw.my=2Eapp.x",
		"":                     "gw._.=",
	} {
		got := edgesync.KeySubject("gw", key)
		if got != want {
			t.Errorf("KeySubject(%q) = %q, want %q", key, got, want)
		}
		if back, ok := edgesync.SubjectKey(strings.TrimPrefix(got, "gw.")); !ok || back != key {
			t.Errorf("SubjectKey(%q) = %q %v", got, back, ok)
		}
	}
}

func validSubject(s string) bool {
	for tok := range strings.SplitSeq(s, ".") {
		if tok == "" || strings.ContainsAny(tok, " \t\r\n*>\x00") {
			return false
		}
	}
	return true
}

func FuzzEventSubject(f *testing.F) {
	f.Add("sensors/temp")
	f.Add("_a//=41/ü.*")
	f.Fuzz(func(t *testing.T, topic string) {
		s := edgesync.EventSubject("gw", topic)
		if !validSubject(s) {
			t.Fatalf("%q is not a subject", s)
		}
		if device, back, ok := edgesync.Topic(s); !ok || device != "gw" || back != topic {
			t.Fatalf("%q -> %q -> %q %v", topic, s, back, ok)
		}
		edgesync.Topic(topic) // any text: no panic
	})
}

func FuzzKeySubject(f *testing.F) {
	f.Add("orders||cart.1")
	f.Add("a|||b")
	f.Fuzz(func(t *testing.T, key string) {
		s := edgesync.KeySubject("gw", key)
		if !validSubject(s) {
			t.Fatalf("%q is not a subject", s)
		}
		if back, ok := edgesync.SubjectKey(strings.TrimPrefix(s, "gw.")); !ok || back != key {
			t.Fatalf("%q -> %q -> %q %v", key, s, back, ok)
		}
		edgesync.SubjectKey(key)
	})
}

type record struct {
	Epoch string `cbor:"epoch"`
	Pos   uint64 `cbor:"pos"`
	Time  uint64 `cbor:"time"`
	Sum   uint64 `cbor:"sum"`
}

func TestCursor_IsCBOR(t *testing.T) {
	for _, n := range []uint64{0, 1, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		c := edgesync.Cursor{Epoch: strings.Repeat("e", int(n%70)+1), Pos: n, Time: time.UnixMilli(int64(n >> 2)), Sum: n}
		data := edgesync.MarshalCursor(c)
		var r record
		if err := cbor.Unmarshal(data, &r); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if r != (record{c.Epoch, n, n >> 2, n}) {
			t.Errorf("%d: %+v", n, r)
		}
		again, err := cbor.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := edgesync.UnmarshalCursor(again); err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%d: %+v %v", n, back, err)
		}
	}
}

func FuzzUnmarshalCursor(f *testing.F) {
	f.Add(edgesync.MarshalCursor(edgesync.Cursor{Epoch: "e", Pos: 1000, Time: time.UnixMilli(5)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := edgesync.UnmarshalCursor(data)
		if err != nil {
			return
		}
		back, err := edgesync.UnmarshalCursor(edgesync.MarshalCursor(c))
		if err != nil || back.Epoch != c.Epoch || back.Pos != c.Pos || back.Sum != c.Sum {
			t.Fatalf("%+v -> %+v %v", c, back, err)
		}
	})
}

func TestReconcile(t *testing.T) {
	then, now := time.Unix(1, 0), time.Unix(2, 0)
	at := func(epoch string, pos, sum, rev uint64) edgesync.Cursor {
		return edgesync.Cursor{Epoch: epoch, Pos: pos, Sum: sum, Rev: rev}
	}
	for name, c := range map[string]struct {
		m      edgesync.Meeting
		action string
		pos    uint64
	}{
		"first time":                  {edgesync.Meeting{Local: at("e", 0, 0, 0), Last: 10}, "proceed", 0},
		"in sync":                     {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 5, 7, 9), Last: 10}, "proceed", 5},
		"answer lost":                 {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 8, 3, 12), Last: 10, Sums: map[uint64]uint64{8: 3}}, "proceed", 8},
		"answer lost, event gone":     {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 8, 3, 12), Last: 10}, "proceed", 8},
		"restored, nothing new":       {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 8, 3, 12), Last: 6}, "new epoch", 5},
		"restored, went on":           {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 8, 3, 12), Last: 10, Sums: map[uint64]uint64{8: 4}}, "new epoch", 5},
		"same place, other event":     {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 5, 6, 12), Last: 10}, "new epoch", 5},
		"upstream rolled back":        {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 3, 2, 4), Last: 10}, "resend", 3},
		"upstream anew":               {edgesync.Meeting{Local: at("e", 5, 7, 9), Created: then, Caps: edgesync.Caps{Created: now}, Last: 10}, "resend", 0},
		"upstream purged":             {edgesync.Meeting{Local: at("e", 5, 7, 9), Created: now, Caps: edgesync.Caps{Created: now, First: 9}, Last: 10}, "resend", 0},
		"cursor aged out":             {edgesync.Meeting{Local: at("e", 5, 7, 9), Created: now, Caps: edgesync.Caps{Created: now, First: 10}, Last: 10}, "proceed", 5},
		"journal anew":                {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 5, 7, 9), Last: 3}, "new epoch", 0},
		"journal empty":               {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("e", 5, 7, 9), Last: 0}, "new epoch", 0},
		"own new epoch not sent yet":  {edgesync.Meeting{Local: at("f", 5, 0, 0), Past: []string{"e"}, Upstream: at("e", 8, 3, 12), Last: 10}, "proceed", 5},
		"own first epoch":             {edgesync.Meeting{Local: at("f", 5, 0, 0), Upstream: at("base", 8, 3, 12), Last: 10}, "proceed", 5},
		"unknown epoch":               {edgesync.Meeting{Local: at("e", 5, 7, 9), Upstream: at("x", 8, 3, 12), Last: 10}, "stop", 5},
		"unknown epoch, fresh device": {edgesync.Meeting{Local: at("e", 0, 0, 0), Upstream: at("x", 8, 3, 12), Last: 10}, "stop", 0},
		"unknown epoch, accepted":     {edgesync.Meeting{Local: at("e", 0, 0, 0), Upstream: at("x", 8, 3, 12), Last: 10, Accept: "x"}, "proceed", 0},
	} {
		if action, pos := edgesync.Reconcile(c.m); action != c.action || pos != c.pos {
			t.Errorf("%s: %s after %d, want %s after %d", name, action, pos, c.action, c.pos)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"#", "a/b", true}, {"a/#", "a/b/c", true}, {"a/#", "a", true}, {"a/#", "b", false}, {"a/+/c", "a/b/c", true},
		{"a/+", "a/b/c", false}, {"a/b", "a/b", true}, {"a/b", "a", false}, {"+", "a", true}, {"a/+", "a/", true}, {"a", "a/", false},
	} {
		if got := edgesync.Matches(c.filter, c.topic); got != c.want {
			t.Errorf("%s matches %s: %v", c.filter, c.topic, got)
		}
	}
}

func TestOwner(t *testing.T) {
	rules := []edgesync.StateRule{
		{App: "orders", Prefix: "config/", Owner: edgesync.OwnerCloud}, {Prefix: "cache/", App: "none"}, {App: "orders", Owner: edgesync.OwnerDevice},
	}
	for key, want := range map[string]edgesync.Owner{
		"orders||config/a": edgesync.OwnerCloud, "orders||a": edgesync.OwnerDevice, "other||config/a": "", "config/a": "",
	} {
		if got, _ := edgesync.OwnerOf(rules, key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func TestConfig_Validate(t *testing.T) {
	for text, want := range map[string]string{
		"{}":                        "url: is empty",
		"url: http://x":             "is not an upstream",
		"url: nats://u:p@x:1":       "contains credentials",
		"url: 'nats://a:1,wss://b'": "mixes WebSocket and TCP",
		"{url: 'nats://a:1', credentials: {token: t, file: f}}":                       "several kinds",
		"{url: 'nats://a:1', tls: {key: k}}":                                          "not both",
		"{url: 'nats://a:1', events: [{topics: 'a/#/b', lane: alarm}]}":               "is not a topic filter",
		"{url: 'nats://a:1', events: [{topics: 'a', lane: 'A b'}]}":                   "is not a lane",
		"{url: 'nats://a:1', state: [{owner: cloud}, {store: other, owner: device}]}": "is a second store",
		"{url: 'nats://a:1', state: [{owner: nobody}]}":                               "owner",
		"{url: 'nats://a:1', batch: {maxEvents: 1000}}":                               "1 to 999",
		"{url: 'nats://a:1', backoff: {min: 2s, max: 1s}}":                            "0 < min <= max",
		"{url: 'nats://a:1', inboxPrefix: 'a.>'}":                                     "is not a subject prefix",
		"{url: 'nats://a:1', unknownEpoch: maybe}":                                    "unknownEpoch",
		"{url: 'nats://a:1', urk: 1}":                                                 "urk",
	} {
		cfg := edgesync.DefaultConfig()
		faults := resource.DecodeStrict("edged.yaml", []byte(text), &cfg)
		if len(faults) != 1 || !strings.Contains(faults.Error(), want) {
			t.Errorf("%s: %v, want %q", text, faults, want)
		}
	}
	cfg := edgesync.DefaultConfig()
	text := `
url: wss://hub.example
credentials: {secret: hub}
events: [{topics: "alarms/#", lane: alarm}, {topics: "sensors/#", lane: telemetry}]
state:  [{store: statestore, prefix: "config/", owner: cloud}, {store: statestore, owner: device}]
`
	if faults := resource.DecodeStrict("edged.yaml", []byte(text), &cfg); len(faults) > 0 {
		t.Error(faults)
	}
}

func TestBackoff_IsFullJitter(t *testing.T) {
	b := edgesync.Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second}
	for attempt, bound := range map[int]time.Duration{1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 7: 5 * time.Second, 10_000: 5 * time.Second} {
		var least, most time.Duration = time.Hour, 0
		for range 1000 {
			d := b.Delay(attempt)
			least, most = min(least, d), max(most, d)
		}
		if least > bound/10 || most > bound+time.Millisecond || most < bound/2 {
			t.Errorf("attempt %d: %s to %s, want nothing to %s", attempt, least, most, bound)
		}
	}
}

// A lane of a higher class goes first; lanes of one class share by weight.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := edgesync.NewTurns(1 << 20)
		ctx := context.Background()
		if err := turns.Take(ctx, "bulk"); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 64)
		left := map[string]int{"bulk": 10, "telemetry": 10, "state": 10, "alarm": 2, "control": 1}
		var wg sync.WaitGroup
		for _, lane := range slices.Sorted(maps.Keys(left)) {
			wg.Go(func() {
				for range left[lane] {
					if err := turns.Take(ctx, lane); err != nil {
						t.Error(err)
					}
					order <- lane
					<-time.After(time.Second) // the batch, in the bubble's time
					turns.Done(lane, 8<<10, time.Second)
				}
			})
		}
		synctest.Wait()
		turns.Done("bulk", 8<<10, time.Second)
		wg.Wait()
		close(order)
		var got []string
		for lane := range order {
			got = append(got, lane)
		}
		if len(got) != 33 || got[0] != "control" || got[1] != "alarm" {
			t.Fatalf("order: %v", got)
		}
		if i := slices.Index(got[2:], "alarm"); i > 1 {
			t.Errorf("the second alarm waited for %d batches: %v", i, got)
		}
		share := map[string]int{}
		for _, lane := range got[3:16] {
			share[lane]++
		}
		if share["state"] <= share["telemetry"] || share["telemetry"] <= share["bulk"] {
			t.Errorf("shares: %v of %v", share, got)
		}
	})
}

func TestTurns_FollowTheLink(t *testing.T) {
	turns := edgesync.NewTurns(1 << 20)
	send := func(rate int) {
		if err := turns.Take(t.Context(), "bulk"); err != nil {
			t.Fatal(err)
		}
		n := turns.Bytes()
		turns.Done("bulk", n, time.Duration(n)*time.Second/time.Duration(rate))
	}
	for range 20 {
		send(100 << 20)
	}
	if got := turns.Bytes(); got != 1<<20 {
		t.Errorf("fast link: %d", got)
	}
	for range 20 {
		send(8000) // 64 kbit/s
	}
	if got := turns.Bytes(); got < 8000 || got > 9000 {
		t.Errorf("slow link: %d", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := turns.Take(ctx, "bulk"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := turns.Take(ctx, "bulk"); err == nil {
		t.Error("a second batch is under way on a slow link")
	}
	turns.Done("bulk", 0, 0)
	if err := turns.Take(context.Background(), "bulk"); err != nil {
		t.Error("the cancelled one kept its place")
	}
}

func TestGrace(t *testing.T) {
	began := time.Unix(1000, 0)
	g := edgesync.NewGrace(10*time.Minute, 1000)
	g.Add(began, 10, 100)
	if got := g.Advance(began.Add(9*time.Minute), 10); got != 0 {
		t.Errorf("within the window: %d", got)
	}
	g.Add(began.Add(5*time.Minute), 20, 100)
	if got := g.Advance(began.Add(11*time.Minute), 20); got != 10 {
		t.Errorf("after the window: %d", got)
	}
	g.Add(began.Add(11*time.Minute), 30, 950)
	if got := g.Advance(began.Add(11*time.Minute), 30); got != 20 {
		t.Errorf("too many bytes: %d", got)
	}
	if got := g.Advance(began.Add(time.Hour), 55); got != 55 {
		t.Errorf("nothing held: %d", got)
	}
	for i := range 100_000 {
		g.Add(began.Add(time.Hour+time.Duration(i)*time.Millisecond), uint64(100+i), 0)
	}
	if got := g.Advance(began.Add(time.Hour+100*time.Second), 200_000); got != 55 {
		t.Errorf("many marks: %d", got)
	}
}

func TestNew_Refuses(t *testing.T) {
	for name, change := range map[string]func(*edgesync.Config, *edgesync.Deps){
		"url":    func(c *edgesync.Config, _ *edgesync.Deps) { c.URL = "" },
		"device": func(_ *edgesync.Config, d *edgesync.Deps) { d.Device = "Gw.17" },
		"store": func(c *edgesync.Config, _ *edgesync.Deps) {
			c.State = []edgesync.StateRule{{Owner: edgesync.OwnerDevice}}
		},
		"lanes": func(c *edgesync.Config, _ *edgesync.Deps) {
			c.Events = []edgesync.EventRule{{Topics: "#", Lane: "bulk"}}
		},
	} {
		cfg, deps := edgesync.DefaultConfig(), edgesync.Deps{Device: "gw"}
		cfg.URL = "nats://127.0.0.1:1"
		change(&cfg, &deps)
		if _, err := edgesync.New(cfg, deps); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func ExampleEventSubject() {
	fmt.Println(edgesync.EventSubject("gateway-17", "sensors/hall 1/temperature"))
	// Output: ev.gateway-17.sensors.hall=201.temperature
}
