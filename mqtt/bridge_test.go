package mqtt_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/mqtt"
)

// fast makes a connection that comes back quickly.
var fast = mqtt.ClientOptions{MinBackoff: 20 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, ConnectTimeout: 5 * time.Second}

func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

func newLocal(t testing.TB, contracts ...pubsub.Contract) *pubsub.JournalBroker {
	t.Helper()
	b := pubsub.NewBroker(pubsub.NewMemoryJournal(pubsub.MemoryOptions{Contracts: contracts}), pubsub.BrokerOptions{Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// bridgeConfig returns a configuration with its defaults set, as decoding would.
func bridgeConfig(name, url string) mqtt.BridgeConfig {
	var c mqtt.BridgeConfig
	c.SetDefaults()
	c.Name, c.Broker = name, url
	return c
}

func outRule(topics, strip, prefix string) mqtt.OutRule {
	var r mqtt.OutRule
	r.SetDefaults()
	r.Topics, r.Strip, r.Prefix = topics, strip, prefix
	return r
}

func inRule(filter, strip, prefix string) mqtt.InRule {
	var r mqtt.InRule
	r.SetDefaults()
	r.Filter, r.Strip, r.Prefix = filter, strip, prefix
	return r
}

func rawOut(topics, strip, prefix string) mqtt.OutRule {
	r := outRule(topics, strip, prefix)
	r.Payload = mqtt.PayloadRaw
	return r
}

// runBridge opens a bridge and runs it until the test ends or stop is called.
func runBridge(t testing.TB, cfg mqtt.BridgeConfig, local pubsub.Broker, change ...func(*mqtt.BridgeOptions)) (b *mqtt.Bridge, stop func()) {
	t.Helper()
	opts := mqtt.BridgeOptions{Device: "gw17", Broker: local, Log: testLog(t), Client: fast}
	for _, f := range change {
		f(&opts)
	}
	b, err := mqtt.OpenBridge(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(context.Background()) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		_ = b.Close()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("bridge ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("bridge did not stop in time")
		}
	}
	t.Cleanup(stop)
	return b, stop
}

func connected(t testing.TB, b *mqtt.Bridge) {
	t.Helper()
	eventually(t, 10*time.Second, "the bridge to connect", func() bool { return b.Status().Link.Connected })
}

// rawClient is the library as its documentation has it, for what stands at the other end.
func rawClient(t testing.TB, url, id string, change ...func(*paho.ClientOptions)) paho.Client {
	t.Helper()
	o := paho.NewClientOptions().AddBroker(url).SetClientID(id).SetCleanSession(false).
		SetAutoReconnect(true).SetMaxReconnectInterval(200 * time.Millisecond).SetConnectRetry(true).SetConnectRetryInterval(50 * time.Millisecond)
	o.SetStore(paho.NewOrderedMemoryStore())
	for _, f := range change {
		f(o)
	}
	c := paho.NewClient(o)
	token := c.Connect()
	if !token.WaitTimeout(10 * time.Second) {
		t.Fatal("raw client does not connect")
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return c
}

func subscribe(t testing.TB, c paho.Client, filter string, h func(paho.Message)) {
	t.Helper()
	token := c.Subscribe(filter, 1, func(_ paho.Client, m paho.Message) { h(m) })
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("subscribe: %v", token.Error())
	}
}

func publish(t testing.TB, c paho.Client, topic string, payload []byte) {
	t.Helper()
	token := c.Publish(topic, 1, false, payload)
	if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		t.Fatalf("publish: %v", token.Error())
	}
}

// observe records the numbers that a subscriber at the broker gets.
func observe(t testing.TB, url, filter string) *ledger {
	t.Helper()
	l := newLedger()
	handler := func(_ paho.Client, m paho.Message) { l.add(string(m.Payload())) }
	c := rawClient(t, url, "observer", func(o *paho.ClientOptions) {
		o.SetDefaultPublishHandler(handler)
		o.SetResumeSubs(true)
	})
	subscribe(t, c, filter, func(m paho.Message) { l.add(string(m.Payload())) })
	return l
}

func publishLocal(t testing.TB, local pubsub.Broker, topic string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := pubsub.Event{Topic: topic, Data: number(i), ContentType: "text/plain"}
		if err := local.Publish(t.Context(), []pubsub.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// consume records what a local consumer gets, as the data of its events.
func consume(t testing.TB, local pubsub.Broker, filter string, h func(pubsub.Event)) {
	t.Helper()
	s, err := local.Subscribe(t.Context(), pubsub.Consumer{Name: "app", Filter: filter, MaxBatch: 100}, func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
		for _, e := range events {
			h(e)
		}
		return make([]pubsub.Verdict, len(events)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
}

func dataField(t testing.TB, e pubsub.Event) string {
	t.Helper()
	var ce struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(e.Data, &ce); err != nil {
		t.Errorf("event is no CloudEvent: %s", e.Data)
	}
	return string(ce.Data)
}

func TestBridge_Out(t *testing.T) {
	m := startMosquitto(t)
	seen := observe(t, m.url(), "plant1/gw17/#")
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "plant1/gw17/")}
	b, _ := runBridge(t, cfg, local)

	publishLocal(t, local, "sensors/room1/temp", 0, 500)
	eventually(t, 20*time.Second, "500 messages", func() bool { return seen.distinct() == 500 })
	seen.check(t, 500, 0)
	eventually(t, 5*time.Second, "the counters", func() bool { return b.Status().Out.Handled == 500 })
}

func TestBridge_In(t *testing.T) {
	m := startMosquitto(t)
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.In = []mqtt.InRule{inRule("plant1/commands/gw17/#", "plant1/commands/gw17/", "commands/")}
	b, _ := runBridge(t, cfg, local)
	seen := newLedger()
	consume(t, local, "commands/#", func(e pubsub.Event) {
		if e.Topic != "commands/valve/3" {
			t.Errorf("topic %q", e.Topic)
		}
		seen.add(dataField(t, e))
	})
	connected(t, b)
	c := rawClient(t, m.url(), "plant")
	for i := range 300 {
		publish(t, c, "plant1/commands/gw17/valve/3", number(i))
	}
	eventually(t, 20*time.Second, "300 events", func() bool { return seen.distinct() == 300 })
	seen.check(t, 300, 0)
	if s := b.Status().In; s.Handled != 300 {
		t.Errorf("in: %+v", s)
	}
}

func TestBridge_Out_BrokerKilled(t *testing.T) {
	m := startMosquitto(t)
	seen := observe(t, m.url(), "up/#")
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	b, _ := runBridge(t, cfg, local)
	connected(t, b)

	publishLocal(t, local, "sensors/a", 0, 200)
	eventually(t, 20*time.Second, "200 messages", func() bool { return seen.distinct() == 200 })
	m.save() // the observer's subscription
	m.stop(syscall.SIGKILL)
	eventually(t, 10*time.Second, "the bridge to notice", func() bool { return !b.Status().Link.Connected })
	publishLocal(t, local, "sensors/a", 200, 700)
	if s := b.Status().Link; s.LastError == "" {
		t.Errorf("status without a reason: %+v", s)
	}
	m.start()
	eventually(t, 30*time.Second, "700 messages", func() bool { return seen.distinct() == 700 })
	seen.check(t, 700, cfg.MaxInflight)
}

func TestBridge_Out_LinkCutAnywhere(t *testing.T) {
	const total = 3000
	m := startMosquitto(t)
	seen := observe(t, m.url(), "up/#")
	p := startProxy(t, m.addr())
	local := newLocal(t)
	cfg := bridgeConfig("plant", p.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	var left, cuts atomic.Int64
	left.Store(2000)
	p.setRule(func(fromBroker bool, n int) fate {
		if left.Add(-int64(n)) > 0 {
			return pass
		}
		if cuts.Load() >= 40 {
			return pass
		}
		cuts.Add(1)
		left.Store(300 + int64(rand.IntN(6000)))
		return cut
	})
	runBridge(t, cfg, local)
	publishLocal(t, local, "sensors/a", 0, total)
	eventually(t, 60*time.Second, "all messages", func() bool { return seen.distinct() == total })
	t.Logf("%d cuts", cuts.Load())
	seen.check(t, total, int(cuts.Load()+1)*cfg.MaxInflight)
	if cuts.Load() < 10 {
		t.Errorf("only %d cuts", cuts.Load())
	}
}

func TestBridge_Out_AcknowledgementsCut(t *testing.T) {
	const total = 1000
	m := startMosquitto(t)
	seen := observe(t, m.url(), "up/#")
	p := startProxy(t, m.addr())
	local := newLocal(t)
	cfg := bridgeConfig("plant", p.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	var cuts, acks atomic.Int64
	var swallowing atomic.Bool
	p.setRule(func(fromBroker bool, n int) fate {
		switch {
		case !fromBroker || cuts.Load() >= 15:
			return pass
		case swallowing.Load(): // the broker has the messages, and we never learn of it
			return swallow
		case acks.Add(int64(n)) > 150:
			acks.Store(0)
			swallowing.Store(true)
			time.AfterFunc(10*time.Millisecond, func() {
				cuts.Add(1)
				p.cut()
				swallowing.Store(false)
			})
			return swallow
		}
		return pass
	})
	runBridge(t, cfg, local)
	publishLocal(t, local, "sensors/a", 0, total)
	eventually(t, 60*time.Second, "all messages", func() bool { return seen.distinct() == total })
	t.Logf("%d cuts", cuts.Load())
	seen.check(t, total, int(cuts.Load()+1)*cfg.MaxInflight)
}
