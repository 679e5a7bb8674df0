// Command demo plays edged's main job with real parts and prints a ledger: a sensor (official Go SDK) publishes this
// machine's readings, an aggregator (official JavaScript SDK) consumes them and keeps state, a mosquitto broker and
// edged-hub receive them. Then the link is cut, edged is killed with SIGKILL and restarted offline, the link returns, and
// nothing may be missing anywhere. It exits 1 if the ledger does not balance.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const device = "demo-device"

func main() {
	root := flag.String("root", "..", "folder of the built edged (bin/ in it)")
	phase := flag.Duration("phase", 5*time.Second, "length of each of the three phases")
	keep := flag.Bool("keep", false, "keep the folder with logs and data")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, *root, *phase, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, root string, phase time.Duration, keep bool) (err error) {
	folder, err := os.MkdirTemp("", "edged-demo-")
	if err != nil {
		return err
	}
	s := &stage{root: root, folder: folder}
	defer func() {
		err = errors.Join(err, s.close())
		if keep || err != nil {
			fmt.Println("logs and data are in", folder)
			return
		}
		err = os.RemoveAll(folder)
	}()
	if err := s.open(ctx); err != nil {
		return err
	}
	say("online: sensor -> edged -> aggregator, mosquitto and hub")
	if err := wait(ctx, phase); err != nil {
		return err
	}
	say("the link is cut; the device goes on")
	s.cut()
	if err := wait(ctx, phase); err != nil {
		return err
	}
	say("edged is killed (SIGKILL) and started again, still offline")
	if err := s.killEdged(ctx); err != nil {
		return err
	}
	if err := wait(ctx, phase); err != nil {
		return err
	}
	say("the link returns; the sensor stops")
	s.restore()
	published, err := s.stopSensor()
	if err != nil {
		return err
	}
	l, err := s.settle(ctx, published)
	if err != nil {
		return err
	}
	l.print(os.Stdout)
	return l.check()
}

func say(text string) { fmt.Printf("%s  %s\n", time.Now().Format("15:04:05"), text) }

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// settle waits until every place has as many events as were published, or nothing more comes.
func (s *stage) settle(ctx context.Context, published report) (ledger, error) {
	deadline := time.Now().Add(60 * time.Second)
	for {
		l, err := s.ledger(ctx, published)
		if err == nil && l.check() == nil {
			return l, nil
		}
		if time.Now().After(deadline) {
			return l, err
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return l, err
		}
	}
}

func (s *stage) file(name string) string { return filepath.Join(s.folder, name) }
