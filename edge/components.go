package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/edge/secret"
	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/mqtt"
	"github.com/edged-io/edged/store"
)

// defaultInitTimeout bounds the making of a component that says nothing itself (Dapr's default).
const defaultInitTimeout = 5 * time.Second

// components holds what runs of each kind, and knows how to make it.
type components struct {
	log     *slog.Logger
	store   *store.Store
	device  string
	group   string // consumer group in brokers outside
	sockets socketFolder
	topics  []pubsub.Contract
	dropIn  *dropIn
	states  component.Set[state.Store]
	brokers component.Set[pubsub.Broker]
	secrets component.Set[secret.Store]

	made []made // in order of creation
}

type made struct {
	spec component.Spec
	io.Closer
}

// The tables of component types: every type that edged has, and nothing else, stands here.

func (c *components) stateTypes() component.Registry[state.Store] {
	embedded := func(_ context.Context, s component.Spec) (state.Store, error) { return c.store.State(s.Name), nil }
	types := component.Registry[state.Store]{
		"state.bbolt": embedded,
		"state.in-memory": func(context.Context, component.Spec) (state.Store, error) {
			return state.NewMemory(state.MemoryOptions{}), nil
		},
	}
	if c.dropIn != nil {
		// What is configured for daprd with a local SQLite file gets the embedded store, which promises the same and more.
		types["state.sqlite"] = func(ctx context.Context, s component.Spec) (state.Store, error) {
			s.Log.Warn("state.sqlite is kept in the embedded store; connectionString is not used", "component", s.Name)
			return embedded(ctx, s)
		}
	}
	return types
}

func (c *components) brokerTypes() component.Registry[pubsub.Broker] {
	return component.Registry[pubsub.Broker]{
		"pubsub.durable": func(_ context.Context, s component.Spec) (pubsub.Broker, error) {
			journal, err := c.store.Journal(s.Name, c.topics)
			if err != nil {
				return nil, err
			}
			return pubsub.NewBroker(journal, pubsub.BrokerOptions{Log: s.Log}), nil
		},
		"pubsub.in-memory": func(_ context.Context, s component.Spec) (pubsub.Broker, error) {
			return pubsub.NewInMemory(s.Log), nil
		},
		"pubsub.mqtt3": c.newMQTT,
	}
}

func (c *components) secretTypes() component.Registry[secret.Store] {
	return component.Registry[secret.Store]{
		"secretstores.local.file": secret.NewLocalFile,
		"secretstores.local.env":  secret.NewLocalEnv,
		"secretstores.systemd":    secret.NewSystemd,
	}
}

// load makes the components of the resources in order, secret stores first. It stops at the first that cannot be made,
// unless that one says ignoreErrors.
func (c *components) load(ctx context.Context, list []resource.Component, resolver resource.Resolver) error {
	resolver.Secret = c.secret
	for _, r := range list {
		err := c.add(ctx, r, resolver)
		if err == nil {
			continue
		}
		err = fmt.Errorf("[INIT_COMPONENT_FAILURE]: initialization error occurred for %s: %w", r, err)
		if r.Spec.IgnoreErrors {
			c.log.Error("component left out (ignoreErrors)", "component", r.Meta.Name, "error", err)
			continue
		}
		return resource.Faults{r.Source.Fault("spec", r.String(), err.Error(), "")}
	}
	return nil
}

// addDefaults makes the components that edged has without any resource: state, pub/sub, and systemd's credentials.
func (c *components) addDefaults(ctx context.Context, getenv func(string) string) error {
	defaults := []component.Spec{{Name: defaultStore, Type: "state.bbolt"}, {Name: defaultPubSub, Type: "pubsub.durable"}}
	if getenv("CREDENTIALS_DIRECTORY") != "" {
		defaults = append(defaults, component.Spec{Name: "systemd", Type: "secretstores.systemd"})
	}
	for _, spec := range defaults {
		taken := slices.ContainsFunc(c.made, func(m made) bool { return m.spec.Name == spec.Name })
		if taken {
			continue
		}
		spec.Version, spec.Log = "v1", c.log.With("component", spec.Name)
		if err := c.create(ctx, spec); err != nil {
			return fmt.Errorf("make default component %s: %w", spec.Name, err)
		}
	}
	return nil
}

