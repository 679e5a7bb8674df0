package mqtt_test

import (
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/mqtt"
)

// fakeBroker misbehaves as a test says, which mosquitto cannot be made to.
type fakeBroker struct {
	l net.Listener
	// answer gets each packet after CONNECT; without an answer of its own it calls usual. False closes the connection.
	answer func(conn net.Conn, p packets.ControlPacket) bool
	conns  atomic.Int64
	mu     sync.Mutex
	open   []net.Conn
	wg     sync.WaitGroup
}

func startFake(t testing.TB, answer func(net.Conn, packets.ControlPacket) bool) *fakeBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBroker{l: l, answer: answer}
	f.wg.Go(f.accept)
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for _, c := range f.open {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.wg.Wait()
	})
	return f
}

func (f *fakeBroker) url() string { return "mqtt://" + f.l.Addr().String() }

func (f *fakeBroker) accept() {
	for {
		conn, err := f.l.Accept()
		if err != nil {
			return
		}
		f.conns.Add(1)
		f.mu.Lock()
		f.open = append(f.open, conn)
		f.mu.Unlock()
		f.wg.Go(func() {
			defer conn.Close()
			for {
				p, err := packets.ReadPacket(conn)
				if err != nil || !f.answer(conn, p) {
					return
				}
			}
		})
	}
}

// usual answers as a broker should.
func usual(conn net.Conn, p packets.ControlPacket) bool {
	var out packets.ControlPacket
	switch p := p.(type) {
	case *packets.ConnectPacket:
		out = packets.NewControlPacket(packets.Connack)
	case *packets.PublishPacket:
		if p.Qos == 1 {
			ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			ack.MessageID = p.MessageID
			out = ack
		}
	case *packets.SubscribePacket:
		ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		ack.MessageID, ack.ReturnCodes = p.MessageID, []byte{1}
		out = ack
	case *packets.PingreqPacket:
		out = packets.NewControlPacket(packets.Pingresp)
	case *packets.DisconnectPacket:
		return false
	}
	return out == nil || out.Write(conn) == nil
}

// TestBridge_Out_BrokerDiesAnywhere has a broker that makes each message durable before it acknowledges it (mosquitto does
// not, and forgets some when it is killed), and that dies before, between and after the two.
func TestBridge_Out_BrokerDiesAnywhere(t *testing.T) {
	const total = 5000
	seen := newLedger()
	var deaths atomic.Int64
	f := startFake(t, func(conn net.Conn, p packets.ControlPacket) bool {
		pub, ok := p.(*packets.PublishPacket)
		if !ok {
			return usual(conn, p)
		}
		fate := 99
		if deaths.Load() < 60 {
			fate = rand.IntN(100)
		}
		if fate == 0 {
			deaths.Add(1)
			return false
		}
		seen.add(string(pub.Payload))
		if fate == 1 {
			deaths.Add(1)
			return false
		}
		answered := usual(conn, p)
		if fate == 2 {
			deaths.Add(1)
			_ = conn.(*net.TCPConn).SetLinger(0) // what is under way is lost too
			return false
		}
		return answered
	})
	local := newLocal(t)
	runBridge(t, fakeConfig(f.url()), local)
	publishLocal(t, local, "sensors/a", 0, total)
	eventually(t, 100*time.Second, "all messages", func() bool { return seen.distinct() == total })
	t.Logf("%d deaths", deaths.Load())
	seen.check(t, total, int(deaths.Load())*50)
}

func fakeConfig(url string) mqtt.BridgeConfig {
	cfg := bridgeConfig("plant", url)
	cfg.StatusTopic = "none"
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
	return cfg
}

func TestBridge_SubscriptionRefused(t *testing.T) {
	f := startFake(t, func(conn net.Conn, p packets.ControlPacket) bool {
		s, ok := p.(*packets.SubscribePacket)
		if !ok {
			return usual(conn, p)
		}
		ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		ack.MessageID, ack.ReturnCodes = s.MessageID, []byte{0x80}
		return ack.Write(conn) == nil
	})
	b, _ := runBridge(t, fakeConfig(f.url()), newLocal(t))
	connected(t, b)
	if s := b.Status().Link; len(s.Refused) != 1 || s.Refused[0] != "down/#" {
		t.Errorf("%+v", s)
	}
}

// TestBridge_MalformedSuback must not bring the process down.
func TestBridge_MalformedSuback(t *testing.T) {
	f := startFake(t, func(conn net.Conn, p packets.ControlPacket) bool {
		s, ok := p.(*packets.SubscribePacket)
		if !ok {
			return usual(conn, p)
		}
		ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		ack.MessageID, ack.ReturnCodes = s.MessageID, []byte{1, 1, 1}
		return ack.Write(conn) == nil
	})
	b, _ := runBridge(t, fakeConfig(f.url()), newLocal(t))
	eventually(t, 10*time.Second, "the reason", func() bool { return strings.Contains(b.Status().Link.LastError, "SUBACK") })
}

