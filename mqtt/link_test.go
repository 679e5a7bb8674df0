package mqtt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/mqtt"
)

// statusRecord keeps what a status topic says.
type statusRecord struct {
	mu   sync.Mutex
	seen []status
}

type status struct {
	Status  string `json:"status"`
	Name    string `json:"name"`
	Session uint64 `json:"session"`
}

func (r *statusRecord) add(m paho.Message) {
	var s status
	if json.Unmarshal(m.Payload(), &s) != nil {
		s.Status = "unreadable: " + string(m.Payload())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, s)
}

func (r *statusRecord) all() []status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func (r *statusRecord) last() status {
	if all := r.all(); len(all) > 0 {
		return all[len(all)-1]
	}
	return status{}
}

func TestBridge_BirthAndWill(t *testing.T) {
	m := startMosquitto(t)
	p := startProxy(t, m.addr())
	cfg := bridgeConfig("plant", p.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	b, stop := runBridge(t, cfg, newLocal(t))
	connected(t, b)
	var r statusRecord
	subscribe(t, rawClient(t, m.url(), "watcher"), "edged/edged-gw17-plant/status", r.add)
	eventually(t, 5*time.Second, "the retained birth", func() bool { return r.last().Status == "online" })
	first := r.last()
	if first.Name != "gw17" || first.Session == 0 {
		t.Errorf("birth %+v", first)
	}
	p.offline() // the broker sees the end of the connection and publishes the will
	eventually(t, 10*time.Second, "the will", func() bool { return r.last().Status == "offline" })
	if will := r.last(); will.Session != first.Session {
		t.Errorf("will of session %d after birth of %d", will.Session, first.Session)
	}
	p.online()
	eventually(t, 10*time.Second, "the second birth", func() bool { return r.last().Status == "online" })
	second := r.last()
	if second.Session <= first.Session {
		t.Errorf("session %d does not follow %d", second.Session, first.Session)
	}
	stop()
	eventually(t, 5*time.Second, "the farewell", func() bool { return r.last().Status == "offline" })
	if end := r.last(); end.Session != second.Session {
		t.Errorf("farewell of session %d, birth of %d", end.Session, second.Session)
	}
}

// TestBridge_Out_StopsCleanly stops the bridge again and again in the middle of its work: what is on its way is
// acknowledged first, so nothing is sent twice.
func TestBridge_Out_StopsCleanly(t *testing.T) {
	const total, rounds = 3000, 5
	m := startMosquitto(t)
	seen := observe(t, m.url(), "up/#")
	local := newLocal(t)
	publishLocal(t, local, "sensors/a", 0, total)
	cfg := bridgeConfig("plant", m.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	for i := range rounds {
		b, stop := runBridge(t, cfg, local)
		eventually(t, 10*time.Second, "some work", func() bool { return b.Status().Out.Handled > 0 || seen.distinct() == total })
		begin := time.Now()
		stop()
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("stop %d took %v", i, d)
		}
	}
	runBridge(t, cfg, local)
	eventually(t, 20*time.Second, "all messages", func() bool { return seen.distinct() == total })
	seen.check(t, total, 0)
}

// TestBridge_SessionTakeover connects a second client under the bridge's id again and again.
func TestBridge_SessionTakeover(t *testing.T) {
	m := startMosquitto(t)
	seen := observe(t, m.url(), "up/#")
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	b, _ := runBridge(t, cfg, local)
	connected(t, b)
	const rounds, each = 5, 100
	for i := range rounds {
		connected(t, b)
		before := b.Status().Link.Connects
		o := paho.NewClientOptions().AddBroker(m.url()).SetClientID("edged-gw17-plant").SetAutoReconnect(false)
		thief := paho.NewClient(o)
		if token := thief.Connect(); !token.WaitTimeout(5*time.Second) || token.Error() != nil {
			t.Fatal(token.Error())
		}
		publishLocal(t, local, "sensors/a", i*each, (i+1)*each)
		eventually(t, 10*time.Second, "the bridge to come back", func() bool { return b.Status().Link.Connects > before })
		thief.Disconnect(0)
	}
	eventually(t, 30*time.Second, "all messages", func() bool { return seen.distinct() == rounds*each })
	seen.check(t, rounds*each, rounds*cfg.MaxInflight)
}

// TestBridge_Out_TooLargeForBroker uses a limit by which mosquitto closes the connection without a word.
func TestBridge_Out_TooLargeForBroker(t *testing.T) {
	m := startMosquitto(t, "max_packet_size 2000")
	seen := observe(t, m.url(), "up/small")
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "sensors/", "up/")}
	b, _ := runBridge(t, cfg, local)
	publishLocal(t, local, "sensors/small", 0, 20)
	big := pubsub.Event{Topic: "sensors/big", Data: bytes.Repeat([]byte("x"), 5000), ContentType: "text/plain"}
	if err := local.Publish(t.Context(), []pubsub.Event{big}); err != nil {
		t.Fatal(err)
	}
	publishLocal(t, local, "sensors/small", 20, 40)
	eventually(t, 30*time.Second, "the refusal to be reported", func() bool { return len(b.Status().Refused) > 0 })
	eventually(t, 30*time.Second, "the other messages", func() bool { return seen.distinct() == 40 })
	seen.check(t, 40, 40*5)
	if r := b.Status().Refused[0]; r.Topic != "up/big" || r.LastError == "" {
		t.Errorf("refused %+v", r)
	}
	eventually(t, 5*time.Second, "the event to wait for redelivery", func() bool {
		s := local.Consumers()
		return len(s) == 1 && s[0].Pending == 1
	})
}

