package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

const killLogFolder = "EDGED_TEST_KILL_LOG_FOLDER"

// killContracts put the two topics of a publisher into two lanes with segments of 64 KiB.
var killContracts = []pubsub.Contract{{Match: "t/#", MaxBytes: 1 << 40, MaxEvents: 1 << 40}, {Match: "twin/#"}}

// TestEventLog_Kill kills a publishing process with SIGKILL, again and again: what it had acknowledged is there, once
// and in order; of what it had not, the next of each publisher may be, and with its twin in another lane.
func TestEventLog_Kill(t *testing.T) {
	if dir := os.Getenv(killLogFolder); dir != "" {
		publishUntilKilled(dir)
	}
	cycles := 6
	if testing.Short() {
		cycles = 2
	}
	dir, acked := t.TempDir(), map[string]int{}
	for cycle := range cycles {
		publishAndKill(t, dir, time.Duration(60+30*cycle)*time.Millisecond, acked)
		s := open(t, dir, store.Options{})
		j, err := s.Journal("pubsub", killContracts)
		must(t, err)
		for _, prefix := range []string{"t/", "twin/"} {
			last := map[string]int{}
			for _, e := range readAll(t, j.Lanes(prefix + "0")[0]) {
				w, n := strings.TrimPrefix(e.Topic, prefix), 0
				if n, err = strconv.Atoi(string(e.Data)); err != nil || n <= last[w] {
					t.Fatalf("cycle %d: %s: event %q after %d", cycle, e.Topic, e.Data, last[w])
				}
				if prefix == "t/" && n != last[w]+1 || prefix == "twin/" && n != last[w]+5 {
					t.Fatalf("cycle %d: %s: event %d after %d", cycle, e.Topic, n, last[w])
				}
				last[w] = n
			}
			for w, n := range acked {
				if prefix == "t/" && last[w] != n && last[w] != n+1 || prefix == "twin/" && last[w] != n-n%5 && last[w] != n+1 {
					t.Fatalf("cycle %d: %s%s ends with %d, acknowledged was %d", cycle, prefix, w, last[w], n)
				}
			}
		}
		if gaps := j.Gaps(10); len(gaps) > 0 || len(s.Quarantined()) > 0 {
			t.Fatalf("cycle %d: gaps %+v, quarantined %+v", cycle, gaps, s.Quarantined())
		}
		must(t, s.Close())
	}
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
}

// publishAndKill starts this test as another process, reads its acknowledgements, and kills it.
func publishAndKill(t *testing.T, dir string, after time.Duration, acked map[string]int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEventLog_Kill$")
	cmd.Env = append(os.Environ(), killLogFolder+"="+dir)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var timer *time.Timer
	for lines.Scan() {
		w, n, ok := strings.Cut(lines.Text(), " ")
		if number, err := strconv.Atoi(n); ok && err == nil {
			acked[w] = number
		}
		if timer == nil {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended by itself: then Wait tells
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the publisher ended: %v", err)
	}
}

// publishUntilKilled is the other process. It prints what was acknowledged, after it was.
func publishUntilKilled(dir string) {
	fail := func(err error) {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		fail(err)
	}
	j, err := s.Journal("pubsub", killContracts)
	if err != nil {
		fail(err)
	}
	last := map[string]int{}
	lane := j.Lanes("t/0")[0]
	for after := uint64(0); after < lane.Stat().Last; {
		events, scanned, err := lane.Read(context.Background(), after, "t/+", 1000)
		if err != nil {
			fail(err)
		}
		for _, e := range events {
			last[e.Topic], _ = strconv.Atoi(string(e.Data)) // the parent has checked it
		}
		after = scanned
	}
	var wg sync.WaitGroup
	var print sync.Mutex
	for w := range 8 {
		wg.Go(func() {
			topic := fmt.Sprintf("t/%d", w)
			for n := last[topic] + 1; ; n++ {
				events := []pubsub.Event{event(topic, strconv.Itoa(n))}
				if n%5 == 0 {
					events = append(events, event("twin/"+strconv.Itoa(w), strconv.Itoa(n)))
				}
				if err := j.Append(context.Background(), events); err != nil {
					fail(err)
				}
				print.Lock()
				fmt.Printf("%d %d\n", w, n)
				print.Unlock()
			}
		})
	}
	wg.Wait()
}
