// Package component turns component resources into running instances: a Registry knows the types, a Set holds the
// instances by name and says which application may use which.
package component

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Spec is a Component resource after secrets, templates and defaults are resolved: all that a factory needs.
type Spec struct {
	Name       string
	Type       string // such as state.bbolt
	Version    string // such as v1
	Properties map[string]string
	Scopes     []string // application ids that may use it; empty: all
	File       string   // where it was read, for messages; empty for built-in defaults
	Log        *slog.Logger
}

// AllowedFor reports whether the application may use the component. The empty id is the daemon itself, which may use all.
func (s Spec) AllowedFor(app string) bool {
	return app == "" || len(s.Scopes) == 0 || slices.Contains(s.Scopes, app)
}

// Factory makes an instance. It must not need a network, a broker or a right clock to succeed: what is away becomes ready
// later. If the instance has a Close() error method, the owner calls it.
type Factory[T any] func(ctx context.Context, spec Spec) (T, error)

// Registry maps component types to factories. It is filled before use and then only read.
type Registry[T any] map[string]Factory[T]

// ErrUnknownType reports a component type that this binary does not have. The message lists what is near.
var ErrUnknownType = errors.New("is not built in")

// New makes an instance of spec's type. An unknown type is ErrUnknownType; what the factory reports is wrapped with the
// component's name.
func (r Registry[T]) New(ctx context.Context, spec Spec) (T, error) {
	factory, ok := r[spec.Type]
	if !ok {
		var none T
		return none, fmt.Errorf("component %s: type %s %w: there are %s", spec.Name, spec.Type, ErrUnknownType, strings.Join(r.Types(), ", "))
	}
	v, err := factory(ctx, spec)
	if err != nil {
		var none T
		return none, fmt.Errorf("component %s: %w", spec.Name, err)
	}
	return v, nil
}

// Types returns the known types, sorted.
func (r Registry[T]) Types() []string { return slices.Sorted(maps.Keys(r)) }

// Instance is a component that runs.
type Instance[T any] struct {
	Spec  Spec
	Value T
}

// Set holds the instances of one kind of component by name. It is safe for concurrent use.
type Set[T any] struct {
	mu   sync.RWMutex
	byID map[string]Instance[T]
}

// Put adds or replaces an instance and returns the one it replaced, if any.
func (s *Set[T]) Put(i Instance[T]) (old Instance[T], replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = map[string]Instance[T]{}
	}
	old, replaced = s.byID[i.Spec.Name]
	s.byID[i.Spec.Name] = i
	return old, replaced
}

// Remove takes an instance out and returns it.
func (s *Set[T]) Remove(name string) (Instance[T], bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.byID[name]
	delete(s.byID, name)
	return i, ok
}

// Get returns the named instance if it exists and the application may use it.
func (s *Set[T]) Get(app, name string) (Instance[T], bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.byID[name]
	if !ok || !i.Spec.AllowedFor(app) {
		return Instance[T]{}, false
	}
	return i, true
}

// Any reports whether the application may use any instance at all; app "" means every instance counts.
func (s *Set[T]) Any(app string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, i := range s.byID {
		if app == "" || i.Spec.AllowedFor(app) {
			return true
		}
	}
	return false
}

// All returns the instances that the application may use, sorted by name; app "" means every instance.
func (s *Set[T]) All(app string) []Instance[T] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := make([]string, 0, len(s.byID))
	for name, i := range s.byID {
		if app == "" || i.Spec.AllowedFor(app) {
			names = append(names, name)
		}
	}
	slices.Sort(names) // names, not instances: a sort of its own for each T takes 10 KB of the binary
	out := make([]Instance[T], len(names))
	for i, name := range names {
		out[i] = s.byID[name]
	}
	return out
}
