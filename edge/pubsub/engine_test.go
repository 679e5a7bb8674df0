package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/pubsub"
)

var quiet = slog.New(slog.DiscardHandler)

func newBroker(opts pubsub.MemoryOptions) *pubsub.JournalBroker {
	return pubsub.NewBroker(pubsub.NewMemoryJournal(opts), pubsub.BrokerOptions{Log: quiet})
}

func publish(t testing.TB, b pubsub.Broker, topic string, data ...string) {
	t.Helper()
	events := make([]pubsub.Event, len(data))
	for i, d := range data {
		events[i] = pubsub.Event{Topic: topic, Data: []byte(d)}
	}
	if err := b.Publish(t.Context(), events); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

func subscribe(t testing.TB, b pubsub.Broker, c pubsub.Consumer, h pubsub.Handler) pubsub.Subscription {
	t.Helper()
	s, err := b.Subscribe(t.Context(), c, h)
	if err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() }) // closing twice is allowed
	return s
}

// record is a handler that keeps what it gets and asks verdict, if any, for each event.
type record struct {
	mu      sync.Mutex
	got     []string
	batches []int
	at      []time.Time
	verdict func(data string, nth int) pubsub.Verdict
}

func (r *record) handle(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]pubsub.Verdict, len(events))
	r.batches = append(r.batches, len(events))
	for i, e := range events {
		d := string(e.Data)
		nth := 1
		for _, g := range r.got {
			if g == d {
				nth++
			}
		}
		r.got = append(r.got, d)
		r.at = append(r.at, time.Now())
		if r.verdict != nil {
			out[i] = r.verdict(d, nth)
		}
	}
	return out, nil
}

func (r *record) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func numbers(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, strconv.Itoa(i))
	}
	return out
}

func wantEqual(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

func TestJournalBroker_Subscribe(t *testing.T) {
	t.Run("DeliversInOrderAndContinuesAtItsCursor", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			publish(t, b, "a", numbers(1, 3)...)
			first := &record{}
			s := subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, first.handle)
			synctest.Wait()
			wantEqual(t, "what waited", first.all(), numbers(1, 3))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			publish(t, b, "a", numbers(4, 6)...)
			second := &record{}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, second.handle)
			publish(t, b, "a", "7")
			synctest.Wait()
			wantEqual(t, "what it missed", second.all(), numbers(4, 7))
			wantEqual(t, "after close", first.all(), numbers(1, 3))
		})
	})
	t.Run("NewestSkipsThePast", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			publish(t, b, "a", "old")
			r := &record{}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a", Start: pubsub.Newest}, r.handle)
			publish(t, b, "a", "new")
			synctest.Wait()
			wantEqual(t, "got", r.all(), []string{"new"})
		})
	})
	t.Run("WildcardReadsEveryLane", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{Contracts: []pubsub.Contract{{Match: "alarms/#"}}})
			defer b.Close()
			r := &record{}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "+/x"}, r.handle)
			publish(t, b, "alarms/x", "1")
			publish(t, b, "sensors/x", "2")
			publish(t, b, "sensors/y", "3")
			synctest.Wait()
			got := r.all()
			slices.Sort(got)
			wantEqual(t, "got", got, numbers(1, 2))
		})
	})
	t.Run("SameNameSharesTheEvents", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			one, two := &record{}, &record{}
			c := pubsub.Consumer{Name: "c", Filter: "a"}
			s := subscribe(t, b, c, one.handle)
			subscribe(t, b, c, two.handle)
			publish(t, b, "a", numbers(1, 10)...)
			synctest.Wait()
			if len(one.all()) == 0 || len(two.all()) == 0 || len(one.all())+len(two.all()) != 10 {
				t.Fatalf("10 events went %v and %v", one.all(), two.all())
			}
			_ = s.Close()
			publish(t, b, "a", numbers(11, 12)...)
			synctest.Wait()
			wantEqual(t, "the one that stayed", two.all()[len(two.all())-2:], numbers(11, 12))
		})
	})
	t.Run("ErrOtherFilterUnderTheSameName", func(t *testing.T) {
		b := newBroker(pubsub.MemoryOptions{})
		defer b.Close()
		subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, (&record{}).handle)
		if _, err := b.Subscribe(t.Context(), pubsub.Consumer{Name: "c", Filter: "b"}, (&record{}).handle); err == nil {
			t.Fatal("two filters under one name were accepted")
		}
	})
	t.Run("ErrNoName", func(t *testing.T) {
		b := newBroker(pubsub.MemoryOptions{})
		defer b.Close()
		if _, err := b.Subscribe(t.Context(), pubsub.Consumer{Filter: "b"}, (&record{}).handle); err == nil {
			t.Fatal("a durable consumer without a name was accepted")
		}
	})
	t.Run("ErrClosed", func(t *testing.T) {
		b := newBroker(pubsub.MemoryOptions{})
		_ = b.Close()
		if _, err := b.Subscribe(t.Context(), pubsub.Consumer{Name: "c", Filter: "b"}, nil); !errors.Is(err, pubsub.ErrClosed) {
			t.Fatalf("subscribe after close: %v", err)
		}
		if err := b.Publish(t.Context(), []pubsub.Event{{Topic: "a"}}); !errors.Is(err, pubsub.ErrClosed) {
			t.Fatalf("publish after close: %v", err)
		}
	})
}

