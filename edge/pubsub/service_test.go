package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/pubsub"
)

// fakeApp is an application: it keeps what it gets and answers what the test says.
type fakeApp struct {
	mu       sync.Mutex
	got      []pubsub.Delivery
	bulk     []pubsub.BulkDelivery
	asked    int
	specs    []pubsub.Spec
	away     bool
	answer   func(d pubsub.Delivery, nth int) pubsub.Verdict
	subsFail int
}

var errAway = errors.New("connection refused")

func (a *fakeApp) Deliver(_ context.Context, d pubsub.Delivery) (pubsub.Verdict, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return 0, errAway
	}
	return a.take(d), nil
}

func (a *fakeApp) take(d pubsub.Delivery) pubsub.Verdict {
	nth := 1
	for _, g := range a.got {
		if g.ID == d.ID {
			nth++
		}
	}
	a.got = append(a.got, d)
	if a.answer == nil {
		return pubsub.Ack
	}
	return a.answer(d, nth)
}

func (a *fakeApp) DeliverBulk(_ context.Context, b pubsub.BulkDelivery) ([]pubsub.Verdict, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.away {
		return nil, errAway
	}
	a.bulk = append(a.bulk, b)
	var out []pubsub.Verdict
	for _, d := range b.Entries {
		out = append(out, a.take(d))
	}
	return out, nil
}

func (a *fakeApp) Subscriptions(context.Context) ([]pubsub.Spec, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked++; a.asked <= a.subsFail {
		return nil, errAway
	}
	return a.specs, nil
}

// paths returns "path data" of what came, data as text.
func (a *fakeApp) paths() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, d := range a.got {
		data := string(d.Envelope)
		if !d.Raw {
			if e, err := pubsub.ParseCloudEvent(d.Envelope); err == nil {
				data = string(e.Data)
			}
		}
		out = append(out, d.Path+" "+data)
	}
	return out
}

func (a *fakeApp) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// world is a Service with a durable-like broker "ps" and an in-memory one "mem".
type world struct {
	*pubsub.Service
	brokers *component.Set[pubsub.Broker]
	ps      *pubsub.JournalBroker
}

// typeIs understands conditions of the form: event.type == "x".
type typeIs string

func (m typeIs) Match(event map[string]any) (bool, error) {
	v, ok := event["type"]
	if !ok {
		return false, errors.New("no such key: type")
	}
	return v == string(m), nil
}

func compile(e string) (pubsub.Matcher, error) {
	typ, ok := strings.CutPrefix(e, `event.type == "`)
	if !ok {
		return nil, errors.New("syntax error")
	}
	return typeIs(strings.TrimSuffix(typ, `"`)), nil
}

func newWorld(opts pubsub.ServiceOptions) *world {
	w := &world{brokers: &component.Set[pubsub.Broker]{}, ps: newBroker(pubsub.MemoryOptions{})}
	w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "ps"}, Value: w.ps})
	w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "mem"}, Value: pubsub.NewInMemory(quiet)})
	opts.Brokers, opts.Log, opts.Compile = w.brokers, quiet, compile
	w.Service = pubsub.NewService(opts)
	return w
}

func (w *world) close(t testing.TB) {
	t.Helper()
	if err := w.Close(context.Background()); err != nil {
		t.Errorf("close: %v", err)
	}
	for _, b := range w.brokers.All("") {
		_ = b.Value.(*pubsub.JournalBroker).Close()
	}
}

func (w *world) start(t testing.TB, app string, ch pubsub.Channel, specs ...pubsub.Spec) {
	t.Helper()
	if err := w.StartApp(t.Context(), app, ch, specs); err != nil {
		t.Fatalf("start: %v", err)
	}
	if err := w.WaitReady(t.Context(), app); err != nil {
		t.Fatalf("wait: %v", err)
	}
}

func (w *world) publish(t testing.TB, topic string, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := w.Publish(t.Context(), "pub", pubsub.Publication{PubSub: "ps", Topic: topic, Data: []byte(d), ContentType: "text/plain"}); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
}

func spec(topic, path string) pubsub.Spec {
	return pubsub.Spec{Name: "sub-" + topic, PubSub: "ps", Topic: topic, Rules: []pubsub.Rule{{Path: path}}}
}