// TestBridge_NoAcknowledgement ends a connection on which nothing is acknowledged and sends again on the next.
func TestBridge_NoAcknowledgement(t *testing.T) {
	var silent atomic.Bool
	silent.Store(true)
	seen := newLedger()
	f := startFake(t, func(conn net.Conn, p packets.ControlPacket) bool {
		if p, ok := p.(*packets.PublishPacket); ok {
			if silent.Load() {
				return true
			}
			seen.add(string(p.Payload))
		}
		return usual(conn, p)
	})
	local := newLocal(t)
	b, _ := runBridge(t, fakeConfig(f.url()), local, func(o *mqtt.BridgeOptions) { o.Client.AckTimeout = 300 * time.Millisecond })
	publishLocal(t, local, "sensors/a", 0, 100)
	eventually(t, 10*time.Second, "the reason", func() bool { return strings.Contains(b.Status().Link.LastError, "acknowledge") })
	silent.Store(false)
	eventually(t, 20*time.Second, "all messages", func() bool { return seen.distinct() == 100 })
	seen.check(t, 100, 0)
}

// TestBridge_SilentBroker finds out that a broker has gone without a word, by its missing answers to pings.
func TestBridge_SilentBroker(t *testing.T) {
	f := startFake(t, func(conn net.Conn, p packets.ControlPacket) bool {
		if _, ok := p.(*packets.PingreqPacket); ok {
			return true
		}
		return usual(conn, p)
	})
	b, _ := runBridge(t, fakeConfig(f.url()), newLocal(t), func(o *mqtt.BridgeOptions) { o.Client.KeepAlive = time.Second })
	connected(t, b)
	eventually(t, 10*time.Second, "the reason", func() bool { return strings.Contains(b.Status().Link.LastError, "does not answer pings") })
}

func TestBridge_NoConnack(t *testing.T) {
	f := startFake(t, func(net.Conn, packets.ControlPacket) bool { return true })
	b, stop := runBridge(t, fakeConfig(f.url()), newLocal(t), func(o *mqtt.BridgeOptions) { o.Client.ConnectTimeout = 200 * time.Millisecond })
	eventually(t, 10*time.Second, "the second attempt", func() bool { return f.conns.Load() > 1 })
	if s := b.Status().Link; s.Connected || s.LastError == "" {
		t.Errorf("%+v", s)
	}
	stop()
}

// TestBridge_RefusedTopic has a broker that closes the connection for one topic, as several clouds do.
func TestBridge_RefusedTopic(t *testing.T) {
	var open atomic.Bool
	seen, denied := newLedger(), newLedger()
	f := startFake(t, func(conn net.Conn, p packets.ControlPacket) bool {
		if p, ok := p.(*packets.PublishPacket); ok {
			switch {
			case p.TopicName != "up/sensors/denied":
				seen.add(string(p.Payload))
			case open.Load():
				denied.add(string(p.Payload))
			default:
				return false
			}
		}
		return usual(conn, p)
	})
	local := newLocal(t)
	var clock atomic.Int64
	b, _ := runBridge(t, fakeConfig(f.url()), local, func(o *mqtt.BridgeOptions) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	})
	for i := range 10 {
		publishLocal(t, local, "sensors/denied", i, i+1)
		publishLocal(t, local, "sensors/good", i, i+1)
	}
	eventually(t, 60*time.Second, "the good topic", func() bool { return seen.distinct() == 10 })
	if r := b.Status().Refused; len(r) != 1 || r[0].Topic != "up/sensors/denied" || r[0].Times < 5 {
		t.Errorf("refused %+v", r)
	}
	open.Store(true)
	clock.Store(int64(time.Hour))
	eventually(t, 30*time.Second, "the topic that was refused", func() bool { return denied.distinct() == 10 })
	eventually(t, 5*time.Second, "the status", func() bool { return len(b.Status().Refused) == 0 })
	if s := local.Consumers(); len(s) != 1 || s[0].Dropped > 0 {
		t.Errorf("%+v", s)
	}
}

// TestBridge_SlowLink needs longer for one message than the keep-alive time allows for silence.
func TestBridge_SlowLink(t *testing.T) {
	m := startMosquitto(t)
	p := startProxy(t, m.addr())
	p.mu.Lock()
	p.small = true
	p.mu.Unlock()
	p.setRule(func(fromBroker bool, n int) fate {
		if !fromBroker {
			<-time.After(15 * time.Millisecond) // 100 kB/s
		}
		return pass
	})
	local := newLocal(t)
	cfg := bridgeConfig("plant", p.url())
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	b, _ := runBridge(t, cfg, local, func(o *mqtt.BridgeOptions) { o.Client.KeepAlive, o.Client.AckTimeout = time.Second, time.Second })
	e := pubsub.Event{Topic: "sensors/a", Data: make([]byte, 120_000), ContentType: "application/octet-stream"}
	if err := local.Publish(t.Context(), []pubsub.Event{e}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the message to be acknowledged", func() bool { return b.Status().Out.Handled == 1 })
	if s := b.Status().Link; s.Connects != 1 {
		t.Errorf("%d connections: %s", s.Connects, s.LastError)
	}
}
