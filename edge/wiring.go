package edge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/edged-io/edged/edge/admin"
	"github.com/edged-io/edged/edge/app"
	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/grpcapi"
	"github.com/edged-io/edged/edge/httpapi"
	"github.com/edged-io/edged/edge/metadata"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resource"
)

// RuntimeVersion is the version as Dapr's clients expect it: X.Y.Z for a release, `edge` for a build in between.
func RuntimeVersion(version string) string {
	if v := strings.TrimPrefix(version, "v"); !strings.Contains(v, "-") || strings.Contains(v, "-rc.") {
		return v
	}
	return "edge"
}

func (rt *Runtime) openApps(context.Context) error {
	for _, cfg := range rt.cfg.Apps {
		a, err := newApplication(rt, cfg)
		if err != nil {
			return err
		}
		rt.mu.Lock()
		rt.apps[cfg.ID] = a
		rt.mu.Unlock()
		for _, store := range rt.secrets.Unmatched(cfg.ID) {
			rt.log.Warn(fmt.Sprintf("Secrets configuration added for '%s', but no matching secret store was found", store))
		}
	}
	return nil
}

// Attach serves one more application until detach is called, which waits for calls under way. It is refused if the id is
// served already, and when edged stops. One that is just being detached is waited for.
func (rt *Runtime) Attach(ctx context.Context, at admin.Attachment) (admin.Attached, func(), error) {
	cfg := AppConfig{
		ID: at.ID, Listen: ListenConfig{HTTP: at.HTTP, GRPC: at.GRPC},
		Channel: ChannelConfig{Address: at.Address, Protocol: at.Protocol, MaxConcurrency: at.MaxConcurrent},
	}
	cfg.Channel.Health.Enabled = at.HealthCheck
	var faults resource.Faults
	report := func(field, value, problem, hint string) {
		faults = append(faults, resource.Fault{File: "attachment", Field: field, Value: value, Problem: problem, Hint: hint})
	}
	cfg.validate("", report)
	cfg.validateUnique("", map[string]string{}, AdminSocket(rt.cfg), rt.cfg.Run, report)
	if err := faults.Err(); err != nil {
		return admin.Attached{}, nil, err
	}
	rt.changes.Lock()
	defer rt.changes.Unlock()
	if rt.stopping {
		return admin.Attached{}, nil, errors.New("edged is stopping")
	}
	if err := rt.vacant(ctx, cfg.ID); err != nil {
		return admin.Attached{}, nil, err
	}
	a, err := newApplication(rt, cfg)
	if err != nil {
		return admin.Attached{}, nil, err
	}
	rt.mu.Lock()
	rt.apps[cfg.ID] = a
	rt.mu.Unlock()
	a.serve()
	rt.log.Info("application attached", "app", cfg.ID)
	return a.addresses, func() { rt.detach(a) }, nil
}

// vacant returns when no application has the id, or an error if one goes on having it.
func (rt *Runtime) vacant(ctx context.Context, id string) error {
	for {
		rt.mu.RLock()
		a := rt.apps[id]
		leaving := a != nil && a.gone != nil
		rt.mu.RUnlock()
		switch {
		case a == nil:
			return nil
		case !leaving:
			return fmt.Errorf("application %s is served already", id)
		}
		select {
		case <-a.gone:
		case <-ctx.Done():
			return fmt.Errorf("wait until application %s is detached: %w", id, ctx.Err())
		}
	}
}

// detach keeps the id taken until the application's sockets and subscriptions are gone.
func (rt *Runtime) detach(a *application) {
	rt.mu.Lock()
	a.gone = make(chan struct{})
	rt.mu.Unlock()
	err := a.stop()
	rt.mu.Lock()
	delete(rt.apps, a.cfg.ID)
	close(a.gone)
	rt.mu.Unlock()
	if err != nil {
		rt.log.Error("application not detached cleanly", "app", a.cfg.ID, "error", err)
		return
	}
	rt.log.Info("application detached", "app", a.cfg.ID)
}