func inBubble(t *testing.T, opts pubsub.ServiceOptions, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(opts)
		defer w.close(t)
		f(t, w)
	})
}

func TestService_Publish(t *testing.T) {
	ok := pubsub.Publication{PubSub: "ps", Topic: "a", Data: []byte("{}"), ContentType: "application/json"}
	with := func(f func(p *pubsub.Publication)) pubsub.Publication { p := ok; f(&p); return p }
	for _, c := range []struct {
		name   string
		p      pubsub.Publication
		code   string
		reason string
		http   int
		grpc   fault.Code
	}{
		{"OK", ok, "", "", 0, 0},
		{"ErrNoName", with(func(p *pubsub.Publication) { p.PubSub = "" }), "ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY", 404, fault.InvalidArgument},
		{"ErrNotFound", with(func(p *pubsub.Publication) { p.PubSub = "x" }), "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND", 404, fault.InvalidArgument},
		{"ErrNoTopic", with(func(p *pubsub.Publication) { p.Topic = "" }), "ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY", 404, fault.InvalidArgument},
		{"ErrMetadata", with(func(p *pubsub.Publication) { p.Metadata = map[string]string{"rawPayload": "maybe"} }), "ERR_PUBSUB_REQUEST_METADATA", "DAPR_PUBSUB_METADATA_DESERIALIZATION", 400, fault.InvalidArgument},
		{"ErrCloudEvent", with(func(p *pubsub.Publication) { p.Data, p.ContentType = []byte(`{"}`), "application/cloudevents+json" }), "ERR_PUBSUB_CLOUD_EVENTS_SER", "DAPR_PUBSUB_CLOUD_EVENT_CREATION", 500, fault.InvalidArgument},
		{"ErrForbidden", with(func(p *pubsub.Publication) { p.PubSub = "scoped" }), "ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN", 403, fault.PermissionDenied},
		{"ErrFull", with(func(p *pubsub.Publication) { p.PubSub, p.Topic = "full", "f" }), "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE", 507, fault.ResourceExhausted},
		{"ErrOtherApps", with(func(p *pubsub.Publication) { p.PubSub = "theirs" }), "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND", 404, fault.InvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(pubsub.ServiceOptions{})
			defer w.close(t)
			full := newBroker(pubsub.MemoryOptions{Contracts: []pubsub.Contract{{Match: "#", MaxBytes: 1, WhenFull: pubsub.Reject}}})
			for _, i := range []component.Instance[pubsub.Broker]{
				{Spec: component.Spec{Name: "scoped", Properties: map[string]string{"allowedTopics": "b"}}, Value: newBroker(pubsub.MemoryOptions{})},
				{Spec: component.Spec{Name: "full"}, Value: full},
				{Spec: component.Spec{Name: "theirs", Scopes: []string{"other"}}, Value: newBroker(pubsub.MemoryOptions{})},
			} {
				w.brokers.Put(i)
			}
			err := w.Publish(t.Context(), "me", c.p)
			_, bulkErr := w.BulkPublish(t.Context(), "me", c.p, []pubsub.BulkEntry{{ID: "1", Data: c.p.Data, ContentType: c.p.ContentType}})
			if c.code == "" {
				if err != nil || bulkErr != nil {
					t.Fatal(err, bulkErr)
				}
				return
			}
			for _, err := range []error{err, bulkErr} {
				var e *fault.Error
				if !errors.As(err, &e) {
					t.Fatalf("got %v", err)
				}
				if e.ErrorCode != c.code || e.Reason != c.reason || e.HTTP != c.http || e.GRPC != c.grpc {
					t.Errorf("got %s %s %d %d: %v", e.ErrorCode, e.Reason, e.HTTP, e.GRPC, e)
				}
			}
		})
	}
	t.Run("RawAndTTL", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			err := w.Publish(t.Context(), "me", pubsub.Publication{PubSub: "ps", Topic: "a", Data: []byte("x"), ContentType: "foo/bar", TraceParent: "tp",
				Metadata: map[string]string{"rawPayload": "true", "ttlInSeconds": "60"}})
			if err != nil {
				t.Fatal(err)
			}
			e := w.read(t, "a")[0]
			if string(e.Data) != "x" || e.ContentType != "foo/bar" || e.Metadata["traceid"] != "tp" || !e.Expires.Equal(time.Now().Add(time.Minute)) {
				t.Errorf("got %+v", e)
			}
			time.Sleep(time.Minute)
			if left := w.read(t, "a"); len(left) != 0 {
				t.Errorf("expired: %+v", left)
			}
		})
	})
}

