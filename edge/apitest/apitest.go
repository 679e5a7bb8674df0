// Package apitest gives the tests of both API transports the same building blocks: real ones, in memory.
package apitest

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/metadata"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/edge/secret"
	"github.com/edged-io/edged/edge/state"
)

// App is the application that the tests are; daprd's recorded answers name it.
const App = "myapp"

// Services are the building blocks of one application.
type Services struct {
	State    *state.Service
	PubSub   *pubsub.Service
	Secrets  *secret.Service
	Metadata *metadata.Service
	Invoke   *invoke.Service

	Store  *state.Memory         // behind the state store mystore; nil in Bare
	Broker *pubsub.JournalBroker // behind the pub/sub component mypubsub; nil in Bare
}

var features = []string{"HotReload", "WorkflowsRemoteActivityReminder"}

func appProperties() metadata.App { return metadata.App{Protocol: "http", Address: "127.0.0.1"} }

// Bare is a runtime without any component.
func Bare() *Services {
	quiet := slog.New(slog.DiscardHandler)
	return &Services{
		State:    state.NewService(&component.Set[state.Store]{}, quiet),
		PubSub:   pubsub.NewService(pubsub.ServiceOptions{Brokers: &component.Set[pubsub.Broker]{}, Log: quiet}),
		Secrets:  secret.NewService(&component.Set[secret.Store]{}, nil),
		Metadata: metadata.New(App, "edge", features, metadata.Sources{App: appProperties}),
		Invoke:   invoke.NewService(func(string) (invoke.Channel, bool) { return nil, false }),
	}
}

// Full is a runtime with the state store mystore, the pub/sub components mypubsub, durable (which delivers again) and
// scoped (where the application may only publish to the topic ok) and the secret store mysecrets (with one secret
// denied), all in memory.
func Full(t testing.TB) *Services {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	s := Bare()
	s.Store = state.NewMemory(state.MemoryOptions{})
	s.Broker = pubsub.NewInMemory(quiet)
	scoped := pubsub.NewInMemory(quiet)
	journal := pubsub.NewMemoryJournal(pubsub.MemoryOptions{})
	durable := pubsub.NewBroker(journal, pubsub.BrokerOptions{Log: quiet})
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{s.Store, s.Broker, scoped, durable, journal} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	states := &component.Set[state.Store]{}
	put[state.Store](states, component.Spec{Name: "mystore", Type: "state.in-memory", Version: "v1"}, s.Store)
	s.State = state.NewService(states, quiet)

	brokers := &component.Set[pubsub.Broker]{}
	put[pubsub.Broker](brokers, component.Spec{Name: "mypubsub", Type: "pubsub.in-memory", Version: "v1"}, s.Broker)
	put[pubsub.Broker](brokers, component.Spec{
		Name: "scoped", Type: "pubsub.in-memory", Version: "v1", Properties: map[string]string{"publishingScopes": App + "=ok"},
	}, scoped)
	put[pubsub.Broker](brokers, component.Spec{Name: "durable", Type: "pubsub.durable", Version: "v1"}, durable)
	s.PubSub = pubsub.NewService(pubsub.ServiceOptions{Brokers: brokers, Log: quiet})

	s.Secrets = secret.NewService(secrets(t), func(string) []resource.SecretScope {
		return []resource.SecretScope{{StoreName: "mysecrets", DefaultAccess: "allow", DeniedSecrets: []string{"denied"}}}
	})
	s.Metadata = metadata.New(App, "edge", features, metadata.Sources{
		App: appProperties, Components: components, Subscriptions: subscriptions,
	})
	return s
}

func put[T any](set *component.Set[T], spec component.Spec, v T) {
	set.Put(component.Instance[T]{Spec: spec, Value: v})
}

func secrets(t testing.TB) *component.Set[secret.Store] {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secrets.json")
	if err := os.WriteFile(file, []byte(`{"key1":"v1","nested":{"a":"x","b":"y"},"denied":"no"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := component.Spec{Name: "mysecrets", Type: "secretstores.local.file", Version: "v1", Properties: map[string]string{"secretsFile": file}}
	store, err := secret.NewLocalFile(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	set := &component.Set[secret.Store]{}
	put(set, spec, store)
	return set
}

func components() []metadata.Component {
	return []metadata.Component{
		{Name: "mysecrets", Type: "secretstores.local.file", Version: "v1"},
		{Name: "mystore", Type: "state.in-memory", Version: "v1", Capabilities: []string{"ETAG", "TRANSACTIONAL", "TTL", "DELETE_WITH_PREFIX", "KEYS_LIKE", "ACTOR"}},
		{Name: "mypubsub", Type: "pubsub.in-memory", Version: "v1", Capabilities: []string{"SUBSCRIBE_WILDCARDS"}},
		{Name: "scoped", Type: "pubsub.in-memory", Version: "v1", Capabilities: []string{"SUBSCRIBE_WILDCARDS"}},
	}
}

func subscriptions() []metadata.Subscription {
	return []metadata.Subscription{{PubSub: "mypubsub", Topic: "B", Rules: []metadata.Rule{{Path: "/B"}}, Kind: "DECLARATIVE"}}
}
