package sync_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/state"
)

// The benchmarks compare sync with plain nats.go doing the same to the same server, in the same run. The figures of
// interest are the ratios.

const (
	benchEvents = 50_000
	benchWindow = 500 // batch here, publishes under way there
)

func BenchmarkDrain(b *testing.B) {
	for name, open := range map[string]func(testing.TB) upstream{"hub": withHub, "cluster": withCluster, "default": withDefault} {
		b.Run(name, func(b *testing.B) { benchDrain(b, open(b)) })
	}
}

// withDefault runs a server that does not sync every write, as NATS does by default.
func withDefault(t testing.TB) upstream {
	s := inProcess(t, &server.Options{StoreDir: t.TempDir()})
	u := newUpstream(t, s.ClientURL(), 1)
	u.provision(t)
	return u
}

func benchDrain(b *testing.B, u upstream) {
	u.provision(b)
	payload := event("sensors/temperature", 1)
	payload.Data = append(payload.Data[:len(payload.Data)-1], fmt.Sprintf(`,"pad":"%0*d"}`, 256-len(payload.Data), 0)...)
	for b.Loop() {
		raw := u.rawPublish(b, payload, benchEvents, benchWindow)
		each := u.rawPublish(b, payload, benchEvents/25, 1)
		ours := u.drain(b, payload, benchEvents)
		b.ReportMetric(raw, "raw-events/s")
		b.ReportMetric(each, "raw-one-by-one/s")
		b.ReportMetric(ours, "events/s")
		b.ReportMetric(ours/raw, "of-raw-async")
		b.ReportMetric(ours/each, "of-one-by-one")
	}
}

// rawPublish is nats.go's asynchronous publish with message ids, and a window.
func (u upstream) rawPublish(b *testing.B, e pubsub.Event, n, window int) float64 {
	nc, _ := connectAdmin(b, u.url)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(window))
	if err != nil {
		b.Fatal(err)
	}
	id := u.deviceID()
	subject := "ev." + id + ".sensors.temperature"
	began := time.Now()
	for i := range n {
		m := nats.NewMsg(subject)
		m.Data = e.Data
		m.Header["Nats-Msg-Id"] = []string{fmt.Sprintf("%s:epoch0123456789:telemetry.pubsub.=23:%d", id, i)}
		for {
			if window == 1 {
				if _, err = js.PublishMsg(context.Background(), m); err == nil {
					break
				}
			} else if _, err = js.PublishMsgAsync(m); err == nil {
				break
			}
			b.Log(err)
		}
	}
	<-js.PublishAsyncComplete()
	return float64(n) / time.Since(began).Seconds()
}

func (u upstream) drain(b *testing.B, e pubsub.Event, n int) float64 {
	disk := newDisk("#")
	events := make([]pubsub.Event, n)
	for i := range events {
		events[i] = e
	}
	if err := disk.journal.Append(context.Background(), events); err != nil {
		b.Fatal(err)
	}
	cfg := u.config(u.url)
	cfg.Batch.MaxEvents = benchWindow
	began := time.Now()
	d := start(b, u.deviceID(), disk, cfg)
	within(b, 2*time.Minute, "the backlog is drained", func() bool { return d.lane("telemetry").Changes == uint64(n) })
	rate := float64(n) / time.Since(began).Seconds()
	d.close()
	return rate
}

func BenchmarkState(b *testing.B) {
	for name, open := range map[string]func(testing.TB) upstream{"hub": withHub, "cluster": withCluster, "default": withDefault} {
		b.Run(name, func(b *testing.B) { benchState(b, open(b)) })
	}
}

func benchState(b *testing.B, u upstream) {
	u.provision(b)
	const keys = 20_000
	value := make([]byte, 256)
	for b.Loop() {
		raw := u.rawState(b, keys, value)
		disk := newDisk("#")
		cfg := u.config(u.url)
		cfg.State = cfg.State[1:]
		d := start(b, u.deviceID(), disk, cfg)
		eventually(b, "the lane is there", func() bool { return d.lane("state").State == "active" })
		for i := range keys {
			disk.store.writeSilently(state.Change{Key: fmt.Sprintf("orders||key/%d", i), Value: value})
		}
		began := time.Now()
		disk.store.signal()
		within(b, 2*time.Minute, "all keys are sent", func() bool { return d.lane("state").Changes >= keys })
		ours := keys / time.Since(began).Seconds()
		d.close()
		b.ReportMetric(raw, "raw-keys/s")
		b.ReportMetric(ours, "keys/s")
		b.ReportMetric(ours/raw, "of-raw-cas")
	}
}

