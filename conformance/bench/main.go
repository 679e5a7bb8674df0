// Command bench measures the built edged against physical references in the same run: a bare net/http echo and a bare
// grpc-go echo on a Unix socket (processes of their own, as edged is), grouped bbolt commits and grouped appends with
// fsync by the same number of writers. It prints rates, ratios to the references, CPU time of edged per operation, and
// bytes and syncs per write. Client and server share this machine's cores. It judges nothing and never fails on a figure.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	valueSize = 256
	store     = "statestore"
)

var concurrencies = []int{1, 32}

func main() {
	edged := flag.String("edged", "../bin/edged", "binary to measure")
	length := flag.Duration("length", 3*time.Second, "length of each measurement")
	folder := flag.String("folder", "", "folder for data, on the disk to measure (default: a temporary one)")
	echo := flag.String("echo", "", "internal: serve the echo reference http:SOCKET or grpc:SOCKET")
	flag.Parse()
	if *echo != "" {
		exitOn(serveEcho(*echo))
		return
	}
	exitOn(run(*edged, *folder, *length))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(edged, folder string, length time.Duration) error {
	dir, err := os.MkdirTemp(folder, "edged-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	edged, err = filepath.Abs(edged)
	if err != nil {
		return err
	}
	b := &bench{dir: dir, length: length}
	if err := b.references(); err != nil {
		return err
	}
	d, err := startEdged(edged, dir)
	if err != nil {
		return err
	}
	b.edged = d
	err = b.measure(context.Background())
	if serr := d.stop(); err == nil {
		err = serr
	}
	return err
}

// bench holds the references of this run.
type bench struct {
	dir    string
	length time.Duration
	edged  *daemon

	echo   map[string]map[int]result // protocol -> concurrency
	commit map[int]result            // grouped bbolt commits
	append map[int]result            // grouped appends with fsync
}

func (b *bench) references() error {
	b.echo = map[string]map[int]result{}
	fmt.Printf("references (%v each, %d-byte values)\n%s\n", b.length, valueSize, header)
	for _, protocol := range []string{"http", "grpc"} {
		b.echo[protocol] = map[int]result{}
		for _, c := range concurrencies {
			r, err := measureEcho(b.dir, protocol, c, b.length)
			if err != nil {
				return fmt.Errorf("echo %s: %w", protocol, err)
			}
			b.echo[protocol][c] = r
			r.print(protocol+" echo", c, "")
		}
	}
	b.commit, b.append = map[int]result{}, map[int]result{}
	for _, c := range concurrencies {
		var err error
		if b.commit[c], err = groupedCommits(b.dir, c, b.length); err != nil {
			return err
		}
		b.commit[c].print("grouped bbolt commits", c, "")
		if b.append[c], err = groupedAppends(b.dir, c, b.length); err != nil {
			return err
		}
		b.append[c].print("grouped appends", c, "")
	}
	return nil
}

func (b *bench) measure(ctx context.Context) error {
	fmt.Printf("\nedged\n%s\n", header)
	for _, protocol := range []string{"http", "grpc"} {
		for _, c := range concurrencies {
			if err := b.protocol(ctx, protocol, c); err != nil {
				return fmt.Errorf("%s c%d: %w", protocol, c, err)
			}
		}
	}
	for _, protocol := range []string{"http", "grpc"} {
		if err := b.delivery(ctx, protocol); err != nil {
			return fmt.Errorf("delivery over %s: %w", protocol, err)
		}
	}
	return nil
}

func (b *bench) protocol(ctx context.Context, protocol string, c int) error {
	echo := b.echo[protocol][c]
	get, err := b.load(ctx, protocol, c, opGet)
	if err != nil {
		return err
	}
	get.print(protocol+" state get", c, fmt.Sprintf("%.2f of echo", get.rate()/echo.rate()))
	set, err := b.load(ctx, protocol, c, opSet)
	if err != nil {
		return err
	}
	set.print(protocol+" state set", c, durable(set, echo, b.commit[c], "commit", c))
	pub, err := b.load(ctx, protocol, c, opPublish)
	if err != nil {
		return err
	}
	pub.print(protocol+" publish", c, durable(pub, echo, b.append[c], "append", c))
	return nil
}

// durable compares with what a durable operation must cost: at concurrency 1 the echo and then the disk, in series;
// otherwise the slower of the two.
func durable(r, echo, disk result, name string, c int) string {
	if c == 1 {
		serial := 1 / (1/echo.rate() + 1/disk.rate())
		return fmt.Sprintf("%.2f of echo then %s", r.rate()/serial, name)
	}
	return fmt.Sprintf("%.2f of the slower of echo and %s", r.rate()/min(echo.rate(), disk.rate()), name)
}
