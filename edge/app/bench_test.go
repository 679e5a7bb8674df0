package app_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimev1 "github.com/dapr/dapr/pkg/proto/runtime/v1"
	"google.golang.org/grpc"

	"github.com/edged-io/edged/edge/app"
	"github.com/edged-io/edged/edge/pubsub"
)

// TestMain lets the test binary be the application, as a process of its own, so that its CPU time is not counted.
func TestMain(m *testing.M) {
	if path := os.Getenv("EDGED_BENCH_APP"); path != "" {
		benchApp(path, os.Getenv("EDGED_BENCH_PROTOCOL"))
		return
	}
	os.Exit(m.Run())
}

// benchApp answers every delivery until its standard input ends.
func benchApp(path, protocol string) {
	l, err := net.Listen("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if protocol == "grpc" {
		srv := grpc.NewServer()
		runtimev1.RegisterAppCallbackServer(srv, &callbacks{event: func(context.Context, *runtimev1.TopicEventRequest) (*runtimev1.TopicEventResponse, error) {
			return &runtimev1.TopicEventResponse{}, nil
		}})
		go func() { _ = srv.Serve(l) }()
	} else {
		go func() {
			_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"status":"SUCCESS"}`))
			}))
		}()
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

// startBenchApp starts the application and returns the channel to it.
func startBenchApp(b *testing.B, protocol app.Protocol) *app.Channel {
	b.Helper()
	path := filepath.Join(b.TempDir(), "app.sock")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EDGED_BENCH_APP="+path, "EDGED_BENCH_PROTOCOL="+string(protocol))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	return open(b, app.Config{Address: "unix://" + path, Protocol: protocol})
}

// BenchmarkDeliver measures one delivery of a 256-byte event to an application in another process; cpu-us/op is the CPU
// time of this side.
func BenchmarkDeliver(b *testing.B) {
	d := delivery()
	d.Envelope = []byte(strings.Replace(envelope, `{"amount":7}`, `{"text":"`+strings.Repeat("x", 256)+`"}`, 1))
	for _, tc := range []struct {
		name     string
		protocol app.Protocol
		netHTTP  bool
	}{{"lean", app.HTTP, false}, {"nethttp", app.HTTP, true}, {"grpc", app.GRPC, false}} {
		for _, workers := range []int{1, 32} {
			b.Run(fmt.Sprintf("%s/c%d", tc.name, workers), func(b *testing.B) {
				c := startBenchApp(b, tc.protocol)
				if tc.netHTTP {
					c.UseNetHTTP()
				}
				benchDeliver(b, c, d, workers)
			})
		}
	}
}

func benchDeliver(b *testing.B, c *app.Channel, d pubsub.Delivery, workers int) {
	ctx, cancel := context.WithCancel(context.Background()) // as a consumer's
	defer cancel()
	b.ReportAllocs()
	b.SetParallelism(workers) // times GOMAXPROCS
	if workers > 1 {
		b.SetParallelism(workers / 2)
	}
	before := cpuTime(b)
	b.ResetTimer()
	if workers == 1 {
		for b.Loop() {
			if v, err := c.Deliver(ctx, d); v != pubsub.Ack || err != nil {
				b.Fatal(v, err)
			}
		}
	} else {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if v, err := c.Deliver(ctx, d); v != pubsub.Ack || err != nil {
					b.Error(v, err)
					return
				}
			}
		})
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(time.Microsecond)/float64(b.N), "cpu-us/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