// TestBridge_Out_TooLargeForRule drops and counts what exceeds maxPayload.
func TestBridge_Out_TooLargeForRule(t *testing.T) {
	m := startMosquitto(t)
	seen := observe(t, m.url(), "up/#")
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.MaxPayload = 100
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	b, _ := runBridge(t, cfg, local)
	big := pubsub.Event{Topic: "sensors/a", Data: make([]byte, 101), ContentType: "text/plain"}
	if err := local.Publish(t.Context(), []pubsub.Event{big}); err != nil {
		t.Fatal(err)
	}
	publishLocal(t, local, "sensors/a", 0, 3)
	eventually(t, 10*time.Second, "the others", func() bool { return seen.distinct() == 3 })
	if n := b.Status().Out.Dropped[mqtt.CauseTooLarge]; n != 1 {
		t.Errorf("dropped %d", n)
	}
}

func TestBridge_In_TooLarge(t *testing.T) {
	m := startMosquitto(t)
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.MaxPayload = 1000
	cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
	b, _ := runBridge(t, cfg, local)
	seen := newLedger()
	consume(t, local, "down/#", func(e pubsub.Event) { seen.add(dataField(t, e)) })
	connected(t, b)
	c := rawClient(t, m.url(), "plant")
	for i := range 20 {
		publish(t, c, "down/a", number(i))
		publish(t, c, "down/a", make([]byte, 1001+i*70000))
	}
	eventually(t, 20*time.Second, "the small ones", func() bool { return seen.distinct() == 20 })
	seen.check(t, 20, 0)
	eventually(t, 5*time.Second, "the count", func() bool { return b.Status().In.Dropped[mqtt.CauseTooLarge] == 20 })
	if s := b.Status().Link; s.Connects != 1 {
		t.Errorf("%d connections", s.Connects)
	}
}

