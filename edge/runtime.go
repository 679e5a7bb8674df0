// Package edge wires edged: configuration, components, building blocks and the sockets of the applications. Runtime is
// the whole daemon; tests start it exactly as the program does.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	stdsync "sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/edged-io/edged/edge/cel"
	"github.com/edged-io/edged/edge/invoke"
	"github.com/edged-io/edged/edge/pubsub"
	"github.com/edged-io/edged/edge/resiliency"
	"github.com/edged-io/edged/edge/resource"
	"github.com/edged-io/edged/edge/secret"
	"github.com/edged-io/edged/edge/state"
	"github.com/edged-io/edged/edge/telemetry"
	"github.com/edged-io/edged/mqtt"
	"github.com/edged-io/edged/store"
	"github.com/edged-io/edged/sync"
)

// Options are what a Runtime gets from its program rather than from configuration.
type Options struct {
	Log     *slog.Logger
	Version string
	Clock   func() time.Time         // default time.Now; may be wrong by decades and may step
	Getenv  func(name string) string // default os.Getenv
	Exit    func(code int)           // default os.Exit; for the API's forced shutdown
}

// Runtime is a running edged. Open acquires everything, Run serves until its context ends, Close waits.
type Runtime struct {
	cfg   Config
	opts  Options
	log   *slog.Logger
	began time.Time

	store    *store.Store
	comps    *components
	set      resource.Set
	settings resource.Configuration
	state    *state.Service
	pubsub   *pubsub.Service
	secrets  *secret.Service
	invoke   *invoke.Service
	bridges  []*mqtt.Bridge
	upstream *sync.Sync
	device   *deviceHealth
	admin    *adminServer
	metrics  *telemetry.Metrics

	// changes is held while applications are attached, start and are told to stop, one after the other. It comes before mu.
	changes  stdsync.Mutex
	stopping bool // guarded by changes: nothing attaches any more

	mu   stdsync.RWMutex
	apps map[string]*application

	ready atomic.Bool
	quit  chan struct{} // closed when the API asks for a shutdown
	once  stdsync.Once
	close stdsync.Once
}

// Open acquires the data folder, makes the components and listens on every socket, so that whatever cannot be had is
// known before anything is served. On an error everything is released again.
func Open(ctx context.Context, cfg Config, o Options) (rt *Runtime, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Exit == nil {
		o.Exit = os.Exit
	}
	// Applications are told socket paths, and they run in folders of their own.
	if cfg.Run, err = filepath.Abs(cfg.Run); err != nil {
		return nil, fmt.Errorf("find the folder of sockets: %w", err)
	}
	rt = &Runtime{cfg: cfg, opts: o, log: o.Log, began: time.Now(), metrics: telemetry.NewMetrics(), apps: map[string]*application{}, quit: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, rt.Close())
			rt = nil
		}
	}()
	for _, step := range []func(context.Context) error{
		rt.loadResources, rt.openStore, rt.openComponents, rt.openBlocks, rt.openBridges, rt.openUpstream, rt.openAdmin, rt.openApps,
	} {
		if err := step(ctx); err != nil {
			return rt, err
		}
	}
	return rt, nil
}

// Check reads the configuration's resources as Open would, without opening anything, and returns how many there are.
func Check(cfg Config) (resources int, err error) {
	set, _, err := readResources(cfg, slog.New(slog.DiscardHandler))
	return len(set.Components) + len(set.Subscriptions) + len(set.Configurations) + len(set.Resiliencies) + len(set.HTTPEndpoints), err
}

func (rt *Runtime) loadResources(context.Context) (err error) {
	rt.set, rt.settings, err = readResources(rt.cfg, rt.log)
	return err
}

// readResources reads the resources and the Configuration in force: the last one of the resources or, in drop-in mode,
// those that the command line names.
func readResources(cfg Config, log *slog.Logger) (resource.Set, resource.Configuration, error) {
	o := resource.Options{Log: log}
	if d := cfg.dropIn; d != nil {
		o.AppID, o.Namespace, o.Lenient = cfg.Apps[0].ID, d.onlyNamespace, true
	}
	set, faults := resource.Load(cfg.Resources, o)
	settings := resource.DefaultConfiguration()
	if d := cfg.dropIn; d != nil && len(d.configFiles) > 0 {
		var more resource.Faults
		settings, more = resource.LoadConfiguration(d.configFiles, o)
		faults = append(faults, more...)
	} else if n := len(set.Configurations); d == nil && n > 0 {
		settings = set.Configurations[n-1]
	}
	if cfg.dropIn != nil && onlyDuplicates(faults) {
		return set, settings, errors.New("failed to load components: " + faults.Problems())
	}
	return set, settings, faults.Err()
}