func TestJournalBroker_Redelivery(t *testing.T) {
	t.Run("NakIsDeliveredAgainWithGrowingWaits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			r := &record{verdict: func(d string, nth int) pubsub.Verdict {
				if d == "2" && nth < 6 {
					return pubsub.Nak
				}
				return pubsub.Ack
			}}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a",
				Backoff: pubsub.Backoff{Min: time.Second, Max: 4 * time.Second}}, r.handle)
			publish(t, b, "a", numbers(1, 4)...)
			time.Sleep(time.Minute) // the bubble's clock
			synctest.Wait()
			wantEqual(t, "got", r.all(), []string{"1", "2", "3", "4", "2", "2", "2", "2", "2"})
			for i, base := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second, 4 * time.Second} {
				before := r.at[1]
				if i > 0 {
					before = r.at[3+i]
				}
				if d := r.at[4+i].Sub(before); d < base/2 || d > base {
					t.Errorf("redelivery %d came after %v, want %v to %v", i+1, d, base/2, base)
				}
			}
			if s := b.Consumers()[0]; s.Pending != 0 || s.Head != 4 || s.Redelivered != 5 || s.Naked != 5 || s.Acked != 4 || s.Lag != 0 {
				t.Errorf("figures: %+v", s)
			}
		})
	})
	t.Run("FullPendingStopsTheLane", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			refuse := true
			r := &record{verdict: func(string, int) pubsub.Verdict {
				if refuse {
					return pubsub.Nak
				}
				return pubsub.Ack
			}}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a", MaxPending: 3, MaxBatch: 2,
				Backoff: pubsub.Backoff{Min: time.Hour, Max: time.Hour}}, r.handle)
			publish(t, b, "a", numbers(1, 9)...)
			synctest.Wait()
			wantEqual(t, "before backpressure", r.all(), numbers(1, 3))
			r.mu.Lock()
			refuse = false
			r.mu.Unlock()
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			got := r.all()
			rest := got[3:]
			slices.SortFunc(rest, func(a, b string) int { return int(a[0]) - int(b[0]) })
			wantEqual(t, "in the end", rest, numbers(1, 9))
		})
	})
	t.Run("ErrorMakesTheLaneWaitAndKeepsTheOrder", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			r, calls := &record{}, 0
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a", MaxBatch: 4}, func(ctx context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
				switch calls++; {
				case calls == 1: // one was handled before the receiver went away
					v, _ := r.handle(ctx, events[:1])
					return v, errors.New("away")
				case calls == 3:
					panic("boom")
				case calls < 6:
					return nil, errors.New("away")
				}
				return r.handle(ctx, events)
			})
			publish(t, b, "a", numbers(1, 6)...)
			time.Sleep(time.Minute)
			synctest.Wait()
			wantEqual(t, "got", r.all(), numbers(1, 6))
			if s := b.Consumers()[0]; s.Failures != 5 || s.Acked != 6 || s.Naked != 0 {
				t.Errorf("figures: %+v", s)
			}
		})
	})
	t.Run("RemovedWhileItWaitedIsCounted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{Contracts: []pubsub.Contract{{Match: "#", MaxEvents: 3, WhenFull: pubsub.DropOldest}}})
			defer b.Close()
			r := &record{verdict: func(d string, _ int) pubsub.Verdict {
				if d == "1" {
					return pubsub.Nak
				}
				return pubsub.Ack
			}}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, r.handle)
			publish(t, b, "a", "1")
			synctest.Wait()
			publish(t, b, "a", numbers(2, 4)...)
			synctest.Wait()
			time.Sleep(time.Minute)
			synctest.Wait()
			wantEqual(t, "got", r.all(), numbers(1, 4))
			if s := b.Consumers()[0]; s.Lost != 1 || s.Pending != 0 {
				t.Errorf("figures: %+v", s)
			}
			if g := b.Journal().Gaps(10); len(g) != 1 || g[0].From != 1 || g[0].To != 1 || g[0].Reason != "events" {
				t.Errorf("gaps: %+v", g)
			}
		})
	})
	t.Run("ExpiredIsSkipped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			r := &record{verdict: func(string, int) pubsub.Verdict { time.Sleep(time.Minute); return pubsub.Ack }}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, r.handle)
			soon := time.Now().Add(time.Second)
			if err := b.Publish(t.Context(), []pubsub.Event{{Topic: "a", Data: []byte("1")}, {Topic: "a", Data: []byte("2"), Expires: soon}, {Topic: "a", Data: []byte("3")}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			wantEqual(t, "got", r.all(), []string{"1", "3"})
			if s := b.Consumers()[0]; s.Expired != 1 || s.Head != 3 {
				t.Errorf("figures: %+v", s)
			}
		})
	})
	t.Run("PendingSurvivesARestart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			j := pubsub.NewMemoryJournal(pubsub.MemoryOptions{})
			b := pubsub.NewBroker(j, pubsub.BrokerOptions{Log: quiet})
			r := &record{verdict: func(d string, _ int) pubsub.Verdict {
				if d == "2" || d == "4" {
					return pubsub.Nak
				}
				return pubsub.Ack
			}}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a", Backoff: pubsub.Backoff{Min: time.Hour, Max: time.Hour}}, r.handle)
			publish(t, b, "a", numbers(1, 5)...)
			synctest.Wait()
			again := pubsub.NewBroker(j.Crash(nil), pubsub.BrokerOptions{Log: quiet})
			defer again.Close()
			_ = b.Close()
			r2 := &record{}
			subscribe(t, again, pubsub.Consumer{Name: "c", Filter: "a"}, r2.handle)
			publish(t, again, "a", "6")
			synctest.Wait()
			wantEqual(t, "after restart", r2.all(), []string{"2", "4", "6"})
		})
	})
}