// TestBridge_In_LinkCutAnywhere cuts the link while the broker sends, acknowledgements included.
func TestBridge_In_LinkCutAnywhere(t *testing.T) {
	const total = 2000
	m := startMosquitto(t, "max_inflight_messages 20")
	p := startProxy(t, m.addr())
	local := newLocal(t)
	cfg := bridgeConfig("plant", p.url())
	cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
	b, _ := runBridge(t, cfg, local)
	seen := newLedger()
	consume(t, local, "down/#", func(e pubsub.Event) { seen.add(dataField(t, e)) })
	connected(t, b)
	var left, cuts atomic.Int64
	left.Store(3000)
	p.setRule(func(_ bool, n int) fate {
		if cuts.Load() >= 25 || left.Add(-int64(n)) > 0 {
			return pass
		}
		cuts.Add(1)
		left.Store(200 + rand.Int64N(4000))
		return cut
	})
	c := rawClient(t, m.url(), "plant")
	for i := range total {
		publish(t, c, "down/a", number(i))
	}
	eventually(t, 60*time.Second, "all events", func() bool { return seen.distinct() == total })
	t.Logf("%d cuts", cuts.Load())
	seen.check(t, total, int(cuts.Load())*total) // mosquitto sends all it has, each time
}

// TestBridge_In_Away has the broker keep what comes while the bridge is away.
func TestBridge_In_Away(t *testing.T) {
	m := startMosquitto(t)
	local := newLocal(t)
	cfg := bridgeConfig("plant", m.url())
	cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
	b, stop := runBridge(t, cfg, local)
	connected(t, b)
	seen := newLedger()
	consume(t, local, "down/#", func(e pubsub.Event) { seen.add(dataField(t, e)) })
	stop()
	c := rawClient(t, m.url(), "plant")
	for i := range 200 {
		publish(t, c, "down/a", number(i))
	}
	m.save()
	m.stop(syscall.SIGKILL)
	m.start()
	b, _ = runBridge(t, cfg, local)
	connected(t, b)
	if !b.Status().Link.SessionPresent {
		t.Error("the broker has lost the session")
	}
	eventually(t, 20*time.Second, "what came meanwhile", func() bool { return seen.distinct() == 200 })
	seen.check(t, 200, 0)
}

// TestBridge_In_TopicFull leaves messages with the broker while the local topic refuses them.
func TestBridge_In_TopicFull(t *testing.T) {
	m := startMosquitto(t)
	local := newLocal(t, pubsub.Contract{Match: "#", MaxEvents: 10, WhenFull: pubsub.Reject})
	cfg := bridgeConfig("plant", m.url())
	cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
	b, _ := runBridge(t, cfg, local)
	connected(t, b)
	c := rawClient(t, m.url(), "plant")
	for i := range 50 {
		publish(t, c, "down/a", number(i))
	}
	eventually(t, 10*time.Second, "the bridge to say that it is blocked", func() bool { return b.Status().Blocked != "" })
	if s := b.Status(); s.In.Handled > 10 || !s.Link.Connected {
		t.Errorf("%+v", s)
	}
	seen := newLedger()
	consume(t, local, "down/#", func(e pubsub.Event) { seen.add(dataField(t, e)) })
	eventually(t, 30*time.Second, "all 50", func() bool { return seen.distinct() == 50 })
	seen.check(t, 50, 0)
	eventually(t, 5*time.Second, "the end of the blockade", func() bool { return b.Status().Blocked == "" })
}

// TestBridge_In_Overflow gives the bridge room for a few messages only; the broker has to send the rest again.
func TestBridge_In_Overflow(t *testing.T) {
	m := startMosquitto(t)
	local := newLocal(t)
	slow := &slowBroker{Broker: local}
	cfg := bridgeConfig("plant", m.url())
	cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
	b, _ := runBridge(t, cfg, slow, func(o *mqtt.BridgeOptions) { o.Client.MaxQueue = 3000 })
	connected(t, b)
	seen := newLedger()
	consume(t, local, "down/#", func(e pubsub.Event) { seen.add(dataField(t, e)) })
	slow.closed.Store(true)
	c := rawClient(t, m.url(), "plant")
	for i := range 100 {
		publish(t, c, "down/a", number(i))
	}
	eventually(t, 10*time.Second, "the queue to fill", func() bool { return b.Status().Link.Queued >= 10 })
	slow.closed.Store(false)
	eventually(t, 60*time.Second, "all 100", func() bool { return seen.distinct() == 100 })
	seen.check(t, 100, 100)
	if s := b.Status().Link; s.Connects < 2 {
		t.Errorf("%d connections: nothing overflowed", s.Connects)
	}
}

