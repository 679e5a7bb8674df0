package pubsubtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

func (t *journalTest) firstMatchWins() {
	t.start(pubsub.Contract{Match: "a/b/#"}, pubsub.Contract{Match: "a/#"}, pubsub.Contract{Match: "a/b/c", MaxEvents: 1})
	names := func(filter string) (names []string) {
		for _, l := range t.j.Lanes(filter) {
			names = append(names, l.Name())
		}
		return names
	}
	t.publish("a/b/c", "1", "2")
	t.publish("a/x", "3")
	t.publish("z", "4")
	for topic, want := range map[string][]string{"a/b/c": {"1", "2"}, "a/x": {"3"}, "z": {"4"}} {
		t.wantRead(t.lane(topic), 0, topic, want...)
	}
	all := names("#")
	if slices.Sort(all); len(slices.Compact(all)) != len(all) {
		t.Errorf("lane names are not unique: %q", all)
	}
	for filter, topics := range map[string][]string{"#": {"a/b/c", "a/x", "z"}, "+/b/#": {"a/b/c"}, "a/#": {"a/b/c", "a/x"}} {
		for _, topic := range topics {
			if !slices.Contains(names(filter), t.lane(topic).Name()) {
				t.Errorf("lanes of %q: %q, without that of %q", filter, names(filter), topic)
			}
		}
	}
}

func (t *journalTest) attachStart() {
	t.start()
	l := t.lane("a")
	t.publish("a", "1", "2")
	oldest, newest := t.attach(l, "o", "a", pubsub.Oldest), t.attach(l, "n", "a", pubsub.Newest)
	t.publish("a", "3")
	t.wantRead(l, oldest.Head, "a", "1", "2", "3")
	t.wantRead(l, newest.Head, "a", "3")
	if s := l.Stat(); s.Consumers["o"] != oldest.Head || s.Consumers["n"] != newest.Head || len(s.Consumers) != 2 {
		t.Errorf("consumers %v", s.Consumers)
	}
}

func (t *journalTest) attachAgain() {
	t.start()
	l := t.lane("a")
	events := t.publish("a", "1", "2", "3", "4")
	t.attach(l, "c", "a", pubsub.Oldest)
	want := pubsub.Cursor{Head: events[2].Sequence, Pending: []uint64{events[1].Sequence}}
	l.Commit("c", want)
	got := t.attach(l, "c", "a", pubsub.Newest)
	if got.Head != want.Head || !slices.Equal(got.Pending, want.Pending) {
		t.Errorf("attached again at %+v, want %+v", got, want)
	}
	if err := l.Flush(t.ctx()); err != nil {
		t.Error(err)
	}
}

func (t *journalTest) detach() {
	t.start()
	l := t.lane("a")
	t.attach(l, "c", "a", pubsub.Oldest)
	l.Commit("c", pubsub.Cursor{Head: t.publish("a", "1")[0].Sequence})
	if err := l.Detach(t.ctx(), "c"); err != nil {
		t.Fatal(err)
	}
	if s := l.Stat(); len(s.Consumers) != 0 {
		t.Errorf("consumers %v after detach", s.Consumers)
	}
	if err := l.Detach(t.ctx(), "c"); err != nil {
		t.Errorf("detach again: %v", err)
	}
	t.publish("a", "2")
	t.wantRead(l, t.attach(l, "c", "a", pubsub.Newest).Head, "a")
}

func (t *journalTest) readFilters() {
	t.start()
	for _, topic := range []string{"a/1", "b", "a/2", "a/1/x", "a", "b"} {
		t.publish(topic, topic)
	}
	l := t.lane("a")
	t.wantRead(l, 0, "#", "a/1", "b", "a/2", "a/1/x", "a", "b")
	t.wantRead(l, 0, "a/#", "a/1", "a/2", "a/1/x", "a")
	t.wantRead(l, 0, "a/+", "a/1", "a/2")
	t.wantRead(l, 0, "b", "b", "b")
	t.wantRead(l, 0, "c")
	events, scanned, err := l.Read(t.ctx(), 0, "c", 10)
	if err != nil || len(events) != 0 || scanned == 0 {
		t.Errorf("read of a topic without events: %d events, scanned %d, %v", len(events), scanned, err)
	}
}