func (rt *Runtime) channelConfig(a *application) app.Config {
	c := a.cfg.Channel
	cfg := app.Config{
		AppID: a.cfg.ID, Address: c.Address, Protocol: app.Protocol(cmp.Or(c.Protocol, defaultProtocol)),
		MaxConcurrency: c.MaxConcurrency, MaxBodySize: int(rt.cfg.Limits.MaxBodySize), OnHealth: a.healthChanged, Log: a.log,
		Health: app.Health{
			Enabled: c.Health.Enabled, Path: c.Health.Path, Interval: c.Health.Interval, Timeout: c.Health.Timeout, Threshold: c.Health.Threshold,
		},
		Token: rt.opts.Getenv("APP_API_TOKEN"),
	}
	return cfg
}

func (a *application) apiOptions() httpapi.Options {
	rt := a.rt
	o := httpapi.Options{
		AppID: a.cfg.ID, Namespace: "default", State: rt.state, PubSub: rt.pubsub, Secrets: rt.secrets, Metadata: a.metadata, Invoke: rt.invoke,
		MaxBodySize: int64(rt.cfg.Limits.MaxBodySize), APIToken: rt.opts.Getenv("DAPR_API_TOKEN"), Access: rt.settings.Spec.API,
		Ready: func() bool { return rt.ready.Load() && a.ready.Load() }, OutboundReady: rt.ready.Load,
		Log: a.log, OnError: rt.metrics.APIErrors(a.cfg.ID),
	}
	if m := rt.settings.Spec.EffectiveMetrics(); rt.cfg.dropIn != nil && (m.RecordErrorCodes == nil || !*m.RecordErrorCodes) {
		o.OnError = nil
	}
	if d := rt.cfg.dropIn; d != nil {
		o.Shutdown, o.ForceShutdown = rt.Shutdown, func() { rt.opts.Exit(1) }
		o.Namespace, o.AllowedOrigins, o.LogCalls = d.namespace, d.allowedOrigins, d.apiLogging
	}
	return o
}

func (a *application) grpcOptions(o httpapi.Options) grpcapi.Options {
	return grpcapi.Options{
		AppID: o.AppID, Namespace: o.Namespace, State: a.rt.state, PubSub: a.rt.pubsub, Secrets: a.rt.secrets, Metadata: a.metadata, Invoke: a.rt.invoke,
		MaxBodySize: o.MaxBodySize, APIToken: o.APIToken, Access: o.Access, Shutdown: o.Shutdown, ForceShutdown: o.ForceShutdown,
		Log: a.log, LogCalls: o.LogCalls, OnError: o.OnError,
	}
}

func (rt *Runtime) newMetadata(a *application) *metadata.Service {
	var features []string
	for _, f := range rt.settings.Spec.Features {
		if f.Enabled {
			features = append(features, f.Name)
		}
	}
	return metadata.New(a.cfg.ID, RuntimeVersion(rt.opts.Version), features, metadata.Sources{
		Components:    func() []metadata.Component { return rt.comps.list(a.cfg.ID) },
		Subscriptions: func() []metadata.Subscription { return listed(rt.pubsub.Subscriptions(a.cfg.ID)) },
		HTTPEndpoints: func() []string {
			return names(rt.set.HTTPEndpoints, func(e resource.HTTPEndpoint) string { return e.Meta.Name })
		},
		Resiliencies: func() []string {
			return names(rt.set.Resiliencies, func(r resource.Resiliency) string { return r.Meta.Name })
		},
		App: a.describe,
	})
}