// read returns what the lane of topic keeps.
func (w *world) read(t *testing.T, topic string) []pubsub.Event {
	t.Helper()
	events, _, err := w.ps.Journal().Lanes(topic)[0].Read(t.Context(), 0, topic, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestService_BulkPublish(t *testing.T) {
	w := newWorld(pubsub.ServiceOptions{})
	defer w.close(t)
	p := pubsub.Publication{PubSub: "ps", Topic: "a", Metadata: map[string]string{"ttlInSeconds": "60", "k": "request"}}
	t.Run("OK", func(t *testing.T) {
		failed, err := w.BulkPublish(t.Context(), "me", p, []pubsub.BulkEntry{
			{ID: "1", Data: []byte(`{"n":1}`), ContentType: "application/json", Metadata: map[string]string{"k": "entry", "cloudevent.type": "t"}},
			{ID: "2", Data: []byte{0xff}, ContentType: "application/octet-stream"}})
		if err != nil || failed != nil {
			t.Fatal(failed, err)
		}
		got := w.read(t, "a")
		if len(got) != 2 || got[0].Metadata["k"] != "entry" || got[0].Expires.IsZero() || got[1].Metadata["k"] != "request" || got[1].Expires.IsZero() {
			t.Errorf("got %+v", got)
		}
		if m := decode(t, got[0].Data); m["type"] != "t" || m["source"] != "me" || m["expiration"] == nil {
			t.Errorf("got %v", m)
		}
	})
	t.Run("ErrEntries", func(t *testing.T) {
		for _, ids := range [][]string{{""}, {"1", "1"}} {
			var entries []pubsub.BulkEntry
			for _, id := range ids {
				entries = append(entries, pubsub.BulkEntry{ID: id})
			}
			if _, err := w.BulkPublish(t.Context(), "me", p, entries); fault.From(err).Reason != "DAPR_PUBSUB_MARSHAL_EVENTS" {
				t.Errorf("ids %q: %v", ids, err)
			}
		}
	})
	t.Run("FailedEntries", func(t *testing.T) {
		_ = w.ps.Close()
		failed, err := w.BulkPublish(t.Context(), "me", p, []pubsub.BulkEntry{{ID: "1"}, {ID: "2"}})
		if fault.From(err).ErrorCode != "ERR_PUBSUB_PUBLISH_MESSAGE" || len(failed) != 2 || failed[1].ID != "2" || !errors.Is(failed[0].Err, pubsub.ErrClosed) {
			t.Errorf("got %v, %v", failed, err)
		}
	})
	t.Run("NoEntriesOnlyChecks", func(t *testing.T) {
		if _, err := w.BulkPublish(t.Context(), "me", pubsub.Publication{PubSub: "x", Topic: "a"}, nil); fault.From(err).ErrorCode != "ERR_PUBSUB_NOT_FOUND" {
			t.Errorf("got %v", err)
		}
	})
}

func TestService_Scopes(t *testing.T) {
	props := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	for i, c := range []struct {
		props map[string]string
		app   string
		allow string // topics of a, b, c that app may publish to
	}{
		{nil, "app1", "abc"},
		{props("publishingScopes", ""), "app1", "abc"},
		{props("allowedTopics", "a, b"), "app1", "ab"},
		{props("AllowedTopics", "a"), "app1", "a"},
		{props("publishingScopes", "app1=a;app2=b,c"), "app1", "a"},
		{props("publishingScopes", "app1 = a ; app2 = b, c"), "app2", "bc"},
		{props("publishingScopes", "app1=a;app2=b,c"), "app3", "abc"},
		{props("publishingScopes", "app1=;app2=b"), "app1", ""},
		{props("publishingScopes", "app1;app2=b"), "app1", "abc"},
		{props("publishingScopes", "app1=a;app1=b"), "app1", "ab"},
		{props("protectedTopics", "a,b"), "app1", "c"},
		{props("protectedTopics", "a,b", "publishingScopes", "app1=a"), "app1", "a"},
		{props("protectedTopics", "a,b", "publishingScopes", "app1=a"), "app2", "c"},
		{props("allowedTopics", "a,b", "publishingScopes", "app1=b,c"), "app1", "b"},
		{props("subscriptionScopes", "app1=a"), "app1", "abc"},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
				w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "s", Properties: c.props}, Value: newBroker(pubsub.MemoryOptions{})})
				// What may be published may be subscribed to under the mirrored scopes, by the application and by streams.
				mirrored := maps.Clone(c.props)
				if v, ok := mirrored["publishingScopes"]; ok {
					delete(mirrored, "publishingScopes")
					mirrored["subscriptionScopes"] = v
				} else if mirrored != nil {
					delete(mirrored, "subscriptionScopes")
				}
				w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "m", Properties: mirrored}, Value: newBroker(pubsub.MemoryOptions{})})
				app := &fakeApp{}
				var specs []pubsub.Spec
				for _, topic := range []string{"a", "b", "c"} {
					specs = append(specs, pubsub.Spec{PubSub: "m", Topic: topic, Rules: []pubsub.Rule{{Path: topic}}})
				}
				w.start(t, c.app, app, specs...)
				if n := len(w.Subscriptions(c.app)); n != 3 {
					t.Errorf("%d subscriptions are listed", n)
				}
				published, streamed := "", ""
				for _, topic := range []string{"a", "b", "c"} {
					if err := w.Publish(t.Context(), c.app, pubsub.Publication{PubSub: "s", Topic: topic}); err == nil {
						published += topic
					} else if want := "topic " + topic + " is not allowed for app id " + c.app; err.Error() != want {
						t.Errorf("got %q, want %q", err, want)
					}
					if err := w.brokerOf(t, "m").Publish(t.Context(), []pubsub.Event{{Topic: topic, Data: []byte("{}")}}); err != nil {
						t.Fatal(err)
					}
					if st, err := w.OpenStream(t.Context(), pubsub.StreamRequest{App: c.app, PubSub: "m", Topic: topic}); err == nil {
						streamed += topic
						st.Close()
					}
				}
				synctest.Wait()
				got := app.paths()
				slices.Sort(got)
				if published != c.allow || streamed != c.allow || strings.ReplaceAll(strings.Join(got, ""), " ", "") != c.allow {
					t.Errorf("published %q, streamed %q, delivered %v, want %q", published, streamed, got, c.allow)
				}
			})
		})
	}
}

