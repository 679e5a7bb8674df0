package pubsub_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/pubsub"
)

func TestService_DeadLetter(t *testing.T) {
	for name, verdict := range map[string]pubsub.Verdict{"Refused": pubsub.Nak, "Dropped": pubsub.Drop} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, pubsub.ServiceOptions{Inbound: func(string, string) pubsub.Policy { return pubsub.Retry{Wait: time.Second, Max: 2} }}, func(t *testing.T, w *world) {
				app := &fakeApp{answer: func(d pubsub.Delivery, _ int) pubsub.Verdict {
					if d.Path == "/a" {
						return verdict
					}
					return pubsub.Ack
				}}
				s := spec("a", "/a")
				s.DeadLetterTopic = "dead"
				w.start(t, "app", app, s, spec("dead", "/dead"))
				w.publish(t, "a", "1")
				time.Sleep(time.Minute)
				synctest.Wait()
				want := []string{"/a 1", "/dead 1"}
				if verdict == pubsub.Nak {
					want = []string{"/a 1", "/a 1", "/a 1", "/dead 1"}
				}
				wantEqual(t, "got", app.paths(), want)
				if last := app.got[len(app.got)-1]; last.ID != app.got[0].ID || decode(t, last.Envelope)["topic"] != "a" {
					t.Errorf("the dead letter is not the event: %+v", last)
				}
			})
		})
	}
	t.Run("UnroutedMalformedAndExpired", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			s := pubsub.Spec{PubSub: "ps", Topic: "a", DeadLetterTopic: "dead", Rules: []pubsub.Rule{{Match: `event.type == "x"`, Path: "/x"}}}
			raw := spec("dead", "/dead")
			raw.Metadata = map[string]string{"rawPayload": "true"}
			w.start(t, "app", app, s, raw)
			for _, data := range []string{`{"type":"z"}`, `[]`, `{"no":"type"}`, `{"type":"x","expiration":"1999-01-01T00:00:00Z"}`, `{"type":"x"}`} {
				if err := w.ps.Publish(t.Context(), []pubsub.Event{{Topic: "a", Data: []byte(data)}}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			dead := 0
			for _, d := range app.got {
				if d.Path == "/dead" {
					dead++
				}
			}
			if dead != 4 || len(app.got) != 5 {
				t.Errorf("%d dead of %d: %v", dead, len(app.got), app.paths())
			}
		})
	})
	t.Run("NotKeptIsDeliveredAgain", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "ps", Properties: map[string]string{"publishingScopes": "app=other"}}, Value: w.ps})
			app := &fakeApp{answer: func(_ pubsub.Delivery, nth int) pubsub.Verdict {
				if nth == 1 {
					return pubsub.Drop
				}
				return pubsub.Ack
			}}
			s := spec("a", "/a")
			s.DeadLetterTopic = "dead"
			w.start(t, "app", app, s)
			w.publish(t, "a", "1")
			time.Sleep(time.Minute)
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/a 1", "/a 1"})
		})
	})
}

func TestService_BulkSubscribe(t *testing.T) {
	inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
		app := &fakeApp{answer: func(d pubsub.Delivery, nth int) pubsub.Verdict {
			e, _ := pubsub.ParseCloudEvent(d.Envelope)
			switch {
			case d.Path == "/dead":
				return pubsub.Ack
			case string(e.Data) == "2" && nth == 1:
				return pubsub.Nak
			case string(e.Data) == "3":
				return pubsub.Drop
			}
			return pubsub.Ack
		}}
		s := spec("a", "/a")
		s.Bulk = pubsub.BulkSubscribe{Enabled: true, MaxMessagesCount: 4, MaxAwaitDurationMs: 500}
		w.start(t, "app", app, s)
		w.publish(t, "a", numbers(1, 6)...)
		time.Sleep(time.Minute)
		synctest.Wait()
		wantEqual(t, "got", app.paths(), []string{"/a 1", "/a 2", "/a 3", "/a 4", "/a 5", "/a 6", "/a 2"})
		if n := len(app.bulk); n != 3 || app.bulk[0].ID == "" || app.bulk[0].Entries[0].EntryID == "" || app.bulk[0].Path != "/a" || app.bulk[0].PubSub != "ps" || app.bulk[0].Topic != "a" {
			t.Errorf("%d batches: %+v", n, app.bulk)
		}
		if s := w.ps.Consumers()[0]; s.Dropped != 1 || s.Pending != 0 || s.Head != 6 {
			t.Errorf("figures: %+v", s)
		}
	})
	t.Run("RoutesAndRaw", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			s := pubsub.Spec{PubSub: "ps", Topic: "a", Rules: []pubsub.Rule{{Match: `event.type == "x"`, Path: "/x"}, {Path: "/rest"}}, Bulk: pubsub.BulkSubscribe{Enabled: true}}
			raw := spec("raw", "/raw")
			raw.Metadata, raw.Bulk = map[string]string{"rawPayload": "true"}, pubsub.BulkSubscribe{Enabled: true}
			w.start(t, "app", app, s, raw)
			for _, typ := range []string{"x", "y", "x"} {
				if err := w.ps.Publish(t.Context(), []pubsub.Event{{Topic: "a", Data: []byte(`{"type":"` + typ + `"}`)}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.ps.Publish(t.Context(), []pubsub.Event{{Topic: "raw", Data: []byte{0xff}}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			count := map[string]int{}
			for _, b := range app.bulk {
				count[b.Path] += len(b.Entries)
				if d := b.Entries[0]; b.Path == "/raw" && (!d.Raw || string(d.Envelope) != "\xff" || d.ContentType != "application/octet-stream") {
					t.Errorf("raw: %+v", d)
				}
			}
			if !maps.Equal(count, map[string]int{"/x": 2, "/rest": 1, "/raw": 1}) || len(app.bulk) != 3 {
				t.Errorf("got %v in %d batches", count, len(app.bulk))
			}
		})
	})
	t.Run("RetriesOnlyWhatWasRefused", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{Inbound: func(string, string) pubsub.Policy { return pubsub.Retry{Wait: time.Second, Max: 2} }}, func(t *testing.T, w *world) {
			app := &fakeApp{answer: func(d pubsub.Delivery, nth int) pubsub.Verdict {
				if e, _ := pubsub.ParseCloudEvent(d.Envelope); string(e.Data) == "2" && d.Path == "/a" {
					return pubsub.Nak
				}
				return pubsub.Ack
			}}
			s := spec("a", "/a")
			s.DeadLetterTopic, s.Bulk = "dead", pubsub.BulkSubscribe{Enabled: true, MaxMessagesCount: 3}
			w.start(t, "app", app, s, spec("dead", "/dead"))
			w.publish(t, "a", numbers(1, 3)...)
			time.Sleep(time.Minute)
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/a 1", "/a 2", "/a 3", "/a 2", "/a 2", "/dead 2"})
		})
	})
	t.Run("UnreachableThenInOrder", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{away: true}
			s := spec("a", "/a")
			s.Bulk = pubsub.BulkSubscribe{Enabled: true, MaxMessagesCount: 2}
			w.start(t, "app", app, s)
			w.publish(t, "a", numbers(1, 4)...)
			time.Sleep(time.Hour)
			app.set(func() { app.away = false })
			time.Sleep(time.Minute)
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/a 1", "/a 2", "/a 3", "/a 4"})
		})
	})
}
