package pubsubtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

func (t *journalTest) sequencesIncrease() {
	t.start()
	last := uint64(0)
	for range 5 {
		for _, e := range t.publish("a", "x", "y") {
			if e.Sequence <= last {
				t.Fatalf("sequence %d after %d", e.Sequence, last)
			}
			last = e.Sequence
			if !e.Time.Equal(t.clock()) {
				t.Fatalf("accepted at %v, want %v", e.Time, t.clock())
			}
		}
	}
	if s := t.lane("a").Stat(); s.Last != last || s.Events != 10 || s.Appended != 10 || s.Bytes <= 0 {
		t.Errorf("stat %+v after 10 events up to %d", s, last)
	}
}

func (t *journalTest) keepsAllFields() {
	t.start()
	at := t.clock()
	events := []pubsub.Event{
		{Topic: "a/b", Data: []byte(`{"x":1}`), ContentType: "application/cloudevents+json"},
		{Topic: "a/b"},
		{Topic: "ä/ b\x00/+", Data: []byte{0, 1, 255}, ContentType: "made/up; q=1", Metadata: map[string]string{"k": "v", "": "", "z": "\x00"}},
		{Topic: "a", Data: []byte(strings.Repeat("x", 100_000)), Time: at.Add(-time.Hour), Expires: at.Add(time.Hour + time.Nanosecond)},
	}
	want := slices.Clone(events)
	for i := range events {
		if err := t.j.Append(t.ctx(), events[i:i+1]); err != nil {
			t.Fatal(err)
		}
		if want[i].Time.IsZero() {
			want[i].Time = at
		}
	}
	got := t.readEvents(t.lane("a"), 0, "#")
	if len(got) != len(want) {
		t.Fatalf("read %d events, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Topic != w.Topic || string(g.Data) != string(w.Data) || g.ContentType != w.ContentType || !g.Time.Equal(w.Time) || !g.Expires.Equal(w.Expires) {
			t.Errorf("event %d: got %.200v, want %.200v", i, g, w)
		}
		if len(g.Metadata) != len(w.Metadata) {
			t.Errorf("event %d: metadata %v, want %v", i, g.Metadata, w.Metadata)
		}
		for k, v := range w.Metadata {
			if g.Metadata[k] != v {
				t.Errorf("event %d: metadata %q is %q, want %q", i, k, g.Metadata[k], v)
			}
		}
	}
}