func TestJournalBroker_Batches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(pubsub.MemoryOptions{})
		defer b.Close()
		r := &record{}
		start := time.Now()
		subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a", MaxBatch: 3, MaxWait: time.Second}, r.handle)
		publish(t, b, "a", "1", "2")
		time.Sleep(500 * time.Millisecond)
		publish(t, b, "a", "3", "4") // fills the first batch; the rest waits for its own window
		synctest.Wait()
		wantEqual(t, "first batch", r.all(), numbers(1, 3))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wantEqual(t, "all", r.all(), numbers(1, 4))
		if !slices.Equal(r.batches, []int{3, 1}) || r.at[0].Sub(start) != 500*time.Millisecond || r.at[3].Sub(start) != 1500*time.Millisecond {
			t.Errorf("batches %v at %v, %v", r.batches, r.at[0].Sub(start), r.at[3].Sub(start))
		}
	})
}

func TestJournalBroker_Volatile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := pubsub.NewInMemory(quiet)
		defer b.Close()
		publish(t, b, "a", "before anybody listens")
		one, two := &record{}, &record{verdict: func(string, int) pubsub.Verdict { return pubsub.Nak }}
		c := pubsub.Consumer{Name: "c", Filter: "a", MaxBatch: 100, MaxWait: time.Second}
		s := subscribe(t, b, c, one.handle)
		subscribe(t, b, c, two.handle)
		publish(t, b, "a", "1", "2")
		time.Sleep(time.Minute)
		synctest.Wait()
		wantEqual(t, "one", one.all(), numbers(1, 2))
		wantEqual(t, "two, which refuses", two.all(), numbers(1, 2))
		if !slices.Equal(one.batches, []int{1, 1}) {
			t.Errorf("batches: %v", one.batches)
		}
		_ = s.Close()
		publish(t, b, "a", "3")
		three := &record{}
		subscribe(t, b, c, three.handle)
		publish(t, b, "a", "4")
		time.Sleep(time.Minute)
		synctest.Wait()
		wantEqual(t, "a later one", three.all(), []string{"4"})
		for _, l := range b.Journal().Lanes("#") {
			if n := l.Stat().Events; n != 0 {
				t.Errorf("lane %s keeps %d events", l.Name(), n)
			}
		}
	})
}