// onlyDuplicates reports whether components of one name are all that is wrong; tools know daprd's words for that.
func onlyDuplicates(faults resource.Faults) bool {
	return len(faults) > 0 && !slices.ContainsFunc(faults, func(f resource.Fault) bool {
		return !strings.HasPrefix(f.Problem, "duplicate definition of Component ")
	})
}

func (rt *Runtime) openStore(context.Context) (err error) {
	if d := rt.cfg.dropIn; d != nil {
		var temporary bool
		if rt.cfg.Data, temporary, err = d.dataFolder(rt.cfg.Data); err != nil {
			return fmt.Errorf("create data folder: %w", err)
		}
		if temporary {
			rt.log.Warn("no data folder can be written: data is kept in a temporary one and will not outlive it", "folder", rt.cfg.Data)
		}
	}
	rt.store, err = store.Open(rt.cfg.Data, store.Options{
		Log: rt.log, Clock: rt.opts.Clock,
		ReserveBytes: int64(rt.cfg.Limits.Reserve), CommitInterval: rt.cfg.Limits.CommitInterval,
	})
	return err
}

func (rt *Runtime) openComponents(ctx context.Context) error {
	rt.comps = &components{
		log: rt.log, store: rt.store, device: rt.cfg.Device, group: rt.cfg.Device, topics: rt.cfg.contracts(), dropIn: rt.cfg.dropIn,
		sockets: newSocketFolder(rt.opts.Getenv, rt.cfg.dropIn != nil),
	}
	resolver := resource.Resolver{Getenv: rt.opts.Getenv, PodName: rt.opts.Getenv("POD_NAME")}
	if d := rt.cfg.dropIn; d != nil {
		resolver.AppID, resolver.Namespace = rt.cfg.Apps[0].ID, d.namespace
		rt.comps.group = resolver.AppID
	}
	if err := rt.comps.load(ctx, resource.SecretStoresFirst(rt.set.Components), resolver); err != nil {
		return err
	}
	if rt.cfg.dropIn != nil {
		return nil
	}
	return rt.comps.addDefaults(ctx, rt.opts.Getenv)
}

func (rt *Runtime) openBlocks(context.Context) error {
	namespace := firstOf(rt.opts.Getenv("NAMESPACE"), "default")
	rt.state = state.NewService(&rt.comps.states, rt.log, state.Namespace(namespace), state.WithOutbox(outbox{rt}))
	rt.secrets = secret.NewService(&rt.comps.secrets, rt.secretScopes)
	rt.pubsub = pubsub.NewService(pubsub.ServiceOptions{
		Brokers: &rt.comps.brokers, Log: rt.log, Clock: rt.opts.Clock, Observer: rt.metrics,
		Compile:  func(expression string) (pubsub.Matcher, error) { return cel.Compile(expression) },
		Inbound:  rt.policy(resiliency.Inbound),
		Outbound: rt.policy(resiliency.Outbound),
	})
	rt.invoke = invoke.NewService(rt.findChannel)
	rt.device = &deviceHealth{
		cfg: rt.cfg.Health, folder: rt.cfg.Data, clock: rt.opts.Clock, log: rt.log,
		publish: func(ctx context.Context, p pubsub.Publication) error { return rt.pubsub.Publish(ctx, rt.cfg.Device, p) },
	}
	return nil
}

// policy finds the resiliency policies of one direction.
func (rt *Runtime) policy(d resiliency.Direction) func(app, component string) pubsub.Policy {
	policies := resiliency.New(rt.set.Resiliencies)
	for _, name := range policies.Unapplied() {
		rt.log.Warn("circuit breakers are not applied in this version", "target", name)
	}
	return func(app, component string) pubsub.Policy {
		if p := policies.Component(app, component, d); p != nil {
			return p
		}
		return nil
	}
}

func (rt *Runtime) openBridges(context.Context) error {
	for _, cfg := range rt.cfg.Bridges {
		broker, ok := rt.comps.brokers.Get("", cfg.PubSub)
		if !ok {
			return fmt.Errorf("bridge %s: there is no pub/sub component %q", cfg.Name, cfg.PubSub)
		}
		b, err := mqtt.OpenBridge(cfg, mqtt.BridgeOptions{
			Device: rt.cfg.Device, Broker: broker.Value, Log: rt.log.With("bridge", cfg.Name), Secret: rt.comps.findSecret,
		})
		if err != nil {
			return fmt.Errorf("bridge %s: %w", cfg.Name, err)
		}
		rt.bridges = append(rt.bridges, b)
	}
	return nil
}

func (rt *Runtime) openUpstream(context.Context) (err error) {
	if rt.cfg.Upstream == nil {
		return nil
	}
	rt.upstream, err = sync.New(*rt.cfg.Upstream, sync.Deps{
		Device: rt.cfg.Device, Log: rt.log.With("part", "upstream"), Clock: rt.opts.Clock,
		Meta: rt.store.State(defaultStore),
		Journals: func(name string) (pubsub.Journal, bool) {
			i, ok := rt.comps.brokers.Get("", name)
			b, holds := i.Value.(interface{ Journal() pubsub.Journal })
			if !ok || !holds {
				return nil, false
			}
			return b.Journal(), true
		},
		Stores: func(name string) (sync.Store, bool) {
			i, ok := rt.comps.states.Get("", name)
			s, feeds := i.Value.(sync.Store)
			return s, ok && feeds
		},
		Secret: rt.comps.namedSecret,
	})
	return err
}

