package pubsub_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/pubsub"
)

func TestService_Applications(t *testing.T) {
	t.Run("ProgrammaticReplacesDeclarative", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			w.publish(t, "a", "before")
			app := &fakeApp{subsFail: 5, specs: []pubsub.Spec{{PubSub: "ps", Topic: "a", Rules: []pubsub.Rule{{Path: "/prog"}}}}}
			w.start(t, "app", app, spec("a", "/decl"), spec("a", "/second"), spec("b", "/b"))
			w.publish(t, "a", "after")
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/prog before", "/prog after"})
			list := w.Subscriptions("app")
			if len(list) != 2 || list[0].Rules[0].Path != "/prog" || list[0].Kind != pubsub.Programmatic || list[1].Topic != "b" {
				t.Errorf("listed: %+v", list)
			}
			if app.asked != 6 {
				t.Errorf("asked %d times", app.asked)
			}
		})
	})
	t.Run("EachApplicationGetsEveryEvent", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			one, two, three := &fakeApp{}, &fakeApp{}, &fakeApp{}
			own, limited := spec("a", "/a"), spec("a", "/a")
			own.Metadata = map[string]string{"consumerID": "shared"}
			limited.Scopes = []string{"nobody"}
			w.start(t, "one", one, spec("a", "/a"))
			w.start(t, "two", two, spec("a", "/a"))
			w.start(t, "three", three, limited)
			four := &fakeApp{}
			w.start(t, "four", four, own)
			w.publish(t, "a", numbers(1, 3)...)
			synctest.Wait()
			wantEqual(t, "four, under a name of its own", four.paths(), one.paths())
			wantEqual(t, "one", one.paths(), []string{"/a 1", "/a 2", "/a 3"})
			wantEqual(t, "two", two.paths(), one.paths())
			wantEqual(t, "three, not in the scopes", three.paths(), nil)
		})
	})
	t.Run("SharedConsumerIDSharesTheEvents", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "ps", Properties: map[string]string{"consumerid": "group"}}, Value: w.ps})
			one, two := &fakeApp{}, &fakeApp{}
			w.start(t, "one", one, spec("a", "/a"))
			w.start(t, "two", two, spec("a", "/a"))
			w.publish(t, "a", numbers(1, 10)...)
			synctest.Wait()
			if n, m := len(one.got), len(two.got); n+m != 10 || n == 0 || m == 0 {
				t.Errorf("%d and %d", n, m)
			}
		})
	})
	t.Run("RestartContinues", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.start(t, "app", app, spec("a", "/a"))
			w.publish(t, "a", "1")
			synctest.Wait()
			if err := w.StopApp(t.Context(), "app"); err != nil {
				t.Fatal(err)
			}
			w.publish(t, "a", "2", "3")
			synctest.Wait()
			wantEqual(t, "while stopped", app.paths(), []string{"/a 1"})
			w.start(t, "app", app, spec("a", "/a"))
			synctest.Wait()
			wantEqual(t, "after", app.paths(), []string{"/a 1", "/a 2", "/a 3"})
		})
	})
	t.Run("StartFromNewest", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			w.publish(t, "a", "old")
			app := &fakeApp{}
			s := spec("a", "/a")
			s.Metadata = map[string]string{"startFrom": "newest"}
			w.start(t, "app", app, s)
			w.publish(t, "a", "new")
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/a new"})
		})
	})
	t.Run("HealthPausesAndResumes", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.AppHealthy("app", false)
			if err := w.StartApp(t.Context(), "app", app, []pubsub.Spec{spec("a", "/a")}); err != nil {
				t.Fatal(err)
			}
			w.publish(t, "a", "1")
			synctest.Wait()
			if len(app.got) != 0 || app.asked != 0 || len(w.Subscriptions("app")) != 1 {
				t.Errorf("before it was healthy: %v, asked %d", app.paths(), app.asked)
			}
			w.AppHealthy("app", true)
			synctest.Wait()
			wantEqual(t, "healthy", app.paths(), []string{"/a 1"})
			w.AppHealthy("app", false)
			synctest.Wait()
			w.publish(t, "a", "2")
			synctest.Wait()
			wantEqual(t, "unhealthy", app.paths(), []string{"/a 1"})
			app.set(func() { app.specs = []pubsub.Spec{{PubSub: "ps", Topic: "a", Rules: []pubsub.Rule{{Path: "/new"}}}} })
			w.AppHealthy("app", true)
			synctest.Wait()
			wantEqual(t, "healthy again", app.paths(), []string{"/a 1", "/new 2"})
		})
	})
	t.Run("NoChannel", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			w.start(t, "app", nil, spec("a", "/a"))
			if len(w.Subscriptions("app")) != 1 || len(w.ps.Consumers()) != 0 {
				t.Errorf("listed %v, running %v", w.Subscriptions("app"), w.ps.Consumers())
			}
		})
	})
	t.Run("UpdateSpecs", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.start(t, "app", app, spec("b", "/b"), spec("c", "/c"))
			d := spec("d", "/d")
			d.Name = "sub-b" // changed in place
			if err := w.UpdateSpecs(t.Context(), "app", []pubsub.Spec{d, spec("c", "/c")}); err != nil {
				t.Fatal(err)
			}
			for _, topic := range []string{"b", "c", "d"} {
				w.publish(t, topic, "x")
			}
			synctest.Wait()
			got := app.paths()
			slices.Sort(got)
			wantEqual(t, "got", got, []string{"/c x", "/d x"})
			if list := w.Subscriptions("app"); len(list) != 2 || list[0].Topic != "c" || list[1].Topic != "d" {
				t.Errorf("listed %v", list)
			}
		})
	})
	t.Run("ComponentsComeAndGo", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			late := spec("a", "/late")
			late.PubSub = "late"
			w.start(t, "app", app, late)
			if len(w.Subscriptions("app")) != 1 {
				t.Error("a subscription to a missing component is not listed")
			}
			for i := range 2 {
				b := newBroker(pubsub.MemoryOptions{})
				old, replaced := w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "late"}, Value: b})
				w.ComponentUp(t.Context(), "late")
				publish(t, b, "a", fmt.Sprintf(`{"datacontenttype":"text/plain","data":"%d"}`, i))
				synctest.Wait()
				if replaced {
					_ = old.Value.(*pubsub.JournalBroker).Close()
				}
				w.ComponentDown(t.Context(), "late")
				if n := len(b.Consumers()); n != 0 {
					t.Errorf("%d consumers on a component that goes", n)
				}
			}
			wantEqual(t, "got", app.paths(), []string{"/late 0", "/late 1"})
		})
	})
	t.Run("StopWaitsForDeliveries", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			slow := &slowApp{fakeApp: &fakeApp{}, takes: 5 * time.Second}
			w.start(t, "app", slow, spec("a", "/a"))
			w.publish(t, "a", "1", "2")
			synctest.Wait()
			before := time.Now()
			if err := w.StopApp(t.Context(), "app"); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(before); d != 5*time.Second {
				t.Errorf("stopped after %v", d)
			}
			wantEqual(t, "got", slow.paths(), []string{"/a 1"})
		})
	})
}

type slowApp struct {
	*fakeApp
	takes time.Duration
}

func (a *slowApp) Deliver(ctx context.Context, d pubsub.Delivery) (pubsub.Verdict, error) {
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return a.fakeApp.Deliver(ctx, d)
}
