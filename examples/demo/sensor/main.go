// Command sensor publishes this machine's real readings with the official Go SDK over edged's Unix socket. Every event
// has a number; one that is not acknowledged is published again under the same number, so a restart of edged loses none.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
)

type reading struct {
	Number     int       `json:"number"`
	Time       time.Time `json:"time"`
	CPUPercent float64   `json:"cpuPercent"`
	Load1      float64   `json:"load1"`
	MemoryUsed float64   `json:"memoryUsedPercent"`
}

func main() {
	socket := flag.String("socket", "", "edged's socket for this application")
	topic := flag.String("topic", "sensors/machine", "topic to publish to")
	interval := flag.Duration("interval", 20*time.Millisecond, "time between readings")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	published, retries, err := run(ctx, *socket, *topic, *interval)
	if err != nil {
		log.Fatal(err)
	}
	// The last line is what the ledger compares with: numbers 1 to published were acknowledged.
	fmt.Printf("{\"published\":%d,\"retries\":%d}\n", published, retries)
}

func run(ctx context.Context, socket, topic string, interval time.Duration) (published, retries int, err error) {
	client, err := dapr.NewClientWithAddress("unix://" + socket)
	if err != nil {
		return 0, 0, fmt.Errorf("connect to edged: %w", err)
	}
	defer client.Close()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		body, err := json.Marshal(measure(ctx, published+1))
		if err != nil {
			return published, retries, err
		}
		n := publish(ctx, client, topic, body)
		if n < 0 {
			break // asked to stop before an acknowledgement came: the number is not counted
		}
		published++
		retries += n
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return published, retries, nil
}

// publish tries until edged acknowledges and returns how many tries failed, or -1 when it was asked to stop.
func publish(ctx context.Context, client dapr.Client, topic string, body []byte) int {
	for failed := 0; ; failed++ {
		try, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		err := client.PublishEvent(try, "pubsub", topic, body, dapr.PublishEventWithContentType("application/json"))
		cancel()
		if err == nil {
			return failed
		}
		if failed == 0 {
			fmt.Fprintf(os.Stderr, "sensor: publish: %v; trying again\n", err)
		}
		select {
		case <-ctx.Done():
			return -1
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func measure(ctx context.Context, number int) reading {
	r := reading{Number: number, Time: time.Now().UTC()}
	if p, err := cpu.PercentWithContext(ctx, 0, false); err == nil && len(p) > 0 {
		r.CPUPercent = p[0]
	}
	if l, err := load.AvgWithContext(ctx); err == nil {
		r.Load1 = l.Load1
	}
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		r.MemoryUsed = m.UsedPercent
	}
	return r
}
