package sync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/state"
	edgesync "github.com/edged-io/edged/sync"
)

// disk is what of a device survives its process: a journal and a state store, in memory, with the guarantees of the real
// ones. It can be copied (backup, clone) and put back.
type disk struct {
	journal *journal
	store   *store
}

func newDisk(lanes ...string) *disk {
	return &disk{journal: newJournal(lanes...), store: newStore()}
}

func (d *disk) copy() *disk { return &disk{journal: d.journal.copy(), store: d.store.copy()} }

// journal is a pubsub.Journal whose lanes keep every event (or only those after cut).
type journal struct {
	lanes []*lane
}

type lane struct {
	match string

	mu      sync.Mutex
	next    uint64 // sequence of the next event
	events  []pubsub.Event
	cursors map[string]pubsub.Cursor
	grew    chan struct{}
}

func newJournal(matches ...string) *journal {
	j := &journal{}
	for _, m := range matches {
		j.lanes = append(j.lanes, &lane{match: m, next: 1, cursors: map[string]pubsub.Cursor{}, grew: make(chan struct{})})
	}
	return j
}

func (j *journal) copy() *journal {
	out := &journal{}
	for _, l := range j.lanes {
		l.mu.Lock()
		out.lanes = append(out.lanes, &lane{
			match: l.match, next: l.next, events: slices.Clone(l.events), cursors: maps.Clone(l.cursors), grew: make(chan struct{}),
		})
		l.mu.Unlock()
	}
	return out
}

func (j *journal) Append(_ context.Context, events []pubsub.Event) error {
	for i := range events {
		l := j.laneOf(events[i].Topic)
		l.mu.Lock()
		events[i].Sequence = l.next
		l.next++
		l.events = append(l.events, events[i])
		close(l.grew)
		l.grew = make(chan struct{})
		l.mu.Unlock()
	}
	return nil
}

func (j *journal) laneOf(topic string) *lane {
	for _, l := range j.lanes {
		if l.match == "#" || strings.HasPrefix(topic, strings.TrimSuffix(l.match, "#")) {
			return l
		}
	}
	panic("no lane for " + topic)
}

func (j *journal) Lanes(filter string) []pubsub.Lane {
	var out []pubsub.Lane
	for _, l := range j.lanes {
		if filter == "#" || l.match == "#" || strings.HasPrefix(filter, strings.TrimSuffix(l.match, "#")) {
			out = append(out, l)
		}
	}
	return out
}

func (j *journal) Gaps(int) []pubsub.Gap { return nil }

func (l *lane) Name() string { return l.match }

func (l *lane) Attach(_ context.Context, consumer, _ string, _ pubsub.StartFrom) (pubsub.Cursor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.cursors[consumer]; !ok {
		l.cursors[consumer] = pubsub.Cursor{}
	}
	return l.cursors[consumer], nil
}

func (l *lane) Detach(_ context.Context, consumer string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.cursors, consumer)
	return nil
}

func (l *lane) Read(ctx context.Context, after uint64, filter string, limit int) ([]pubsub.Event, uint64, error) {
	for {
		l.mu.Lock()
		grew, last := l.grew, l.next-1
		i, _ := slices.BinarySearchFunc(l.events, after+1, func(e pubsub.Event, seq uint64) int {
			return int(int64(e.Sequence) - int64(seq))
		})
		var out []pubsub.Event
		scanned := after
		for ; i < len(l.events) && len(out) < limit; i++ {
			e := l.events[i]
			scanned = e.Sequence
			if filter == "#" || filter == e.Topic || strings.HasSuffix(filter, "#") && strings.HasPrefix(e.Topic, strings.TrimSuffix(filter, "#")) {
				out = append(out, e)
			}
		}
		l.mu.Unlock()
		if len(out) > 0 || after < last {
			return out, max(scanned, min(last, scanned)), nil
		}
		select {
		case <-ctx.Done():
			return nil, after, ctx.Err()
		case <-grew:
		}
	}
}