func (c *components) add(ctx context.Context, r resource.Component, resolver resource.Resolver) error {
	timeout := defaultInitTimeout
	if d, err := time.ParseDuration(r.Spec.InitTimeout); err == nil && d > 0 {
		timeout = d
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	properties, warnings, err := resolver.Properties(ctx, r)
	for _, w := range warnings {
		c.log.Warn("component property not resolved", "component", r.Meta.Name, "error", w)
	}
	if err != nil {
		return err
	}
	if err := c.create(ctx, component.Spec{
		Name: r.Meta.Name, Type: r.Spec.Type, Version: firstOf(r.Spec.Version, "v1"), Properties: properties,
		Scopes: r.Scopes, File: r.Source.File, Log: c.log.With("component", r.Meta.Name),
	}); err != nil {
		return err
	}
	c.log.Info("Component loaded: " + r.String())
	return nil
}

func (c *components) create(ctx context.Context, spec component.Spec) error {
	if spec.Version != "v1" {
		return fmt.Errorf("%s has no version %s here, only v1", spec.Type, spec.Version)
	}
	category, _, _ := strings.Cut(spec.Type, ".")
	switch category {
	case "state":
		if err := state.CheckSpec(spec); err != nil {
			return err
		}
		return put(ctx, c, plug(c.sockets, c.stateTypes(), spec.Type, attachState), &c.states, spec)
	case "pubsub":
		return put(ctx, c, plug(c.sockets, c.brokerTypes(), spec.Type, c.attachPubSub), &c.brokers, spec)
	case "secretstores":
		return put(ctx, c, plug(c.sockets, c.secretTypes(), spec.Type, attachSecrets), &c.secrets, spec)
	}
	return fmt.Errorf("process component %s error: incorrect type %s: there are no such components in this version", spec.Name, spec.Type)
}

func put[T any](ctx context.Context, c *components, types component.Registry[T], set *component.Set[T], spec component.Spec) error {
	factory, ok := types[spec.Type]
	if !ok {
		return fmt.Errorf("couldn't find component type %s; edged has %s", spec.Type, strings.Join(slices.Sorted(maps.Keys(types)), ", "))
	}
	value, err := factory(ctx, spec)
	if err != nil {
		return err
	}
	set.Put(component.Instance[T]{Spec: spec, Value: value})
	closer, _ := any(value).(io.Closer) // not every component holds something to close
	c.made = append(c.made, made{spec, closer})
	return nil
}

// secret reads a secret for a component's property.
func (c *components) secret(ctx context.Context, store, name string, metadata map[string]string) (map[string]string, error) {
	s, ok := c.secrets.Get("", store)
	if !ok {
		return nil, resource.ErrNoSecretStore
	}
	return s.Value.Get(ctx, name, metadata)
}

// namedSecret reads a secret of a store, or of the first store that has it if no store is named.
func (c *components) namedSecret(ctx context.Context, store, name string) (map[string]string, error) {
	if store == "" {
		return c.findSecret(ctx, name)
	}
	return c.secret(ctx, store, name, nil)
}

// close closes components in reverse order of creation.
func (c *components) close() error {
	var errs []error
	for _, m := range slices.Backward(c.made) {
		if m.Closer != nil {
			c.log.Info("Shutting down component " + m.spec.Name + " (" + m.spec.Type + "/" + m.spec.Version + ")")
			errs = append(errs, m.Close())
		}
	}
	c.made = nil
	return errors.Join(errs...)
}

func (c *components) newMQTT(ctx context.Context, s component.Spec) (pubsub.Broker, error) {
	return mqtt.NewBroker(ctx, s, mqtt.BrokerOptions{
		Device: c.device,
		OpenJournal: func(name string) (pubsub.Journal, error) {
			return c.store.Journal(name, c.topics)
		},
	})
}
