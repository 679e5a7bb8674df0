package mqtt_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/mqtt"
)

// journals keeps memory journals by name, so that they outlive a component as files do.
type journals map[string]*pubsub.MemoryJournal

// kept hides Close: the component closes what it opens, and these are opened again.
type kept struct{ pubsub.Journal }

func (j journals) open(name string) (pubsub.Journal, error) {
	if j[name] == nil {
		j[name] = pubsub.NewMemoryJournal(pubsub.MemoryOptions{})
	}
	return kept{j[name]}, nil
}

func mqtt3(props map[string]string) component.Spec {
	return component.Spec{Name: "plant", Type: "pubsub.mqtt3", Version: "v1", Properties: props}
}

func openComponent(t testing.TB, j journals, props map[string]string) *mqtt.Broker {
	t.Helper()
	spec := mqtt3(props)
	spec.Log = testLog(t)
	b, err := mqtt.NewBroker(t.Context(), spec, mqtt.BrokerOptions{Device: "gw17", OpenJournal: j.open, Client: fast})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func upComponent(t testing.TB, b *mqtt.Broker) {
	t.Helper()
	eventually(t, 10*time.Second, "the component to connect", func() bool { return b.Status().Link.Connected })
}

// take subscribes under a name and records the data.
func take(t testing.TB, b pubsub.Broker, name, filter string) (*ledger, pubsub.Subscription) {
	t.Helper()
	l := newLedger()
	s, err := b.Subscribe(t.Context(), pubsub.Consumer{Name: name, Filter: filter, MaxBatch: 10}, func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
		for _, e := range events {
			l.add(string(e.Data))
		}
		return make([]pubsub.Verdict, len(events)), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return l, s
}

func TestNewBroker_Metadata(t *testing.T) {
	cases := []struct {
		name  string
		props map[string]string
		want  string
	}{
		{"OK", map[string]string{"URL": "tcp://127.0.0.1:1", "QoS": "2", "Retain": "true", "cleansession": "no", "consumerID": "x"}, ""},
		{"ErrNoURL", nil, "url is missing"},
		{"ErrURL", map[string]string{"url": "http://x"}, "scheme"},
		{"ErrQoS", map[string]string{"url": "tcp://x", "qos": "3"}, `qos "3"`},
		{"ErrRetain", map[string]string{"url": "tcp://x", "retain": "maybe"}, `retain "maybe"`},
		{"ErrHalfCertificate", map[string]string{"url": "tcp://x", "clientCert": "/x"}, "go together"},
		{"ErrInflight", map[string]string{"url": "tcp://x", "maxInflight": "0"}, "maxInflight"},
		{"ErrKeepAlive", map[string]string{"url": "tcp://x", "keepAlive": "1"}, "keepAlive"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b, err := mqtt.NewBroker(t.Context(), mqtt3(c.props), mqtt.BrokerOptions{Device: "gw17", OpenJournal: journals{}.open})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(b.Close(), b.Close()); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "component plant") {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestBroker_RoundTrip(t *testing.T) {
	m := startMosquitto(t)
	b := openComponent(t, journals{}, map[string]string{"url": m.url()})
	orders, _ := take(t, b, "orders", "sensors/+/temp")
	billing, _ := take(t, b, "billing", "sensors/#") // covers the other: the broker must not send twice
	upComponent(t, b)
	publishLocal(t, b, "sensors/a/temp", 0, 200)
	for _, l := range []*ledger{orders, billing} {
		eventually(t, 20*time.Second, "200 events", func() bool { return l.distinct() == 200 })
	}
	billing.check(t, 200, 0)
	orders.check(t, 200, 0)
}

func TestBroker_Metadata(t *testing.T) {
	m := startMosquitto(t)
	b := openComponent(t, journals{}, map[string]string{"url": m.url(), "retain": "true"})
	upComponent(t, b)
	event := []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data":1}`)
	for topic, retain := range map[string]string{"kept": "", "passing": "false"} {
		e := pubsub.Event{Topic: topic, Data: event, ContentType: pubsub.CloudEventsType, Metadata: map[string]string{"retain": retain}}
		if err := b.Publish(t.Context(), []pubsub.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 5*time.Second, "both to arrive", func() bool { return b.Status().Out.Handled == 2 })
	publish(t, rawClient(t, m.url(), "plant"), "end", []byte("raw"))
	var mu sync.Mutex
	got := map[string]pubsub.Event{}
	_, err := b.Subscribe(t.Context(), pubsub.Consumer{Name: "app", Filter: "#"}, func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
		mu.Lock()
		defer mu.Unlock()
		got[events[0].Topic] = events[0]
		return []pubsub.Verdict{pubsub.Ack}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the retained message", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 1 })
	publish(t, rawClient(t, m.url(), "plant2"), "end", []byte("raw"))
	eventually(t, 5*time.Second, "the raw message", func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 2 })
	mu.Lock()
	defer mu.Unlock()
	if e := got["kept"]; string(e.Data) != string(event) || e.ContentType != pubsub.CloudEventsType || e.Metadata["retained"] != "true" || e.Metadata["qos"] != "1" {
		t.Errorf("retained event %+v", e)
	}
	if e := got["end"]; string(e.Data) != "raw" || e.ContentType != "application/octet-stream" || e.Metadata["retained"] != "false" {
		t.Errorf("raw event %+v", e)
	}
}

func TestBroker_Publish_Refuses(t *testing.T) {
	b := openComponent(t, journals{}, map[string]string{"url": "tcp://127.0.0.1:1"})
	for _, e := range []pubsub.Event{{Topic: "a/+"}, {Topic: ""}, {Topic: "a\x00"}, {Topic: "a", Metadata: map[string]string{"retain": "perhaps"}}} {
		err := b.Publish(t.Context(), []pubsub.Event{{Topic: "good"}, e})
		if f := fault.From(err); err == nil || f.HTTP != 400 || f.GRPC != fault.InvalidArgument {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if _, err := b.Subscribe(t.Context(), pubsub.Consumer{Name: "x", Filter: "a/#/b"}, nil); err == nil {
		t.Error("a bad filter is accepted")
	}
}

// TestBroker_Offline publishes without a broker, restarts the component, and starts the broker at last.
func TestBroker_Offline(t *testing.T) {
	m := startMosquitto(t)
	seen := observe(t, m.url(), "sensors/#")
	m.save()
	m.stop(syscall.SIGKILL)
	j := journals{}
	b := openComponent(t, j, map[string]string{"url": m.url()})
	publishLocal(t, b, "sensors/a", 0, 300)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openComponent(t, j, map[string]string{"url": m.url()})
	publishLocal(t, b, "sensors/a", 300, 500)
	m.start()
	eventually(t, 30*time.Second, "500 messages", func() bool { return seen.distinct() == 500 })
	seen.check(t, 500, 0)
}

// TestBroker_Away closes the component while others publish; nothing is missed, and no consumer hears of what another
// application has handled.
func TestBroker_Away(t *testing.T) {
	m := startMosquitto(t)
	j := journals{}
	props := map[string]string{"url": m.url()}
	b := openComponent(t, j, props)
	l, _ := take(t, b, "app", "down/#")
	upComponent(t, b)
	c := rawClient(t, m.url(), "plant")
	for i := range 50 {
		publish(t, c, "down/a", number(i))
	}
	eventually(t, 10*time.Second, "the first 50", func() bool { return l.distinct() == 50 })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for i := 50; i < 100; i++ {
		publish(t, c, "down/a", number(i))
	}
	b = openComponent(t, j, props)
	upComponent(t, b) // and what the broker kept arrives before any application asks for it
	eventually(t, 10*time.Second, "the broker's queue", func() bool { return b.Status().In.Handled >= 50 })
	again, _ := take(t, b, "app", "down/#")
	for i := 100; i < 110; i++ {
		publish(t, c, "down/a", number(i))
	}
	eventually(t, 10*time.Second, "the rest", func() bool { return again.distinct() == 60 })
	if again.duplicates > 0 || again.reordered > 0 {
		t.Errorf("duplicates %d, reordered %d", again.duplicates, again.reordered)
	}
}

func TestBroker_SharedSubscription(t *testing.T) {
	m := startMosquitto(t)
	props := func(id string) map[string]string { return map[string]string{"url": m.url(), "consumerID": id} }
	one, two := openComponent(t, journals{}, props("one")), openComponent(t, journals{}, props("two"))
	var total atomic.Int64
	counts := map[string]*ledger{}
	for name, b := range map[string]*mqtt.Broker{"one": one, "two": two} {
		counts[name], _ = take(t, b, "app", "$share/group/work/#")
		upComponent(t, b)
	}
	c := rawClient(t, m.url(), "plant")
	eventually(t, 20*time.Second, "both to get a share", func() bool {
		n := total.Add(1) - 1
		publish(t, c, "work/x", number(int(n)))
		return counts["one"].distinct() > 10 && counts["two"].distinct() > 10
	})
	n := int(total.Load())
	eventually(t, 10*time.Second, "each message once", func() bool { return counts["one"].distinct()+counts["two"].distinct() == n })
}

// TestBroker_Volatile gives the broker's subscription back when the last volatile consumer ends.
func TestBroker_Volatile(t *testing.T) {
	m := startMosquitto(t, "log_type unsubscribe", "log_type subscribe")
	b := openComponent(t, journals{}, map[string]string{"url": m.url()})
	upComponent(t, b)
	var got atomic.Int64
	handler := func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
		got.Add(int64(len(events)))
		return make([]pubsub.Verdict, len(events)), nil
	}
	var subs []pubsub.Subscription
	for range 2 {
		s, err := b.Subscribe(t.Context(), pubsub.Consumer{Filter: "x/#", Volatile: true}, handler)
		if err != nil {
			t.Fatal(err)
		}
		subs = append(subs, s)
	}
	c := rawClient(t, m.url(), "plant")
	eventually(t, 10*time.Second, "deliveries to both", func() bool { publish(t, c, "x/y", []byte("1")); return got.Load() >= 2 })
	for _, s := range subs {
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 10*time.Second, "the broker to forget the filter", func() bool {
		before := b.Status().In.Handled
		publish(t, c, "x/y", []byte("1"))
		publish(t, c, "x/y", []byte("2"))
		return b.Status().In.Handled == before
	})
}

func TestBroker_TLS(t *testing.T) {
	ca := newAuthority(t)
	m := startTLS(t, ca)
	cert, key := ca.issue("gw17")
	b := openComponent(t, journals{}, map[string]string{"url": "ssl://" + m.addr(), "caCert": ca.pem, "clientCert": cert, "clientKey": key})
	l, _ := take(t, b, "app", "a/#")
	upComponent(t, b)
	publishLocal(t, b, "a/b", 0, 10)
	eventually(t, 10*time.Second, "10 events", func() bool { return l.distinct() == 10 })
}

// TestBridge_WebSocket goes through mosquitto's WebSocket listener, where mosquitto is built with one.
func TestBridge_WebSocket(t *testing.T) {
	port := freePort(t)
	m := startMosquitto(t, "listener "+strconv.Itoa(port)+" 127.0.0.1", "protocol websockets")
	seen := observe(t, m.url(), "up/#")
	local := newLocal(t)
	cfg := bridgeConfig("plant", "ws://127.0.0.1:"+strconv.Itoa(port)+"/mqtt")
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
	b, _ := runBridge(t, cfg, local)
	down := newLedger()
	consume(t, local, "down/#", func(e pubsub.Event) { down.add(dataField(t, e)) })
	connected(t, b)
	publishLocal(t, local, "sensors/a", 0, 500)
	c := rawClient(t, m.url(), "plant")
	for i := range 200 {
		publish(t, c, "down/a", number(i))
	}
	eventually(t, 20*time.Second, "500 messages", func() bool { return seen.distinct() == 500 })
	eventually(t, 20*time.Second, "200 events", func() bool { return down.distinct() == 200 })
	seen.check(t, 500, 0)
	down.check(t, 200, 0)
}
