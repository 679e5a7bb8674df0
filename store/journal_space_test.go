package store_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/store"
)

// On a disk that is really full publishers are refused, consumers read and acknowledge, and what they acknowledge makes
// the space that publishers then use, without a restart.
func TestEventLog_SmallDisk(t *testing.T) {
	for _, reserve := range []int64{0, -1} {
		t.Run(fmt.Sprintf("reserve%d", reserve), func(t *testing.T) {
			dir := smallDisk(t, 8<<20)
			open := func() (*store.Store, pubsub.Journal, pubsub.Lane) {
				s, err := store.Open(dir, store.Options{ReserveBytes: reserve})
				must(t, err)
				j, err := s.Journal("pubsub", []pubsub.Contract{{Match: "#", MaxBytes: 16 << 20, WhenFull: pubsub.Reject}})
				must(t, err)
				return s, j, j.Lanes("a")[0]
			}
			s, j, lane := open()
			cursor, err := lane.Attach(t.Context(), "c", "a", pubsub.Oldest)
			must(t, err)
			published := 0
			fill := func() {
				t.Helper()
				for data := strings.Repeat("x", 4000); ; published++ {
					if err := j.Append(t.Context(), []pubsub.Event{event("a", fmt.Sprintf("%06d%s", published, data))}); err != nil {
						if !errors.Is(err, fault.ErrStorageFull) {
							t.Fatalf("append: %v", err)
						}
						return
					}
				}
			}
			read := 0
			consume := func(n int) {
				t.Helper()
				for n += read; read < n; {
					events, scanned, err := lane.Read(t.Context(), cursor.Head, "a", 50)
					must(t, err)
					for _, e := range events {
						if got := string(e.Data[:6]); got != fmt.Sprintf("%06d", read) {
							t.Fatalf("event %s, want %06d", got, read)
						}
						read++
					}
					cursor.Head = scanned
					lane.Commit("c", cursor)
				}
				must(t, lane.Flush(t.Context()))
			}
			fill()
			first := published
			if first < 1000 {
				t.Fatalf("%d events fit", first)
			}
			consume(first / 2)
			for deadline := time.Now().Add(10 * time.Second); published < first+first/4; fill() {
				if time.Now().After(deadline) {
					t.Fatalf("%d events after half of %d were acknowledged", published-first, first)
				}
				runtime.Gosched()
			}
			must(t, s.Close())
			s, j, lane = open()
			cursor, err = lane.Attach(t.Context(), "c", "a", pubsub.Oldest)
			must(t, err)
			consume(published - read)
			must(t, s.Close())
		})
	}
}