func (t *journalTest) readLimits() {
	t.start()
	l := t.lane("a")
	first := t.publish("a", numbered("", 1, 10)...)[0].Sequence
	events, scanned, err := l.Read(t.ctx(), 0, "a", 3)
	if err != nil || len(events) != 3 || scanned != first+2 || string(events[2].Data) != "3" {
		t.Fatalf("read of 3: %d events, scanned %d, %v", len(events), scanned, err)
	}
	big := strings.Repeat("x", 300_000)
	for range 8 {
		t.publish("b", big)
	}
	events, _, err = l.Read(t.ctx(), 0, "b", 100)
	if err != nil || len(events) == 0 || len(events) > 5 {
		t.Errorf("read %d events of 300000 bytes at once, %v", len(events), err)
	}
	if all := t.readEvents(l, 0, "b"); len(all) != 8 {
		t.Errorf("read %d events, want 8", len(all))
	}
	t.publish("c", strings.Repeat("y", 3<<20))
	if all := t.readEvents(l, 0, "c"); len(all) != 1 || len(all[0].Data) != 3<<20 {
		t.Error("an event of 3 MiB is not readable")
	}
}

func (t *journalTest) readAnywhere() {
	t.start()
	l := t.lane("a")
	var seqs []uint64
	for i := range 50 {
		for _, e := range t.publish("a", numbered("", 1, 1+i%5)...) {
			seqs = append(seqs, e.Sequence)
		}
	}
	for i := len(seqs) - 1; i >= 0; i-- {
		events, _, err := l.Read(t.ctx(), seqs[i]-1, "a", 1)
		if err != nil || len(events) != 1 || events[0].Sequence != seqs[i] {
			t.Fatalf("read of sequence %d: %v, %v", seqs[i], events, err)
		}
	}
}

func (t *journalTest) readWaits() {
	t.start()
	l := t.lane("a")
	last := t.publish("a", "before")[0].Sequence
	type result struct {
		events []pubsub.Event
		err    error
	}
	got := make(chan result)
	go func() {
		after := last
		for {
			events, scanned, err := l.Read(t.ctx(), after, "a", 10)
			if len(events) > 0 || err != nil {
				got <- result{events, err}
				return
			}
			after = scanned
		}
	}()
	select {
	case r := <-got:
		t.Fatalf("read returned %v before there was an event", r)
	case <-time.After(20 * time.Millisecond): // a read that does not wait shows itself sooner or later
	}
	t.publish("b", "not this")
	t.publish("a", "this")
	r := <-got
	if r.err != nil || len(r.events) != 1 || string(r.events[0].Data) != "this" {
		t.Errorf("read %v", r)
	}
}

func (t *journalTest) readEnds() {
	t.start()
	l := t.lane("a")
	ctx, cancel := context.WithTimeout(t.ctx(), 10*time.Millisecond)
	defer cancel()
	if _, scanned, err := l.Read(ctx, 0, "a", 1); !errors.Is(err, context.DeadlineExceeded) || scanned != 0 {
		t.Errorf("read until deadline: scanned %d, %v", scanned, err)
	}
	if _, _, err := l.Read(ctx, 0, "a", 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read after deadline: %v", err)
	}
}

func (t *journalTest) readExpired() {
	t.start()
	l := t.lane("a")
	events := eventsOf("a", "short", "long", "forever", "of yesterday", "of tomorrow")
	events[0].Expires = t.clock().Add(time.Minute)
	events[1].Expires = t.clock().Add(time.Hour)
	for i, day := range []time.Duration{-24 * time.Hour, 24 * time.Hour} { // Time says nothing about the life that is left
		events[3+i].Time = t.clock().Add(day)
		events[3+i].Expires = t.clock().Add(time.Minute)
	}
	if err := t.j.Append(t.ctx(), events); err != nil {
		t.Fatal(err)
	}
	t.wantRead(l, 0, "a", "short", "long", "forever", "of yesterday", "of tomorrow")
	t.pass(2 * time.Minute)
	t.wantRead(l, 0, "a", "long", "forever")
	t.pass(2 * time.Hour)
	t.wantRead(l, 0, "a", "forever")
}