func (t *journalTest) appendCanceled() {
	t.start()
	ctx, cancel := context.WithCancel(t.ctx())
	cancel()
	if err := t.j.Append(ctx, eventsOf("a", "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("append with canceled context: %v", err)
	}
	if err := t.j.Append(t.ctx(), nil); err != nil {
		t.Errorf("append nothing: %v", err)
	}
	if s := t.lane("a").Stat(); s.Events != 0 {
		t.Errorf("kept %d events", s.Events)
	}
}

func (t *journalTest) rejectEvents() {
	t.start(pubsub.Contract{Match: "a/#", MaxEvents: 3, WhenFull: pubsub.Reject})
	l := t.lane("a/x")
	t.attach(l, "c", "a/x", pubsub.Oldest)
	for _, d := range numbered("", 1, 3) {
		t.publish("a/x", d)
	}
	err := t.j.Append(t.ctx(), eventsOf("a/x", "4"))
	t.wantFull(err)
	if !strings.Contains(err.Error(), "a/x") && !strings.Contains(err.Error(), "a/#") {
		t.Errorf("the error names neither topic nor lane: %v", err)
	}
	t.wantRead(l, 0, "a/x", "1", "2", "3")
	l.Commit("c", pubsub.Cursor{Head: l.Stat().First})
	t.publish("a/x", "4")
	t.wantFull(t.j.Append(t.ctx(), eventsOf("a/x", "5")))
	t.wantRead(l, l.Stat().First-1, "a/x", "2", "3", "4")
	if gaps := t.j.Gaps(10); len(gaps) != 0 {
		t.Errorf("gaps without loss: %+v", gaps)
	}
	t.publish("other", "is not concerned")
}

func (t *journalTest) rejectBytes() {
	t.start(pubsub.Contract{Match: "a", MaxBytes: 20_000, WhenFull: pubsub.Reject})
	l := t.lane("a")
	t.attach(l, "c", "a", pubsub.Oldest)
	data, n := strings.Repeat("x", 1000), 0
	for ; n < 30; n++ {
		if err := t.j.Append(t.ctx(), eventsOf("a", data)); err != nil {
			t.wantFull(err)
			break
		}
	}
	if n < 15 || n > 20 {
		t.Fatalf("%d events of 1000 bytes fit into 20000 bytes", n)
	}
	if s := l.Stat(); s.Bytes > 20_000 || s.Events != int64(n) {
		t.Errorf("stat %+v", s)
	}
	l.Commit("c", pubsub.Cursor{Head: l.Stat().Last})
	for range n {
		t.publish("a", data)
	}
}

func (t *journalTest) rejectAllOrNone() {
	t.start(pubsub.Contract{Match: "a", MaxEvents: 5, WhenFull: pubsub.Reject})
	t.publish("a", "1", "2", "3")
	t.wantFull(t.j.Append(t.ctx(), eventsOf("a", "4", "5", "6")))
	t.wantRead(t.lane("a"), 0, "a", "1", "2", "3")
	t.publish("a", "4", "5")
	t.wantRead(t.lane("a"), 0, "a", "1", "2", "3", "4", "5")
}

func (t *journalTest) acrossLanes() {
	t.start(pubsub.Contract{Match: "a", MaxEvents: 2, WhenFull: pubsub.Reject}, pubsub.Contract{Match: "b", WhenFull: pubsub.Reject})
	both := func(n int) []pubsub.Event {
		return []pubsub.Event{
			{Topic: "b", Data: fmt.Appendf(nil, "b%d", n)}, {Topic: "a", Data: fmt.Appendf(nil, "a%d", n)},
			{Topic: "b", Data: fmt.Appendf(nil, "B%d", n)},
		}
	}
	for n := range 2 {
		events := both(n)
		if err := t.j.Append(t.ctx(), events); err != nil {
			t.Fatal(err)
		}
		if events[0].Sequence == 0 || events[1].Sequence == 0 || events[2].Sequence != events[0].Sequence+1 {
			t.Errorf("sequences %d %d %d", events[0].Sequence, events[1].Sequence, events[2].Sequence)
		}
	}
	t.wantFull(t.j.Append(t.ctx(), both(2)))
	t.wantRead(t.lane("a"), 0, "a", "a0", "a1")
	t.wantRead(t.lane("b"), 0, "b", "b0", "B0", "b1", "B1")
	t.publish("b", "more")
	t.wantRead(t.lane("b"), 0, "b", "b0", "B0", "b1", "B1", "more")
}

func (t *journalTest) dropOldestEvents() {
	t.start(pubsub.Contract{Match: "a/#", MaxEvents: 10, WhenFull: pubsub.DropOldest})
	l := t.lane("a/1")
	t.attach(l, "fast", "a/#", pubsub.Oldest)
	t.attach(l, "slow", "a/1", pubsub.Oldest)
	first := t.publish("a/1", numbered("", 1, 10)...)[0].Sequence
	l.Commit("fast", pubsub.Cursor{Head: first + 9})
	for _, d := range numbered("", 11, 25) {
		t.publish("a/1", d)
	}
	t.wantRead(l, 0, "a/1", numbered("", 16, 25)...)
	s := l.Stat()
	if s.Events != 10 || s.First != first+15 || s.Dropped["events"] != 15 {
		t.Errorf("stat %+v, want 10 events from %d, 15 dropped", s, first+15)
	}
	var lost uint64
	for _, g := range t.j.Gaps(100) {
		if g.Reason != "events" || g.Lane != l.Name() || !slices.Equal(g.Topics, []string{"a/1"}) || g.From < first || g.To > first+14 {
			t.Errorf("gap %+v", g)
		}
		lost += g.Events
	}
	if lost != 15 {
		t.Errorf("gaps name %d events, want 15", lost)
	}
}

func (t *journalTest) dropOldestBytes() {
	t.start(pubsub.Contract{Match: "a", MaxBytes: 200_000, WhenFull: pubsub.DropOldest})
	l := t.lane("a")
	t.attach(l, "c", "a", pubsub.Oldest)
	data := strings.Repeat("x", 990)
	const all = 1000
	for i := range all {
		t.publish("a", fmt.Sprintf("%06d%s", i, data))
		if s := l.Stat(); s.Bytes > 200_000 {
			t.Fatalf("%d bytes kept", s.Bytes)
		}
	}
	s := l.Stat()
	if s.Events < 150 || s.Events > 200 {
		t.Errorf("%d events kept", s.Events)
	}
	events := t.readEvents(l, 0, "a")
	if len(events) != int(s.Events) {
		t.Errorf("read %d events, stat says %d", len(events), s.Events)
	}
	for i, e := range events {
		if want := fmt.Sprintf("%06d", all-len(events)+i); string(e.Data[:6]) != want {
			t.Fatalf("event %d is %s, want %s", i, e.Data[:6], want)
		}
	}
	if d := s.Dropped["bytes"]; d != uint64(all-len(events)) {
		t.Errorf("%d dropped, want %d", d, all-len(events))
	}
}

func (t *journalTest) largerThanLane() {
	t.start(pubsub.Contract{Match: "a", MaxBytes: 5000, MaxEvents: 3, WhenFull: pubsub.DropOldest})
	t.publish("a", "1", "2")
	t.wantFull(t.j.Append(t.ctx(), eventsOf("a", strings.Repeat("x", 6000))))
	t.wantFull(t.j.Append(t.ctx(), eventsOf("a", numbered("", 1, 4)...)))
	t.wantRead(t.lane("a"), 0, "a", "1", "2")
}

// concurrent has publishers of several topics and readers of some of them at once: nobody misses or repeats an event,
// and each publisher's events stay in order.
func (t *journalTest) concurrent() {
	t.start()
	const publishers, each = 8, 200
	l := t.lane("t/0")
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := t.j.Append(t.ctx(), eventsOf(fmt.Sprintf("t/%d", p), fmt.Sprint(i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for _, filter := range []string{"t/+", "t/3", "#", "t/5"} {
		want := publishers * each
		if !pubsub.IsWildcard(filter) {
			want = each
		}
		wg.Go(func() {
			next, after := map[string]int{}, uint64(0)
			for got := 0; got < want; {
				events, scanned, err := l.Read(t.ctx(), after, filter, 7)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range events {
					if string(e.Data) != fmt.Sprint(next[e.Topic]) || e.Sequence <= after {
						t.Errorf("topic %s: event %s at %d, want %d", e.Topic, e.Data, e.Sequence, next[e.Topic])
						return
					}
					next[e.Topic]++
					after = e.Sequence
				}
				got += len(events)
				after = max(after, scanned)
			}
		})
	}
	wg.Wait()
}
