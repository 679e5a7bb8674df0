// Package secret is the secrets building block: applications read secrets that a store keeps, within the scopes that
// their Configuration sets. Secrets are read on each call and never cached or logged by the Service.
package secret

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
	"github.com/edged-io/edged/edge/resource"
)

// ErrNotFound reports that a store has no secret of that name.
var ErrNotFound = errors.New("secret not found")

// notFoundError is ErrNotFound with the words that Dapr's stores use, which the API passes on.
type notFoundError struct{ name string }

func (e notFoundError) Error() string        { return "secret " + e.name + " not found" }
func (e notFoundError) Is(target error) bool { return target == ErrNotFound }

// NotFound returns an ErrNotFound that names the secret.
func NotFound(name string) error { return notFoundError{name} }

// Store is a secret store component. It is safe for concurrent use; the maps it returns belong to the caller.
type Store interface {
	// Get returns the keys and values of a secret; a secret with one value has its own name as the key. A secret that does
	// not exist is ErrNotFound.
	Get(ctx context.Context, name string, metadata map[string]string) (map[string]string, error)
	// BulkGet returns every secret by name.
	BulkGet(ctx context.Context, metadata map[string]string) (map[string]map[string]string, error)
}

// Scopes returns what an application may read of the stores: spec.secrets.scopes of its Configuration. A store without a
// scope is open to it.
type Scopes func(app string) []resource.SecretScope

// Service is the secrets API over all secret stores, for every application. It is safe for concurrent use. Its errors are
// those of Dapr's secrets API.
type Service struct {
	stores *component.Set[Store]
	scopes Scopes
}

// NewService returns the secrets API over stores. Nil scopes restrict nothing.
func NewService(stores *component.Set[Store], scopes Scopes) *Service {
	if scopes == nil {
		scopes = func(string) []resource.SecretScope { return nil }
	}
	return &Service{stores: stores, scopes: scopes}
}

// Get returns the keys and values of one secret, if app may read it.
func (s *Service) Get(ctx context.Context, app, store, key string, metadata map[string]string) (map[string]string, error) {
	instance, err := s.store(app, store)
	if err != nil {
		return nil, err
	}
	if !Allowed(s.scopes(app), store, key) {
		return nil, fault.SecretDenied(store, key)
	}
	data, err := instance.Get(ctx, key, metadata)
	if err != nil {
		return nil, fault.SecretGet(store, key, err)
	}
	return data, nil
}

// BulkGet returns every secret of a store that app may read; those that it may not are left out.
func (s *Service) BulkGet(ctx context.Context, app, store string, metadata map[string]string) (map[string]map[string]string, error) {
	instance, err := s.store(app, store)
	if err != nil {
		return nil, err
	}
	data, err := instance.BulkGet(ctx, metadata)
	if err != nil {
		return nil, fault.SecretBulkGet(store, err)
	}
	scopes := s.scopes(app)
	maps.DeleteFunc(data, func(key string, _ map[string]string) bool { return !Allowed(scopes, store, key) })
	return data, nil
}

// store returns the named store, if app may use it.
func (s *Service) store(app, name string) (Store, error) {
	instance, ok := s.stores.Get(app, name)
	if ok {
		return instance.Value, nil
	}
	if !s.stores.Any(app) {
		return nil, fault.SecretStoreNotConfigured()
	}
	return nil, fault.SecretStoreNotFound(name)
}

// Allowed reports whether scopes let a secret of a store be read, by Dapr's rule: if a store's scope allows any secrets by
// name, only those; else all but the denied ones if the default is to allow, and none if it is to deny.
func Allowed(scopes []resource.SecretScope, store, key string) bool {
	i := slices.IndexFunc(scopes, func(s resource.SecretScope) bool { return s.StoreName == store })
	if i < 0 {
		return true
	}
	scope := scopes[i]
	if len(scope.AllowedSecrets) > 0 {
		return slices.Contains(scope.AllowedSecrets, key)
	}
	return !slices.Contains(scope.DeniedSecrets, key) && !strings.EqualFold(scope.DefaultAccess, "deny")
}

// Unmatched returns the stores that scopes name and app cannot use, most likely misspelt: such a scope protects nothing.
func (s *Service) Unmatched(app string) []string {
	var out []string
	for _, scope := range s.scopes(app) {
		if _, ok := s.stores.Get(app, scope.StoreName); !ok {
			out = append(out, scope.StoreName)
		}
	}
	return out
}