// rawState is asynchronous compare-and-set of each key.
func (u upstream) rawState(b *testing.B, keys int, value []byte) float64 {
	nc, _ := connectAdmin(b, u.url)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(benchWindow))
	if err != nil {
		b.Fatal(err)
	}
	id := u.deviceID()
	began := time.Now()
	for i := range keys {
		m := nats.NewMsg(fmt.Sprintf("$KV.edged.%s.orders.key/%d", id, i))
		m.Data = value
		m.Header["Nats-Expected-Last-Subject-Sequence"] = []string{"0"}
		for {
			if _, err := js.PublishMsgAsync(m); err == nil {
				break
			}
		}
	}
	<-js.PublishAsyncComplete()
	return float64(keys) / time.Since(began).Seconds()
}

// Bytes that go up per event of 340 bytes, over WebSocket with compression.
func BenchmarkUplinkBytes(b *testing.B) {
	cfg := hubConfig(b)
	cfg.Listen.WebSocket = fmt.Sprintf("127.0.0.1:%d", freePort(b))
	h := openHub(b, cfg)
	u := newUpstream(b, h.ClientURL(), 1)
	p := newProxy(b, "nats://"+cfg.Listen.WebSocket)
	const n = 20_000
	for b.Loop() {
		disk := newDisk("#")
		var events []pubsub.Event
		for i := range n {
			data := fmt.Appendf(nil, `{"data":{"sensor":"hall-%d","value":%d.%02d,"unit":"celsius"},"datacontenttype":"application/json","id":"%08x-%04x-4%03x-9%03x-%012x","pubsubname":"pubsub","source":"sensor","specversion":"1.0","time":"%s","topic":"sensors/temperature","traceid":"00-%032x-%016x-01","type":"com.dapr.event.sent"}`,
				i%20, 20+i%7, i%100, i*2654435761, i%65536, i%4096, i%4096, i*1099511628211,
				time.Now().Add(time.Duration(i)*time.Second).UTC().Format(time.RFC3339), uint64(i)*0x9E3779B97F4A7C15, uint64(i)*0xC2B2AE3D27D4EB4F)
			events = append(events, pubsub.Event{Topic: "sensors/temperature", ContentType: "application/cloudevents+json", Data: data})
		}
		if err := disk.journal.Append(context.Background(), events); err != nil {
			b.Fatal(err)
		}
		for _, compression := range []bool{true, false} {
			c := u.config("ws://" + p.l.Addr().String())
			c.Compression = compression
			before := p.passed()
			d := start(b, u.deviceID(), disk, c)
			within(b, time.Minute, "all is sent", func() bool { return d.lane("telemetry").Changes == n })
			d.close()
			name := "bytes/event"
			if !compression {
				name = "uncompressed/event"
			}
			b.ReportMetric(float64(p.passed()-before)/n, name)
			disk.store = newStore()
		}
		b.ReportMetric(float64(len(events[0].Data)), "event-bytes")
	}
}

// The time from an append to the arrival at a plain subscriber of the upstream, online.
func BenchmarkOnlineLatency(b *testing.B) {
	h := openHub(b, hubConfig(b))
	u := newUpstream(b, h.ClientURL(), 1)
	disk := newDisk("#")
	d := start(b, u.deviceID(), disk, u.config(u.url))
	sub, err := u.admin.SubscribeSync("ev." + d.id + ".t")
	if err != nil {
		b.Fatal(err)
	}
	d.publish("t", 1, 1)
	if _, err := sub.NextMsg(5 * time.Second); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		d.publish("t", 2, 2)
		if _, err := sub.NextMsg(5 * time.Second); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
