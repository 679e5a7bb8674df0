package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

// TestStartup_DoesNotGrowWithTheBacklog compares starting with a backlog of events that nobody has consumed with starting
// with none. EDGED_BACKLOG is how many (default 100,000; the budget is stated for 1,000,000).
func TestStartup_DoesNotGrowWithTheBacklog(t *testing.T) {
	backlog := 100_000
	if n, err := strconv.Atoi(os.Getenv("EDGED_BACKLOG")); err == nil {
		backlog = n
	}
	d := newDevice(t, "apps: [{id: app}]\n", "topics: [{match: \"#\", maxBytes: 4GiB, maxAge: 24h, whenFull: reject}]\n")
	empty := d.quickestStart(5)
	d.start("app")
	c := unixClient(d.socket("app"))
	const batch = 2000
	for sent := 0; sent < backlog; sent += batch {
		var b bytes.Buffer
		for i := range batch {
			fmt.Fprintf(&b, `,{"entryId":"%d","contentType":"application/json","event":{"n":%d,"pad":"%0200d"}}`, i, sent+i, i)
		}
		b.WriteByte(']')
		body := b.Bytes()
		body[0] = '['
		if status, _, answer, err := call(t.Context(), c, http.MethodPost, "/v1.0-alpha1/publish/bulk/pubsub/waiting", "application/json", body); err != nil || status != http.StatusNoContent {
			t.Fatalf("publish in bulk: %d %s %v", status, answer, err)
		}
	}
	d.kill()
	full := d.quickestStart(5)
	t.Logf("quickest of 5 starts: %v with no event, %v with %d waiting", empty, full, backlog)
	// A start that read the backlog would take seconds. The bound leaves room for a busy machine.
	if full > 5*empty+250*time.Millisecond {
		t.Errorf("start-up grows with the backlog: %v, and %v with none", full, empty)
	}
}

// quickestStart starts and kills edged and returns the shortest time from exec to ready.
func (d *device) quickestStart(times int) time.Duration {
	quickest := time.Hour
	for range times {
		begin := time.Now()
		d.start("app")
		quickest = min(quickest, time.Since(begin))
		d.kill()
	}
	return quickest
}
