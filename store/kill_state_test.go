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

	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/edge/state/statetest"
	"github.com/edged-io/edged/store"
)

const killFolder = "EDGED_TEST_KILL_FOLDER"

// TestStore_Kill kills a process under load with SIGKILL, again and again, and looks for what it had acknowledged.
func TestStore_Kill(t *testing.T) {
	if dir := os.Getenv(killFolder); dir != "" {
		writeUntilKilled(dir)
	}
	cycles := 6
	if testing.Short() {
		cycles = 2
	}
	dir := t.TempDir()
	acked := map[string]int{} // writer -> last acknowledged number
	var lastETag uint64
	for cycle := range cycles {
		runAndKill(t, dir, time.Duration(50+20*cycle)*time.Millisecond, acked)
		s := open(t, dir, store.Options{})
		st := s.State("s")
		for w, n := range acked {
			e := statetest.One(t, st, w)
			if got, _ := strconv.Atoi(string(e.Value)); got != n && got != n+1 { // the next may be in, unacknowledged
				t.Fatalf("cycle %d: %s holds %d, acknowledged was %d", cycle, w, got, n)
			}
			// The second key of each transaction goes with the first.
			if twin := statetest.One(t, st, w+"-twin"); string(twin.Value) != string(e.Value) {
				t.Fatalf("cycle %d: half a transaction: %s and %s", cycle, e.Value, twin.Value)
			}
			etag, _ := strconv.ParseUint(e.ETag, 10, 64)
			lastETag = max(lastETag, etag)
		}
		put(t, st, "probe", "v")
		if etag, _ := strconv.ParseUint(statetest.One(t, st, "probe").ETag, 10, 64); etag <= lastETag {
			t.Fatalf("cycle %d: etag %d came after %d", cycle, etag, lastETag)
		}
		if len(s.Quarantined()) != 0 {
			t.Fatalf("cycle %d: quarantined %+v", cycle, s.Quarantined())
		}
		must(t, s.Check(t.Context()))
		must(t, s.Close())
	}
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
}

// runAndKill starts this test as another process, reads its acknowledgements, and kills it.
func runAndKill(t *testing.T, dir string, after time.Duration, acked map[string]int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStore_Kill$")
	cmd.Env = append(os.Environ(), killFolder+"="+dir)
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
		t.Fatalf("the writer ended: %v", err)
	}
}

// writeUntilKilled is the other process. It prints what was acknowledged, after it was.
func writeUntilKilled(dir string) {
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	st := s.State("s")
	var wg sync.WaitGroup
	var print sync.Mutex
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			key := fmt.Sprintf("w%d", w)
			got, err := st.Get(context.Background(), key)
			if err != nil {
				os.Exit(1)
			}
			n, _ := strconv.Atoi(string(got[0].Value)) // 0 at first
			for {
				n++
				value := []byte(strconv.Itoa(n))
				err := st.Apply(context.Background(), []state.Op{{Key: key, Value: value}, {Key: key + "-twin", Value: value, TTL: time.Hour}})
				if err != nil {
					os.Exit(1)
				}
				print.Lock()
				fmt.Printf("%s %d\n", key, n)
				print.Unlock()
			}
		}()
	}
	wg.Wait()
}
