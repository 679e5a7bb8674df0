package pubsubtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

func (t *journalTest) reopenKeeps() {
	t.start()
	first := t.publish("a", numbered("", 1, 5)...)[0].Sequence
	l := t.lane("a")
	t.attach(l, "c", "a", pubsub.Oldest)
	t.attach(l, "n", "#", pubsub.Newest)
	l.Commit("c", pubsub.Cursor{Head: first + 2, Pending: []uint64{first + 1}})
	name := l.Name()
	for round := range 5 {
		t.start()
		l = t.lane("a")
		c := t.attach(l, "c", "a", pubsub.Newest)
		if l.Name() != name || c.Head != first+2 || !slices.Equal(c.Pending, []uint64{first + 1}) {
			t.Fatalf("round %d: lane %q, cursor %+v", round, l.Name(), c)
		}
		t.wantRead(l, first, "a", numbered("", 2, 5+round)...)
		if e := t.publish("a", fmt.Sprint(6+round)); e[0].Sequence <= first+4 {
			t.Fatalf("sequence %d given again", e[0].Sequence)
		}
	}
	if s := l.Stat(); s.Events != 9 || s.First != first+1 || s.Dropped["corrupt"] != 0 {
		t.Errorf("stat %+v", s)
	}
	if n := t.attach(l, "n", "#", pubsub.Oldest); n.Head != first+4 {
		t.Errorf("consumer began at %d, now at %d", first+4, n.Head)
	}
}

func (t *journalTest) reopenGaps() {
	contract := pubsub.Contract{Match: "#", MaxEvents: 3, WhenFull: pubsub.DropOldest}
	t.start(contract)
	t.publish("a", "1", "2", "3")
	t.publish("b", "4", "5")
	want := t.j.Gaps(10)
	if len(want) != 1 || want[0].Events != 2 {
		t.Fatalf("gaps %+v", want)
	}
	t.start(contract)
	t.wantRead(t.lane("a"), 0, "#", "3", "4", "5")
	got := t.j.Gaps(10)
	if len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want[0]) {
		t.Errorf("gaps after reopening: %+v, want %+v", got, want)
	}
}

func (t *journalTest) reopenWithoutContract() {
	t.start(pubsub.Contract{Match: "a/#", MaxEvents: 5})
	t.attach(t.lane("a/1"), "c", "a/1", pubsub.Oldest)
	last := t.publish("a/1", "1", "2")[1].Sequence
	t.start()
	t.publish("a/1", "3")
	lanes := t.j.Lanes("a/1")
	if len(lanes) != 2 {
		t.Fatalf("%d lanes may hold the topic, want 2", len(lanes))
	}
	for _, l := range lanes {
		if l.Name() == "a/#" {
			t.wantRead(l, t.attach(l, "c", "a/1", pubsub.Oldest).Head, "a/1", "1", "2")
			l.Commit("c", pubsub.Cursor{Head: last})
		} else {
			t.wantRead(l, t.attach(l, "c", "a/1", pubsub.Oldest).Head, "a/1", "3")
		}
	}
	t.start()
	t.start()
	for _, l := range t.j.Lanes("a/1") {
		if l.Name() == "a/#" {
			t.Error("the lane without contract is still there, although it is empty")
		}
	}
	t.start(pubsub.Contract{Match: "a/#"})
	if e := t.publish("a/1", "4"); e[0].Sequence <= last {
		t.Errorf("sequence %d given again", e[0].Sequence)
	}
}

func (t *journalTest) reopenReordered() {
	wide, narrow := pubsub.Contract{Match: "a/#"}, pubsub.Contract{Match: "a/b"}
	t.start(wide, narrow)
	t.publish("a/b", "1", "2")
	t.start(narrow, wide)
	t.publish("a/b", "3")
	var got []string
	for _, l := range t.j.Lanes("a/b") {
		data, _ := t.read(l, 0, "a/b")
		got = append(got, data...)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("the lanes of the topic hold %q", got)
	}
}

// clockSet starts at 1970, as a device without a battery-backed clock does, and sets the clock while running.
func (t *journalTest) clockSet() {
	right := t.now
	t.now = time.Unix(100, 0)
	t.start(pubsub.Contract{Match: "#", MaxAge: time.Hour, WhenFull: pubsub.Reject})
	events := eventsOf("a", "1", "2")
	events[1].Expires = t.clock().Add(30 * time.Minute)
	if err := t.j.Append(t.ctx(), events); err != nil {
		t.Fatal(err)
	}
	t.pass(time.Minute)
	t.now = right
	t.wantRead(t.lane("a"), 0, "a", "1", "2")
	t.pass(40 * time.Minute)
	t.wantRead(t.lane("a"), 0, "a", "1")
	t.pass(40 * time.Minute)
	t.wantRead(t.lane("a"), 0, "a")
	t.now = time.Unix(0, 0)
	t.publish("a", "3")
	t.pass(50 * time.Minute)
	t.wantRead(t.lane("a"), 0, "a", "3")
	t.pass(20 * time.Minute)
	t.wantRead(t.lane("a"), 0, "a")
}

// reopenClockSet reboots with and without a right clock.
func (t *journalTest) reopenClockSet() {
	contract := pubsub.Contract{Match: "#", MaxAge: time.Hour, WhenFull: pubsub.Reject}
	right := t.now
	t.now = time.Unix(100, 0)
	t.start(contract)
	t.publish("a", "1")
	t.now = time.Unix(50, 0)
	t.start(contract)
	t.wantRead(t.lane("a"), 0, "a", "1")
	t.now = right
	t.start(contract)
	t.wantRead(t.lane("a"), 0, "a", "1")
	t.pass(30 * time.Minute)
	t.publish("a", "2")
	t.now = right.Add(40 * time.Minute)
	t.start(contract)
	t.pass(40 * time.Minute)
	t.wantRead(t.lane("a"), 0, "a", "2")
	t.now = right.Add(48 * time.Hour)
	t.start(contract)
	t.wantRead(t.lane("a"), 0, "a")
}
