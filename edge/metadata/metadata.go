// Package metadata is the metadata building block: what runs here for an application, and attributes that the
// application or its tools attach. Answers are a consistent copy; nothing in them is shared with the caller.
package metadata

import (
	"maps"
	"sync"
)

// VersionAttribute is the extended attribute under which Dapr's clients also look for the runtime's version.
const VersionAttribute = "daprRuntimeVersion"

// Component is a component that the application may use.
type Component struct {
	Name, Type, Version string
	Capabilities        []string // in Dapr's words, such as ETAG
}

// Rule sends the events that Match to Path.
type Rule struct {
	Match, Path string
}

// Subscription is a subscription that is in force.
type Subscription struct {
	PubSub, Topic   string
	Metadata        map[string]string
	Rules           []Rule
	DeadLetterTopic string
	Kind            string // DECLARATIVE, PROGRAMMATIC or STREAMING
}

// Health says how the application is probed. Durations are as Go prints them, such as 5s.
type Health struct {
	Path, Interval, Timeout string // Path is empty for gRPC applications
	Threshold               int
}

// App says how the application is reached.
type App struct {
	Port           int
	Protocol       string // http, https, grpc, grpcs or h2c
	Address        string
	MaxConcurrency int
	Health         *Health // nil: not probed
}

// ActorType is a hosted actor type and how many of its actors are active.
type ActorType struct {
	Type  string
	Count int
}

// The states of the actor runtime.
const (
	ActorsInitializing = "INITIALIZING"
	ActorsDisabled     = "DISABLED"
	ActorsRunning      = "RUNNING"
)

// Actors is the state of the actor runtime.
type Actors struct {
	Status    string // one of the constants above
	HostReady bool
	Placement string // "placement: connected" or "placement: disconnected"
	Active    []ActorType
}

// DisabledActors is the state of an actor runtime that is switched off.
func DisabledActors() Actors {
	return Actors{Status: ActorsDisabled, Placement: "placement: disconnected"}
}

// Report is what the metadata API answers.
type Report struct {
	ID             string
	RuntimeVersion string
	Features       []string
	Components     []Component
	Extended       map[string]string // VersionAttribute included
	Subscriptions  []Subscription
	HTTPEndpoints  []string
	App            App
	Actors         Actors
	Scheduler      []string // addresses; empty: none
	Workers        int      // connected workflow workers
	MCPServers     []string
	WorkflowPolicy []string
	Resiliencies   []string
}

// Sources are where a Service asks for what changes while running. Each may be nil: then there is none of it. They are
// called concurrently and must return slices that nobody changes afterwards.
type Sources struct {
	Components    func() []Component
	Subscriptions func() []Subscription
	HTTPEndpoints func() []string
	Resiliencies  func() []string
	App           func() App
	Actors        func() Actors // nil: disabled
	Scheduler     func() []string
	Workers       func() int
}

// Service answers the metadata API of one application. It is safe for concurrent use.
type Service struct {
	id, version string
	features    []string
	sources     Sources

	mu       sync.RWMutex
	extended map[string]string
}

// New returns the metadata of the application id, served by a runtime of that version (`edge` or X.Y.Z, which is what
// Dapr's clients expect). features are the names of enabled preview features.
func New(id, version string, features []string, sources Sources) *Service {
	return &Service{id: id, version: version, features: features, sources: sources, extended: map[string]string{}}
}

// AppID is the application's id.
func (s *Service) AppID() string { return s.id }

// Set attaches an attribute, or replaces it. It lasts as long as the process. An empty key does nothing.
func (s *Service) Set(key, value string) {
	if key == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.extended[key] = value
}

// Get returns the current report.
func (s *Service) Get() Report {
	r := Report{ID: s.id, RuntimeVersion: s.version, Features: s.features, Extended: s.attributes()}
	r.Components = list(s.sources.Components)
	r.Subscriptions = list(s.sources.Subscriptions)
	r.HTTPEndpoints = list(s.sources.HTTPEndpoints)
	r.Resiliencies = list(s.sources.Resiliencies)
	r.Scheduler = list(s.sources.Scheduler)
	if s.sources.App != nil {
		r.App = s.sources.App()
	}
	if r.Actors = DisabledActors(); s.sources.Actors != nil {
		r.Actors = s.sources.Actors()
	}
	if s.sources.Workers != nil {
		r.Workers = s.sources.Workers()
	}
	return r
}

func (s *Service) attributes() map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make(map[string]string, len(s.extended)+1)
	maps.Copy(out, s.extended)
	out[VersionAttribute] = s.version
	return out
}

func list[T any](source func() []T) []T {
	if source == nil {
		return nil
	}
	return source()
}
