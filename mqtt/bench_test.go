package mqtt_test

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/mqtt"
)

const (
	drainEvents = 10_000
	drainWindow = 50
	drainBytes  = 256
)

// BenchmarkBridge_Drain sends a backlog of 10,000 events of 256 bytes with QoS 1 to mosquitto, and the same messages with
// the library as it is, both 50 ahead of their acknowledgements. It prints both rates and their ratio.
func BenchmarkBridge_Drain(b *testing.B) {
	m := startMosquitto(b)
	var ours, raw, oursCPU, rawCPU time.Duration
	for range b.N {
		begin := cpuTime(b)
		raw += drainRaw(b, m.url())
		between := cpuTime(b)
		ours += drainBridge(b, m.url())
		rawCPU += between - begin
		oursCPU += cpuTime(b) - between
	}
	perEvent := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(drainEvents*b.N) / 1000 }
	b.ReportMetric(perEvent(oursCPU), "bridge-µs-CPU/event")
	b.ReportMetric(perEvent(rawCPU), "library-µs-CPU/event")
	rate := func(d time.Duration) float64 { return float64(drainEvents*b.N) / d.Seconds() }
	b.ReportMetric(rate(ours), "bridge-events/s")
	b.ReportMetric(rate(raw), "library-events/s")
	b.ReportMetric(rate(ours)/rate(raw), "ratio")
}

// cpuTime is what this process, not the broker, has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func drainBridge(b *testing.B, url string) time.Duration {
	local := newLocal(b, pubsub.Contract{Match: "#", MaxBytes: 1 << 30})
	events := make([]pubsub.Event, drainEvents)
	for i := range events {
		events[i] = pubsub.Event{Topic: "sensors/a", Data: make([]byte, drainBytes), ContentType: "text/plain"}
	}
	if err := local.Publish(b.Context(), events); err != nil {
		b.Fatal(err)
	}
	cfg := bridgeConfig("plant", url)
	cfg.MaxInflight, cfg.StatusTopic = drainWindow, "none"
	cfg.Out = []mqtt.OutRule{rawOut("sensors/#", "", "up/")}
	begin := time.Now()
	br, stop := runBridge(b, cfg, local)
	eventually(b, time.Minute, "the backlog to drain", func() bool { return br.Status().Out.Handled == drainEvents })
	d := time.Since(begin)
	stop()
	return d
}

func drainRaw(b *testing.B, url string) time.Duration {
	payload := make([]byte, drainBytes)
	begin := time.Now()
	c := rawClient(b, url, "raw")
	defer c.Disconnect(100)
	window := make(chan paho.Token, drainWindow)
	var failed atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for token := range window {
			if !token.WaitTimeout(10*time.Second) || token.Error() != nil {
				failed.Store(true)
			}
		}
	}()
	for range drainEvents {
		window <- c.Publish("up/sensors/a", 1, false, payload)
	}
	close(window)
	<-done
	if failed.Load() {
		b.Fatal("a publication failed")
	}
	return time.Since(begin)
}

// BenchmarkBridge_In takes 10,000 messages of 256 bytes from mosquitto into a local journal in memory.
func BenchmarkBridge_In(b *testing.B) {
	m := startMosquitto(b)
	var spent time.Duration
	for range b.N {
		local := newLocal(b, pubsub.Contract{Match: "#", MaxBytes: 1 << 30})
		cfg := bridgeConfig("plant", m.url())
		cfg.In = []mqtt.InRule{inRule("down/#", "", "")}
		br, stop := runBridge(b, cfg, local)
		connected(b, br)
		var got atomic.Int64
		s, err := local.Subscribe(b.Context(), pubsub.Consumer{Name: "app", Filter: "#", MaxBatch: 100}, func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
			got.Add(int64(len(events)))
			return make([]pubsub.Verdict, len(events)), nil
		})
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		go drainDown(b, m.url())
		eventually(b, time.Minute, "all messages", func() bool { return got.Load() >= drainEvents })
		spent += time.Since(begin)
		stop()
		_ = s.Close()
	}
	b.ReportMetric(float64(drainEvents*b.N)/spent.Seconds(), "events/s")
}

func drainDown(b *testing.B, url string) {
	c := rawClient(b, url, "feeder")
	defer c.Disconnect(100)
	payload := append([]byte(`"`), append(make([]byte, 0, drainBytes), []byte(`x"`)...)...)
	window := make(chan paho.Token, drainWindow)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for token := range window {
			token.WaitTimeout(10 * time.Second)
		}
	}()
	for range drainEvents {
		window <- c.Publish("down/a", 1, false, payload)
	}
	close(window)
	<-done
}
