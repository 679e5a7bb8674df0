package pubsub_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
)

func open(t *testing.T, w *world, pub, topic string) *pubsub.Stream {
	t.Helper()
	st, err := w.OpenStream(t.Context(), pubsub.StreamRequest{App: "app", PubSub: pub, Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close) // closing twice is allowed
	return st
}

// take receives n events without answering; it fails if they do not come by themselves.
func take(t *testing.T, st *pubsub.Stream, n int) (data, ids []string) {
	t.Helper()
	for range n {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		d, err := st.Recv(ctx)
		cancel()
		if err != nil {
			t.Fatalf("after %v: %v", data, err)
		}
		e, err := pubsub.ParseCloudEvent(d.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		data, ids = append(data, string(e.Data)), append(ids, d.ID)
	}
	return data, ids
}

func empty(t *testing.T, st *pubsub.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if d, err := st.Recv(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("unexpected %s, %v", d.Envelope, err)
	}
}

func TestStream(t *testing.T) {
	t.Run("WindowIsInOrderAndAnsweredInAnyOrder", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			w.publish(t, "a", numbers(1, 3)...)
			st := open(t, w, "ps", "a")
			got, ids := take(t, st, 1)
			more, moreIDs := take(t, st, 2)
			wantEqual(t, "got", append(got, more...), numbers(1, 3))
			ids = append(ids, moreIDs...)
			for _, i := range []int{2, 0, 1} {
				if !st.Ack(ids[i], pubsub.Ack) {
					t.Errorf("nobody waits for %d", i)
				}
			}
			if st.Ack(ids[0], pubsub.Ack) || st.Ack("unknown", pubsub.Ack) {
				t.Error("an answer that nobody waits for")
			}
			synctest.Wait()
			if s := w.ps.Consumers()[0]; s.Acked != 3 || s.Head != 3 {
				t.Errorf("figures: %+v", s)
			}
			if l := w.Subscriptions("app"); len(l) != 1 || l[0].Kind != pubsub.Streaming || l[0].Rules[0].Path != "/" {
				t.Errorf("listed: %+v", l)
			}
			st.Close()
			if l := w.Subscriptions("app"); len(l) != 0 {
				t.Errorf("listed: %+v", l)
			}
			if _, err := st.Recv(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("recv after close: %v", err)
			}
		})
	})
	t.Run("ClientAwayMissesNothing", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			w.publish(t, "a", numbers(1, 4)...)
			st := open(t, w, "ps", "a")
			_, ids := take(t, st, 3)
			st.Ack(ids[0], pubsub.Ack)
			st.Ack(ids[2], pubsub.Ack)
			synctest.Wait()
			st.Close()
			w.publish(t, "a", "5")
			again := open(t, w, "ps", "a")
			for _, want := range []string{"2", "4", "5"} { // what had no answer, then the rest
				got, ids := take(t, again, 1)
				wantEqual(t, "got", got, []string{want})
				again.Ack(ids[0], pubsub.Ack)
			}
		})
	})
	t.Run("RetryDropAndDeadLetter", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{Inbound: func(string, string) pubsub.Policy { return pubsub.Retry{Wait: time.Second, Max: 1} }}, func(t *testing.T, w *world) {
			st, err := w.OpenStream(t.Context(), pubsub.StreamRequest{App: "app", PubSub: "mem", Topic: "a", DeadLetterTopic: "dead"})
			if err != nil {
				t.Fatal(err)
			}
			dead := open(t, w, "mem", "dead")
			send := func() {
				if err := w.Publish(t.Context(), "pub", pubsub.Publication{PubSub: "mem", Topic: "a", Data: []byte("x")}); err != nil {
					t.Fatal(err)
				}
			}
			send()
			_, first := take(t, st, 1)
			st.Ack(first[0], pubsub.Nak)
			_, second := take(t, st, 1)
			st.Ack(second[0], pubsub.Nak)
			_, gone := take(t, dead, 1)
			dead.Ack(gone[0], pubsub.Ack)
			if first[0] != second[0] || first[0] != gone[0] {
				t.Errorf("ids %v %v %v", first, second, gone)
			}
			send()
			_, third := take(t, st, 1)
			st.Ack(third[0], pubsub.Drop)
			_, gone = take(t, dead, 1)
			dead.Ack(gone[0], pubsub.Ack)
			if third[0] != gone[0] {
				t.Errorf("ids %v %v", third, gone)
			}
			empty(t, st)
		})
	})
	t.Run("SeveralGetEveryEvent", func(t *testing.T) {
		for _, pub := range []string{"mem", "ps"} {
			inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
				one, two := open(t, w, pub, "a"), open(t, w, pub, "a")
				for _, d := range numbers(1, 3) {
					if err := w.Publish(t.Context(), "pub", pubsub.Publication{PubSub: pub, Topic: "a", Data: []byte(d)}); err != nil {
						t.Fatal(err)
					}
				}
				for _, st := range []*pubsub.Stream{one, two} {
					for _, want := range numbers(1, 3) {
						got, ids := take(t, st, 1)
						wantEqual(t, pub, got, []string{want})
						st.Ack(ids[0], pubsub.Ack)
					}
				}
				if n := len(w.Subscriptions("app")); n != 2 {
					t.Errorf("%d listed", n)
				}
			})
		}
	})
	t.Run("AnotherTakesOverTheDurablePlace", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			one, two := open(t, w, "ps", "a"), open(t, w, "ps", "a")
			w.publish(t, "a", "1")
			take(t, one, 1)
			_, ids := take(t, two, 1)
			two.Ack(ids[0], pubsub.Ack)
			synctest.Wait()
			one.Close() // without an answer
			got, ids := take(t, two, 1)
			wantEqual(t, "what the first left", got, []string{"1"})
			two.Ack(ids[0], pubsub.Ack)
			synctest.Wait()
			if c := w.ps.Consumers(); len(c) != 1 || c[0].Name != "stream:app:a" || c[0].Head != 1 {
				t.Errorf("consumers: %+v", c)
			}
		})
	})
	t.Run("BesideASubscription", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.start(t, "app", app, spec("a", "/a"))
			st := open(t, w, "ps", "a")
			w.publish(t, "a", "1")
			got, _ := take(t, st, 1)
			synctest.Wait()
			wantEqual(t, "stream", got, []string{"1"})
			wantEqual(t, "application", app.paths(), []string{"/a 1"})
			w.AppHealthy("app", false)
			synctest.Wait()
			w.publish(t, "a", "2")
			synctest.Wait()
			if l := w.Subscriptions("app"); len(l) != 2 {
				t.Errorf("listed: %+v", l)
			}
			// The application's health does not concern the stream: its second window comes when the first is answered.
			wantEqual(t, "application", app.paths(), []string{"/a 1"})
		})
	})
	t.Run("StopWaitsForTheAnswer", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			st := open(t, w, "ps", "a")
			w.publish(t, "a", "1")
			_, ids := take(t, st, 1)
			stopped := make(chan error)
			go func() { stopped <- w.StopApp(context.Background(), "app") }()
			synctest.Wait()
			w.publish(t, "a", "2")
			time.Sleep(3 * time.Second)
			if !st.Ack(ids[0], pubsub.Ack) {
				t.Error("the answer came too late")
			}
			if err := <-stopped; err != nil {
				t.Fatal(err)
			}
			if _, err := st.Recv(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("recv: %v", err)
			}
			got, _ := take(t, open(t, w, "ps", "a"), 1)
			wantEqual(t, "afterwards", got, []string{"2"})
		})
	})
	t.Run("ComponentIsReplaced", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			st := open(t, w, "ps", "a")
			w.ComponentDown(t.Context(), "ps")
			if n := len(w.ps.Consumers()); n != 0 {
				t.Errorf("%d consumers", n)
			}
			w.publish(t, "a", "1")
			w.ComponentUp(t.Context(), "ps")
			got, _ := take(t, st, 1)
			wantEqual(t, "got", got, []string{"1"})
		})
	})
	t.Run("Errors", func(t *testing.T) {
		w := newWorld(pubsub.ServiceOptions{})
		defer w.close(t)
		for want, r := range map[string]pubsub.StreamRequest{
			"pubsubName is required":       {Topic: "a"},
			"topic is required":            {PubSub: "ps"},
			"pubsub notexist is not found": {PubSub: "notexist", Topic: "b"},
		} {
			r.App = "app"
			_, err := w.OpenStream(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if e := fault.From(err); want[0] == 'p' && strings.HasPrefix(want, "pubsub n") && (e.GRPC != fault.InvalidArgument || e.Reason != "DAPR_PUBSUB_NOT_FOUND") {
				t.Errorf("got %+v", e)
			}
		}
		if len(w.Subscriptions("app")) != 0 {
			t.Error("a refused stream is listed")
		}
	})
}