func names[T any](list []T, name func(T) string) []string {
	var out []string
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

// describe says how the application is reached, in the words of the metadata API.
func (a *application) describe() metadata.App {
	c := a.cfg.Channel
	m := metadata.App{Protocol: cmp.Or(c.Protocol, defaultProtocol), Address: "127.0.0.1", MaxConcurrency: max(0, c.MaxConcurrency)}
	if d := a.rt.cfg.dropIn; d != nil {
		m.Address, m.Port = d.appAddress, d.appPort
	} else if host, port, err := net.SplitHostPort(c.Address); err == nil {
		m.Address = host
		if n, err := strconv.Atoi(port); err == nil {
			m.Port = n
		}
	} else if c.Address != "" {
		m.Address = c.Address
	}
	if c.Health.Enabled {
		m.Health = &metadata.Health{
			Interval: cmp.Or(c.Health.Interval, 5*time.Second).String(), Timeout: cmp.Or(c.Health.Timeout, 500*time.Millisecond).String(),
			Threshold: cmp.Or(c.Health.Threshold, 3),
		}
		if !strings.HasPrefix(m.Protocol, "grpc") {
			m.Health.Path = cmp.Or(c.Health.Path, "/healthz")
		}
	}
	return m
}

// list returns the components that an application may use, sorted by name.
func (c *components) list(app string) []metadata.Component {
	var out []metadata.Component
	add := func(s component.Spec, features []string) {
		out = append(out, metadata.Component{Name: s.Name, Type: s.Type, Version: s.Version, Capabilities: features})
	}
	for _, i := range c.states.All(app) {
		add(i.Spec, i.Value.Features())
	}
	for _, i := range c.brokers.All(app) {
		add(i.Spec, i.Value.Features())
	}
	for _, i := range c.secrets.All(app) {
		add(i.Spec, []string{})
	}
	slices.SortFunc(out, func(a, b metadata.Component) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func listed(specs []pubsub.Spec) []metadata.Subscription {
	var out []metadata.Subscription
	for _, s := range specs {
		m := metadata.Subscription{PubSub: s.PubSub, Topic: s.Topic, Metadata: s.Metadata, DeadLetterTopic: s.DeadLetterTopic, Kind: string(s.Kind)}
		for _, r := range s.Rules {
			m.Rules = append(m.Rules, metadata.Rule{Match: r.Match, Path: r.Path})
		}
		out = append(out, m)
	}
	return out
}

// declared returns the declarative subscriptions that concern an application.
func declared(list []resource.Subscription, app string) []pubsub.Spec {
	var out []pubsub.Spec
	for _, s := range list {
		if len(s.Scopes) > 0 && !slices.Contains(s.Scopes, app) {
			continue
		}
		spec := pubsub.Spec{
			Name: s.Meta.Name, PubSub: s.PubSub, Topic: s.Topic, Kind: pubsub.Declarative, DeadLetterTopic: s.DeadLetterTopic,
			Metadata: s.Metadata, Scopes: s.Scopes,
			Bulk: pubsub.BulkSubscribe{Enabled: s.Bulk.Enabled, MaxMessagesCount: int(s.Bulk.MaxMessagesCount), MaxAwaitDurationMs: int(s.Bulk.MaxAwaitDurationMs)},
		}
		for _, r := range s.Rules {
			spec.Rules = append(spec.Rules, pubsub.Rule{Match: r.Match, Path: r.Path})
		}
		out = append(out, spec)
	}
	return out
}

// secretScopes are the same for every application: edged has one Configuration.
func (rt *Runtime) secretScopes(string) []resource.SecretScope {
	if rt.settings.Spec.Secrets == nil {
		return nil
	}
	return rt.settings.Spec.Secrets.Scopes
}

// findSecret reads a secret by name from the first secret store that has it.
func (c *components) findSecret(ctx context.Context, name string) (map[string]string, error) {
	errs := []error{fmt.Errorf("no secret store has the secret %q", name)}
	for _, i := range c.secrets.All("") {
		keys, err := i.Value.Get(ctx, name, nil)
		if err == nil {
			return keys, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", i.Spec.Name, err))
	}
	return nil, errors.Join(errs...)
}

// blockShutdown waits, after a request to stop, until the application is unhealthy or the time is up (daprd's
// --dapr-block-shutdown-duration).
func (rt *Runtime) blockShutdown() {
	d := rt.cfg.dropIn
	if d == nil || d.blockShutdown <= 0 {
		return
	}
	rt.log.Info(fmt.Sprintf("Blocking graceful shutdown for %s or until app reports unhealthy...", d.blockShutdown))
	limit := time.NewTimer(d.blockShutdown)
	defer limit.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case <-limit.C:
			rt.log.Info("Block shutdown period expired, entering shutdown...")
			return
		case <-look.C:
			for _, a := range rt.applications() {
				if a.channel != nil && !a.channel.Healthy() {
					rt.log.Info("App reported unhealthy, entering shutdown...")
					return
				}
			}
		}
	}
}

// watchdog feeds the service manager's watchdog while the store can be read.
func (rt *Runtime) watchdog(ctx context.Context) {
	feedWatchdog(ctx, rt.log, func(ctx context.Context) error {
		_, err := rt.store.State(defaultStore).Get(ctx, "edged||self-check")
		return err
	})
}