func (w *world) brokerOf(t *testing.T, name string) pubsub.Broker {
	t.Helper()
	i, ok := w.brokers.Get("", name)
	if !ok {
		t.Fatalf("no broker %s", name)
	}
	return i.Value
}

func TestService_Deliver(t *testing.T) {
	t.Run("Envelope", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.start(t, "app", app, spec("a", "/a"))
			err := w.Publish(t.Context(), "pub", pubsub.Publication{PubSub: "ps", Topic: "a", Data: []byte(`{"x":1}`), ContentType: "application/json",
				TraceParent: "tp", TraceState: "ts", Metadata: map[string]string{"foo": "bar"}})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			d := app.got[0]
			m := decode(t, d.Envelope)
			if d.Path != "/a" || d.Topic != "a" || d.PubSub != "ps" || d.ContentType != pubsub.CloudEventsType || d.TraceParent != "tp" || d.TraceState != "ts" ||
				d.ID != m["id"] || d.Metadata["foo"] != "bar" || m["source"] != "pub" || m["topic"] != "a" || m["pubsubname"] != "ps" {
				t.Errorf("got %+v, %v", d, m)
			}
		})
	})
	t.Run("RawSubscription", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			raw := spec("a", "/a")
			raw.Metadata = map[string]string{"rawPayload": "true"}
			w.start(t, "app", app, raw)
			err := w.Publish(t.Context(), "pub", pubsub.Publication{PubSub: "ps", Topic: "a", Data: []byte("bytes"), TraceParent: "tp", Metadata: map[string]string{"rawPayload": "true"}})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			m := decode(t, app.got[0].Envelope)
			if m["data_base64"] != "Ynl0ZXM=" || m["datacontenttype"] != "application/octet-stream" || m["id"] != app.got[0].ID || m["traceid"] != "tp" || app.got[0].TraceParent != "tp" {
				t.Errorf("got %v", m)
			}
		})
	})
	t.Run("BinaryMode", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.start(t, "app", app, spec("a", "/a"))
			err := w.ps.Publish(t.Context(), []pubsub.Event{{Topic: "a", Data: []byte{1, 2}, ContentType: "application/octet-stream", Metadata: map[string]string{"CE_id": "7", "ce_source": "s"}}})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if m := decode(t, app.got[0].Envelope); m["id"] != "7" || m["source"] != "s" || m["data_base64"] != "AQI=" {
				t.Errorf("got %v", m)
			}
		})
	})
	t.Run("MalformedIsDroppedAndCounted", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.start(t, "app", app, spec("a", "/a"))
			if err := w.ps.Publish(t.Context(), []pubsub.Event{{Topic: "a", Data: []byte("no JSON")}}); err != nil {
				t.Fatal(err)
			}
			w.publish(t, "a", "next")
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/a next"})
			if s := w.ps.Consumers()[0]; s.Dropped != 1 || s.Head != 2 {
				t.Errorf("figures: %+v", s)
			}
		})
	})
	t.Run("ExpirationAttribute", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{}
			w.start(t, "app", app, spec("a", "/a"))
			for _, e := range []string{`{"id":"1","expiration":"1999-01-01T00:00:00Z"}`, `{"id":"2","expiration":"2999-01-01T00:00:00Z"}`, `{"id":"3","expiration":"soon"}`} {
				if err := w.ps.Publish(t.Context(), []pubsub.Event{{Topic: "a", Data: []byte(e)}}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if len(app.got) != 2 || app.got[0].ID != "2" || app.got[1].ID != "3" {
				t.Errorf("got %+v", app.got)
			}
		})
	})
	t.Run("UnreachableApplicationGetsAllInOrder", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{away: true}
			s := spec("a", "/a")
			s.DeadLetterTopic = "dead" // is not for an application that is away
			w.start(t, "app", app, s)
			w.publish(t, "a", numbers(1, 5)...)
			time.Sleep(time.Hour)
			app.set(func() { app.away = false })
			time.Sleep(time.Minute)
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/a 1", "/a 2", "/a 3", "/a 4", "/a 5"})
		})
	})
	t.Run("RetryIsDeliveredAgain", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
			app := &fakeApp{answer: func(_ pubsub.Delivery, nth int) pubsub.Verdict {
				if nth < 3 {
					return pubsub.Nak
				}
				return pubsub.Ack
			}}
			w.start(t, "app", app, spec("a", "/a"))
			w.publish(t, "a", "x")
			time.Sleep(time.Minute)
			synctest.Wait()
			wantEqual(t, "got", app.paths(), []string{"/a x", "/a x", "/a x"})
		})
	})
	t.Run("InMemoryDoesNotRetry", func(t *testing.T) {
		inBubble(t, pubsub.ServiceOptions{Inbound: func(_, c string) pubsub.Policy { return pubsub.Retry{Wait: 10 * time.Millisecond, Max: 4} }}, func(t *testing.T, w *world) {
			app := &fakeApp{answer: func(pubsub.Delivery, int) pubsub.Verdict { return pubsub.Nak }}
			s := spec("a", "/a")
			s.PubSub = "mem"
			w.start(t, "app", app, s)
			if err := w.Publish(t.Context(), "pub", pubsub.Publication{PubSub: "mem", Topic: "a"}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			if len(app.got) != 5 {
				t.Errorf("%d deliveries, want 1 and 4 retries", len(app.got))
			}
		})
	})
}