func (t *journalTest) ageRemoves() {
	t.start(pubsub.Contract{Match: "a", MaxAge: time.Hour, WhenFull: pubsub.Reject})
	l := t.lane("a")
	t.attach(l, "c", "a", pubsub.Oldest)
	old := t.publish("a", "old", "done", "old too")
	l.Commit("c", pubsub.Cursor{Head: old[1].Sequence, Pending: []uint64{old[0].Sequence}})
	t.pass(50 * time.Minute)
	t.publish("a", "young")
	t.wantRead(l, 0, "a", "old", "done", "old too", "young")
	t.pass(20 * time.Minute)
	t.wantRead(l, 0, "a", "young")
	if s := l.Stat(); s.Dropped["age"] != 2 || s.Events != 1 {
		t.Errorf("stat %+v, want 2 dropped by age", s)
	}
	var lost uint64
	for _, g := range t.j.Gaps(10) {
		lost += g.Events
	}
	if lost != 2 {
		t.Errorf("gaps %+v", t.j.Gaps(10))
	}
	t.pass(100 * time.Hour)
	t.publish("a", "new")
	t.wantRead(l, 0, "a", "new")
}

func (t *journalTest) commitLetsGo() {
	t.start()
	l := t.lane("a")
	t.attach(l, "c", "a", pubsub.Oldest)
	last := t.publish("a", numbered("", 1, 10)...)[9].Sequence
	l.Commit("c", pubsub.Cursor{Head: last - 3})
	if s := l.Stat(); s.First != last-2 || s.Events != 3 {
		t.Errorf("stat %+v after commit of %d", s, last-3)
	}
	l.Commit("c", pubsub.Cursor{Head: last})
	if s := l.Stat(); s.First <= s.Last || s.Events != 0 || s.Bytes != 0 {
		t.Errorf("stat %+v after commit of everything", s)
	}
	if gaps := t.j.Gaps(10); len(gaps) != 0 {
		t.Errorf("gaps without loss: %+v", gaps)
	}
}

func (t *journalTest) commitPending() {
	t.start(pubsub.Contract{Match: "#", MaxEvents: 4, WhenFull: pubsub.DropOldest})
	l := t.lane("a")
	t.attach(l, "c", "a", pubsub.Oldest)
	e := t.publish("a", "1", "2", "3", "4")
	l.Commit("c", pubsub.Cursor{Head: e[3].Sequence, Pending: []uint64{e[1].Sequence, e[2].Sequence}})
	if s := l.Stat(); s.First != e[1].Sequence || s.Consumers["c"] != e[1].Sequence-1 {
		t.Errorf("stat %+v, want first %d", s, e[1].Sequence)
	}
	t.wantRead(l, 0, "a", "2", "3", "4")
	t.publish("a", "5", "6")
	if s := l.Stat(); s.Dropped["events"] != 1 {
		t.Errorf("dropped %v, want the pending one only", s.Dropped)
	}
	t.wantRead(l, 0, "a", "3", "4", "5", "6")
}

func (t *journalTest) commitEveryConsumer() {
	t.start()
	l := t.lane("a")
	t.attach(l, "one", "a", pubsub.Oldest)
	t.attach(l, "two", "#", pubsub.Oldest)
	t.attach(l, "other", "b", pubsub.Oldest)
	last := t.publish("a", "1", "2", "3")[2].Sequence
	l.Commit("one", pubsub.Cursor{Head: last})
	if s := l.Stat(); s.Events != 3 {
		t.Errorf("%d events kept, want 3: a consumer has not handled them", s.Events)
	}
	l.Commit("two", pubsub.Cursor{Head: last - 1})
	if s := l.Stat(); s.Events != 1 {
		t.Errorf("%d events kept, want 1", s.Events)
	}
	if err := l.Detach(t.ctx(), "two"); err != nil {
		t.Fatal(err)
	}
	if s := l.Stat(); s.Events != 0 {
		t.Errorf("%d events kept, want none: the consumer that waited for it is gone", s.Events)
	}
	t.publish("nobody reads", "x")
	if s := l.Stat(); s.Events != 1 {
		t.Errorf("%d events kept, want 1: nobody has consumed it yet", s.Events)
	}
}

func (t *journalTest) commitUnknown() {
	t.start()
	l := t.lane("a")
	t.publish("a", "1")
	l.Commit("nobody", pubsub.Cursor{Head: 1})
	if s := l.Stat(); len(s.Consumers) != 0 || s.Events != 1 {
		t.Errorf("stat %+v", s)
	}
}

func (t *journalTest) statEmpty() {
	t.start()
	if s := t.lane("a").Stat(); s.First <= s.Last || s.Events != 0 || s.Bytes != 0 || s.Lane == "" {
		t.Errorf("stat %+v", s)
	}
	if gaps := t.j.Gaps(10); len(gaps) != 0 {
		t.Errorf("gaps %+v", gaps)
	}
}