func (l *lane) Commit(consumer string, c pubsub.Cursor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cursors[consumer] = c
}

func (l *lane) Flush(context.Context) error { return nil }

func (l *lane) Stat() pubsub.LaneStat {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := pubsub.LaneStat{Lane: l.match, First: l.next, Last: l.next - 1, Events: int64(len(l.events))}
	if len(l.events) > 0 {
		s.First = l.events[0].Sequence
	}
	return s
}

// cut forgets the events up to a sequence, as a journal does with what its consumers have passed.
func (l *lane) cut(upTo uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = slices.DeleteFunc(slices.Clone(l.events), func(e pubsub.Event) bool { return e.Sequence <= upTo })
}

// store is a state.Feed with Scan and Get.
type store struct {
	mu      sync.Mutex
	epoch   string
	rev     uint64
	entries map[string]state.Change
	dirty   map[string]uint64
	marks   []dirtyMark // in order; some are stale
	meta    map[string][]byte
	match   func(string) bool
	changed chan struct{}
}

func newStore() *store {
	return &store{
		epoch: fmt.Sprintf("db%d", time.Now().UnixNano()), entries: map[string]state.Change{}, dirty: map[string]uint64{},
		meta: map[string][]byte{}, changed: make(chan struct{}, 1),
	}
}

func (s *store) copy() *store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &store{
		epoch: s.epoch, rev: s.rev, entries: maps.Clone(s.entries), dirty: maps.Clone(s.dirty), meta: maps.Clone(s.meta),
		changed: make(chan struct{}, 1),
	}
}

func (s *store) put(key, value string) { s.write(state.Change{Key: key, Value: []byte(value)}) }
func (s *store) del(key string)        { s.write(state.Change{Key: key, Deleted: true}) }

func (s *store) write(c state.Change) {
	s.writeSilently(c)
	s.signal()
}

func (s *store) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *store) writeSilently(c state.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rev++
	c.Sequence = s.rev
	s.entries[c.Key] = c
	if s.match == nil || s.match(c.Key) {
		s.dirty[c.Key] = s.rev
		if s.marks != nil || len(s.dirty) == 1 {
			s.marks = append(s.marks, dirtyMark{s.rev, c.Key})
		}
	}
}

func (s *store) Track(_ context.Context, match func(string) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.match = match
	return nil
}

func (s *store) Dirty(_ context.Context, limit int) ([]state.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.dirty) == 0 {
		s.marks = nil
		return nil, nil
	}
	if s.marks == nil { // a copy, or a test that set marks by hand
		for key, rev := range s.dirty {
			s.marks = append(s.marks, dirtyMark{rev, key})
		}
		slices.SortFunc(s.marks, func(a, b dirtyMark) int { return int(int64(a.rev) - int64(b.rev)) })
	}
	for len(s.marks) > 0 && s.dirty[s.marks[0].key] != s.marks[0].rev {
		s.marks = s.marks[1:]
	}
	var out []state.Change
	for _, m := range s.marks {
		if len(out) == limit {
			break
		}
		if s.dirty[m.key] == m.rev {
			out = append(out, s.entries[m.key])
		}
	}
	return out, nil
}

type dirtyMark struct {
	rev uint64
	key string
}

func (s *store) Clean(_ context.Context, done []state.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range done {
		if s.dirty[c.Key] == c.Sequence {
			delete(s.dirty, c.Key)
		}
	}
	return nil
}

func (s *store) Changed() <-chan struct{} { return s.changed }

func (s *store) Merge(_ context.Context, changes []state.Change, meta map[string][]byte) (skipped []int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range changes {
		if _, dirty := s.dirty[c.Key]; dirty {
			skipped = append(skipped, i)
			continue
		}
		s.rev++
		c.Sequence = s.rev
		s.entries[c.Key] = c
	}
	for k, v := range meta {
		s.meta[k] = bytes.Clone(v)
	}
	return skipped, nil
}