func TestService_Routes(t *testing.T) {
	typed := func(topic, typ string) pubsub.Publication {
		return pubsub.Publication{PubSub: "ps", Topic: topic, Data: []byte(typ), Metadata: map[string]string{"cloudevent.type": typ}}
	}
	inBubble(t, pubsub.ServiceOptions{}, func(t *testing.T, w *world) {
		app := &fakeApp{specs: []pubsub.Spec{
			{PubSub: "ps", Topic: "two", Rules: []pubsub.Rule{{Match: ` event.type == "x" `, Path: "/x"}, {Match: `event.type == "y"`, Path: "/y"}}},
			{PubSub: "ps", Topic: "none"},
		}}
		s := pubsub.Spec{PubSub: "ps", Topic: "one", Rules: []pubsub.Rule{{Match: `event.type == "x"`, Path: "/x"}, {Match: "", Path: "/empty"}, {Match: `event.type == "y"`, Path: "/never"}}}
		bad := pubsub.Spec{Name: "bad", PubSub: "ps", Topic: "bad", Rules: []pubsub.Rule{{Match: "???", Path: "/"}}}
		if err := w.StartApp(t.Context(), "app", app, []pubsub.Spec{s, bad}); err == nil || !strings.Contains(err.Error(), "subscription bad") {
			t.Errorf("a rule that does not compile: %v", err)
		}
		if err := w.WaitReady(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
		for _, topic := range []string{"one", "two", "none"} {
			for _, typ := range []string{"x", "y", "z"} {
				if err := w.Publish(t.Context(), "pub", typed(topic, typ)); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		got := app.paths()
		slices.Sort(got)
		wantEqual(t, "got", got, []string{"/empty y", "/empty z", "/x x", "/x x", "/y y"})
		if list := w.Subscriptions("app"); len(list) != 3 || list[2].Kind != pubsub.Programmatic || list[0].Kind != pubsub.Declarative {
			t.Errorf("listed: %+v", list)
		}
	})
}

func TestService_Observer(t *testing.T) {
	o := &observer{}
	inBubble(t, pubsub.ServiceOptions{Observer: o}, func(t *testing.T, w *world) {
		app := &fakeApp{answer: func(pubsub.Delivery, int) pubsub.Verdict { return pubsub.Drop }}
		b := spec("b", "/b")
		b.Bulk.Enabled = true
		w.start(t, "app", app, spec("a", "/a"), b)
		w.publish(t, "a", "x")
		w.publish(t, "b", "x")
		time.Sleep(time.Minute)
		synctest.Wait()
		slices.Sort(o.seen)
		wantEqual(t, "seen", o.seen, []string{"bulk app ps b map[drop:1]", "delivered app ps a drop", "published pub ps a 1 false <nil>", "published pub ps b 1 false <nil>"})
	})
}

type observer struct {
	mu   sync.Mutex
	seen []string
}

func (o *observer) add(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen = append(o.seen, fmt.Sprintf(format, args...))
}

func (o *observer) Published(app, component, topic string, events int, bulk bool, err error, _ time.Duration) {
	o.add("published %s %s %s %d %v %v", app, component, topic, events, bulk, err)
}

func (o *observer) Delivered(app, component, topic, status string, _ time.Duration) {
	o.add("delivered %s %s %s %s", app, component, topic, status)
}

func (o *observer) DeliveredBulk(app, component, topic string, status map[string]int, _ time.Duration) {
	o.add("bulk %s %s %s %v", app, component, topic, status)
}

func BenchmarkService(b *testing.B) {
	w := newWorld(pubsub.ServiceOptions{})
	defer w.close(b)
	w.ps = newBroker(pubsub.MemoryOptions{Contracts: []pubsub.Contract{{Match: "#"}}}) // without bounds: all must arrive
	w.brokers.Put(component.Instance[pubsub.Broker]{Spec: component.Spec{Name: "ps"}, Value: w.ps})
	done, n := make(chan struct{}), 0
	app := &countApp{each: func() {
		if n++; n == b.N {
			close(done)
		}
	}}
	w.start(b, "app", app, spec("a", "/a"))
	p := pubsub.Publication{PubSub: "ps", Topic: "a", Data: []byte(`{"v":"` + strings.Repeat("x", 240) + `"}`), ContentType: "application/json",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := w.Publish(b.Context(), "pub", p); err != nil {
			b.Fatal(err)
		}
	}
	<-done
}

type countApp struct {
	fakeApp
	each func()
}

func (a *countApp) Deliver(context.Context, pubsub.Delivery) (pubsub.Verdict, error) {
	a.each()
	return pubsub.Ack, nil
}