// slowBroker refuses for a while.
type slowBroker struct {
	pubsub.Broker
	closed atomic.Bool
}

func (s *slowBroker) Publish(ctx context.Context, events []pubsub.Event) error {
	if s.closed.Load() {
		return fmt.Errorf("append: %w", pubsub.ErrTopicFull)
	}
	return s.Broker.Publish(ctx, events)
}

func TestBridge_QoS(t *testing.T) {
	m := startMosquitto(t)
	for qos := range 3 {
		t.Run(fmt.Sprint(qos), func(t *testing.T) {
			seen := observe(t, m.url(), "up/#")
			local := newLocal(t)
			cfg := bridgeConfig("plant", m.url())
			r := rawOut("sensors/#", "", "up/")
			r.QoS = qos
			cfg.Out = []mqtt.OutRule{r}
			publishLocal(t, local, "sensors/a", 0, 200) // before there is a connection: QoS 0 waits too
			runBridge(t, cfg, local)
			eventually(t, 20*time.Second, "200 messages", func() bool { return seen.distinct() == 200 })
			seen.check(t, 200, 0)
		})
	}
}

// TestBridge_LoopPrevention connects two devices both ways through one broker, by rules that would make an event run in
// circles.
func TestBridge_LoopPrevention(t *testing.T) {
	m := startMosquitto(t)
	one, two := newLocal(t), newLocal(t)
	open := func(device, send, take string, local pubsub.Broker) *mqtt.Bridge {
		cfg := bridgeConfig("ring", m.url())
		cfg.ClientID = device
		cfg.Out = []mqtt.OutRule{outRule("news/#", "", send)}
		cfg.In = []mqtt.InRule{inRule(take+"#", take, "")}
		b, _ := runBridge(t, cfg, local, func(o *mqtt.BridgeOptions) { o.Device = device })
		connected(t, b)
		return b
	}
	a := open("a", "x/", "y/", one)
	b := open("b", "y/", "x/", two)
	var atA, atB atomic.Int64
	consume(t, one, "news/#", func(pubsub.Event) { atA.Add(1) })
	consume(t, two, "news/#", func(e pubsub.Event) {
		atB.Add(1)
		if !strings.Contains(string(e.Data), `"edgedvia":"a"`) {
			t.Errorf("no trace of device a in %s", e.Data)
		}
	})
	event := `{"specversion":"1.0","id":"1","source":"s","type":"t","data":1}`
	for range 10 {
		e := pubsub.Event{Topic: "news/today", Data: []byte(event), ContentType: "application/cloudevents+json"}
		if err := one.Publish(t.Context(), []pubsub.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "the events to come back to a", func() bool { return a.Status().In.Dropped[mqtt.CauseLoop] == 10 })
	if atA.Load() != 10 || atB.Load() != 10 || b.Status().Out.Handled != 10 {
		t.Errorf("a has %d, b has %d: %+v", atA.Load(), atB.Load(), b.Status())
	}
}

// TestBridge_StartsWithoutNetwork opens and runs a bridge to a name that does not resolve.
func TestBridge_StartsWithoutNetwork(t *testing.T) {
	local := newLocal(t)
	cfg := bridgeConfig("plant", "mqtts://broker.invalid")
	cfg.Out = []mqtt.OutRule{outRule("#", "", "up/")}
	b, stop := runBridge(t, cfg, local)
	publishLocal(t, local, "a", 0, 10)
	eventually(t, 10*time.Second, "a reason", func() bool { return b.Status().Link.LastError != "" })
	begin := time.Now()
	stop()
	if d := time.Since(begin); d > 3*time.Second {
		t.Errorf("stopping took %v", d)
	}
}