func (s *store) Meta(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.meta[key], nil
}

func (s *store) Epoch() string { return s.epoch }

func (s *store) Get(_ context.Context, keys ...string) ([]state.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []state.Entry
	for _, k := range keys {
		c, ok := s.entries[k]
		out = append(out, state.Entry{Key: k, Found: ok && !c.Deleted, Value: c.Value})
	}
	return out, nil
}

func (s *store) Scan(_ context.Context, prefix, after string, fn func(state.Entry) bool) error {
	for _, k := range slices.Sorted(maps.Keys(s.live())) {
		if k <= after || !strings.HasPrefix(k, prefix) {
			continue
		}
		s.mu.Lock()
		c := s.entries[k]
		s.mu.Unlock()
		if !fn(state.Entry{Key: k, Found: true, Value: c.Value, ContentType: c.ContentType, Expires: c.Expires}) {
			return nil
		}
	}
	return nil
}

// live returns the keys and values that are there.
func (s *store) live() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for k, c := range s.entries {
		if !c.Deleted {
			out[k] = string(c.Value)
		}
	}
	return out
}

// device is a running device: a disk and a Sync.
type device struct {
	t      testing.TB
	id     string
	disk   *disk
	cfg    edgesync.Config
	sync   *edgesync.Sync
	ended  chan error
	stop   context.CancelFunc
	mu     sync.Mutex
	losers []edgesync.Conflict
}

// start runs a device on a disk. It is stopped, at the latest, when the test ends.
func start(t testing.TB, id string, d *disk, cfg edgesync.Config) *device {
	t.Helper()
	dev := &device{t: t, id: id, disk: d, cfg: cfg, ended: make(chan error, 1)}
	var err error
	dev.sync, err = edgesync.New(cfg, edgesync.Deps{
		Device: id, Log: testLog(t), Meta: d.store,
		Journals: func(string) (pubsub.Journal, bool) { return d.journal, true },
		Stores:   func(string) (edgesync.Store, bool) { return d.store, true },
		Conflict: func(c edgesync.Conflict) {
			dev.mu.Lock()
			defer dev.mu.Unlock()
			dev.losers = append(dev.losers, c)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	dev.stop = cancel
	go func() { dev.ended <- dev.sync.Run(ctx) }()
	t.Cleanup(dev.close)
	return dev
}

func (d *device) close() {
	d.stop()
	if err := d.sync.Close(); err != nil {
		d.t.Error(err)
	}
}

func (d *device) publish(topic string, first, last int) {
	var events []pubsub.Event
	for n := first; n <= last; n++ {
		events = append(events, event(topic, n))
	}
	if err := d.disk.journal.Append(context.Background(), events); err != nil {
		d.t.Error(err)
	}
}

func event(topic string, n int) pubsub.Event {
	return pubsub.Event{
		Topic: topic, ContentType: "application/cloudevents+json", Time: time.Now(),
		Data: fmt.Appendf(nil, `{"specversion":"1.0","id":"%s-%d","source":"test","type":"test","topic":"%s","data":{"n":%d}}`, topic, n, topic, n),
	}
}

func (d *device) lane(name string) edgesync.LaneStatus {
	for _, l := range d.sync.Status().Lanes {
		if l.Lane == name || strings.HasPrefix(l.Lane, name+".") {
			return l
		}
	}
	return edgesync.LaneStatus{}
}

func (d *device) conflicts() []edgesync.Conflict {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.losers)
}

func (d *device) alarmed(text string) bool {
	return slices.ContainsFunc(d.sync.Status().Alarms, func(a edgesync.Alarm) bool { return strings.Contains(a.Text, text) })
}

// eventually polls until ok or fails the test.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, 20*time.Second, what, ok)
}

func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
}

type testWriter struct {
	mu   sync.Mutex
	t    testing.TB
	over bool
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func testLog(t testing.TB) *slog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.over = true
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

var errNotYet = errors.New("not yet")