// skips reports whether an initialization endpoint of the application is not to be called.
func (rt *Runtime) skips(endpoint string) bool {
	return rt.cfg.dropIn != nil && slices.Contains(rt.cfg.dropIn.disableInit, endpoint)
}

func (rt *Runtime) findChannel(app string) (invoke.Channel, bool) {
	rt.mu.RLock()
	defer rt.mu.RUnlock()
	a, ok := rt.apps[app]
	if !ok || a.gone != nil {
		return nil, false
	}
	if a.channel == nil {
		return nil, true
	}
	return a.channel, true
}

// ErrReload as the cause of the end of Run's context says that another Runtime takes over in this process: the service
// manager is told of a reload, not of a stop.
var ErrReload = errors.New("the configuration is read again")

// Run serves until ctx ends or, in the place of daprd, the application asks for a shutdown through the API. It returns when calls under way are
// answered, or their time is up.
func (rt *Runtime) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg stdsync.WaitGroup
	background := []func(context.Context){rt.device.run, rt.watchdog, trimMemory}
	for _, b := range rt.bridges {
		background = append(background, func(ctx context.Context) { rt.logEnd("bridge", b.Run(ctx)) })
	}
	if rt.upstream != nil {
		background = append(background, func(ctx context.Context) { rt.logEnd("upstream", rt.upstream.Run(ctx)) })
	}
	for _, f := range background {
		wg.Go(func() { f(ctx) })
	}
	rt.serve()
	rt.ready.Store(true)
	notify(rt.log, daemon.SdNotifyReady)
	rt.log.Info(fmt.Sprintf("dapr initialized. Status: Running. Init Elapsed %dms", time.Since(rt.began).Milliseconds()))
	select {
	case <-ctx.Done():
	case <-rt.quit:
	}
	if errors.Is(context.Cause(ctx), ErrReload) {
		notifyReload(rt.log)
	} else {
		notify(rt.log, daemon.SdNotifyStopping)
		rt.log.Info("Dapr is shutting down")
		rt.blockShutdown()
	}
	rt.ready.Store(false)
	err := rt.stopApps()
	cancel()
	wg.Wait()
	return err
}

func (rt *Runtime) logEnd(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		rt.log.Error(what+" ended", "error", err)
	}
}

// serve starts what listens. The admin socket comes first, so that a slow application can be looked at.
func (rt *Runtime) serve() {
	rt.changes.Lock()
	defer rt.changes.Unlock()
	if rt.stopping {
		return
	}
	if rt.admin != nil {
		rt.admin.serve()
	}
	for _, a := range rt.applications() {
		a.serve()
	}
}

// Shutdown asks Run to end gracefully and returns at once.
func (rt *Runtime) Shutdown() { rt.once.Do(func() { close(rt.quit) }) }

// stopApps stops every application. From then on none can attach.
func (rt *Runtime) stopApps() error {
	rt.changes.Lock()
	rt.stopping = true
	rt.changes.Unlock()
	var wg stdsync.WaitGroup
	apps := rt.applications()
	errs := make([]error, len(apps))
	for i, a := range apps {
		wg.Go(func() { errs[i] = a.stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (rt *Runtime) applications() []*application {
	rt.mu.RLock()
	defer rt.mu.RUnlock()
	apps := make([]*application, 0, len(rt.apps))
	for _, a := range rt.apps {
		apps = append(apps, a)
	}
	slices.SortFunc(apps, func(a, b *application) int { return strings.Compare(a.cfg.ID, b.cfg.ID) })
	return apps
}

// Close releases everything, in reverse order of acquisition, and waits. It may be called twice.
func (rt *Runtime) Close() (err error) {
	rt.close.Do(func() {
		errs := []error{rt.stopApps()}
		if rt.admin != nil {
			errs = append(errs, rt.admin.close())
		}
		if rt.upstream != nil {
			errs = append(errs, rt.upstream.Close())
		}
		for _, b := range slices.Backward(rt.bridges) {
			errs = append(errs, b.Close())
		}
		if rt.pubsub != nil {
			ctx, cancel := context.WithTimeout(context.Background(), rt.drain())
			errs = append(errs, rt.pubsub.Close(ctx))
			cancel()
		}
		if rt.comps != nil {
			errs = append(errs, rt.comps.close())
		}
		if rt.store != nil {
			errs = append(errs, rt.store.Close())
		}
		err = errors.Join(errs...)
	})
	return err
}