func TestJournalBroker_Close(t *testing.T) {
	t.Run("WaitsForTheHandler", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			r := &record{verdict: func(string, int) pubsub.Verdict { time.Sleep(10 * time.Second); return pubsub.Ack }}
			s := subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, r.handle)
			publish(t, b, "a", "1", "2")
			synctest.Wait()
			before := time.Now()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(before); d != 10*time.Second {
				t.Errorf("close took %v", d)
			}
			if l := b.Journal().Lanes("a")[0].Stat(); l.Consumers["c"] != 1 {
				t.Errorf("cursor: %v", l.Consumers)
			}
			_ = b.Close()
		})
	})
	t.Run("CancelsTheHandlerAtTheDeadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := pubsub.NewBroker(pubsub.NewMemoryJournal(pubsub.MemoryOptions{}), pubsub.BrokerOptions{Log: quiet, DrainTimeout: 3 * time.Second})
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, func(ctx context.Context, _ []pubsub.Event) ([]pubsub.Verdict, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			publish(t, b, "a", "1")
			synctest.Wait()
			before := time.Now()
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(before); d != 3*time.Second {
				t.Errorf("close took %v", d)
			}
		})
	})
	t.Run("SubscribeAgainWhileClosing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(pubsub.MemoryOptions{})
			defer b.Close()
			slow := &record{verdict: func(string, int) pubsub.Verdict { time.Sleep(time.Second); return pubsub.Ack }}
			s := subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, slow.handle)
			publish(t, b, "a", "1", "2")
			synctest.Wait()
			go func() { _ = s.Close() }()
			synctest.Wait()
			r := &record{}
			subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, r.handle)
			synctest.Wait()
			wantEqual(t, "old", slow.all(), []string{"1"})
			wantEqual(t, "new", r.all(), []string{"2"})
		})
	})
}

func TestJournalBroker_Forget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(pubsub.MemoryOptions{})
		defer b.Close()
		s := subscribe(t, b, pubsub.Consumer{Name: "c", Filter: "a"}, (&record{}).handle)
		if err := b.Forget(t.Context(), "c"); err == nil {
			t.Fatal("a running consumer was forgotten")
		}
		_ = s.Close()
		if err := b.Forget(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		if c := b.Journal().Lanes("a")[0].Stat().Consumers; len(c) != 0 {
			t.Fatalf("consumers: %v", c)
		}
	})
}

func BenchmarkJournalBroker(b *testing.B) {
	for _, batch := range []int{1, 32} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			broker := pubsub.NewBroker(pubsub.NewMemoryJournal(pubsub.MemoryOptions{Contracts: []pubsub.Contract{{Match: "#"}}}), pubsub.BrokerOptions{Log: quiet})
			defer broker.Close()
			done, n := make(chan struct{}), 0
			verdicts := make([]pubsub.Verdict, batch)
			_, err := broker.Subscribe(b.Context(), pubsub.Consumer{Name: "c", Filter: "a", MaxBatch: batch},
				func(_ context.Context, events []pubsub.Event) ([]pubsub.Verdict, error) {
					if n += len(events); n == b.N {
						close(done)
					}
					return verdicts[:len(events)], nil
				})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			data := make([]byte, 256)
			b.ResetTimer()
			for range b.N {
				if err := broker.Publish(b.Context(), []pubsub.Event{{Topic: "a", Data: data}}); err != nil {
					b.Fatal(err)
				}
			}
			<-done
		})
	}
}
