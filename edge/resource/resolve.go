package resource

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
)

// ErrNoSecretStore reports that a secret store that a resource refers to does not run (yet).
var ErrNoSecretStore = errors.New("secret store is not loaded")

// Resolver turns the properties of resources into plain text.
type Resolver struct {
	AppID     string // replaces {appID}
	Namespace string // replaces {namespace}, followed by a dot and the application id
	PodName   string // replaces {podName}
	// Secret reads a secret of a store. It returns ErrNoSecretStore if the store does not run.
	Secret func(ctx context.Context, store, name string, metadata map[string]string) (map[string]string, error)
	// Getenv is os.Getenv when nil.
	Getenv func(name string) string
}

// Properties resolves a component's metadata: environment references, secrets, then templates ({uuid}, {podName},
// {namespace}, {appID}). As in daprd, a reference that cannot be read leaves its property empty and is told in warnings.
// An error means that the component cannot be made now: ErrNoSecretStore, until the secret store is there.
func (r Resolver) Properties(ctx context.Context, c Component) (properties map[string]string, warnings []error, err error) {
	return r.resolve(ctx, c.Spec.Metadata, c.Auth.SecretStore, c.Meta.Namespace)
}

// Headers resolves an HTTP endpoint's headers as Properties does.
func (r Resolver) Headers(ctx context.Context, h HTTPEndpoint) (headers map[string]string, warnings []error, err error) {
	return r.resolve(ctx, h.Spec.Headers, h.Auth.SecretStore, h.Meta.Namespace)
}

// Document returns a PEM document: the value, or the secret that it refers to. A nil document is empty.
func (r Resolver) Document(ctx context.Context, d *Document, secretStore, namespace string) (string, error) {
	if d == nil {
		return "", nil
	}
	if d.SecretKeyRef.Name == "" {
		return d.Value.Text, nil
	}
	return r.secret(ctx, map[string]map[string]string{}, secretStore, d.SecretKeyRef, namespace)
}

func (r Resolver) resolve(ctx context.Context, in []Property, store, namespace string) (map[string]string, []error, error) {
	out := make(map[string]string, len(in))
	var warnings []error
	cache := map[string]map[string]string{}
	for _, p := range in {
		text := p.Value.Text
		switch {
		case !p.Value.Present && p.EnvRef != "":
			value, ok := r.env(p.EnvRef)
			if !ok {
				warnings = append(warnings, fmt.Errorf("property %s references an env variable that isn't allowed: %s", p.Name, p.EnvRef))
			}
			text = value
		case p.SecretKeyRef.Name != "":
			value, err := r.secret(ctx, cache, store, p.SecretKeyRef, namespace)
			if errors.Is(err, ErrNoSecretStore) {
				return nil, warnings, fmt.Errorf("property %s: secret store %q: %w", p.Name, store, err)
			}
			if err != nil {
				warnings = append(warnings, fmt.Errorf("property %s: %w", p.Name, err))
			}
			if value != "" {
				text = value
			}
		}
		text, err := r.expand(p.Name, text)
		if err != nil {
			return nil, warnings, err
		}
		out[p.Name] = text
	}
	return out, warnings, nil
}

func (r Resolver) env(name string) (value string, allowed bool) {
	getenv := r.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	if !allowedEnv(name, getenv("DAPR_ENV_KEYS")) {
		return "", false
	}
	return getenv(name), true
}

// secret reads one key of a secret; cache holds the secrets of the resource that were read before.
func (r Resolver) secret(ctx context.Context, cache map[string]map[string]string, store string, ref SecretKeyRef, namespace string) (string, error) {
	if r.Secret == nil {
		return "", ErrNoSecretStore
	}
	data, ok := cache[ref.Name]
	if !ok {
		read, err := r.Secret(ctx, store, ref.Name, map[string]string{"namespace": namespace})
		if err != nil {
			return "", fmt.Errorf("get secret %s: %w", ref.Name, err)
		}
		data = maps.Clone(read)
		cache[ref.Name] = data
	}
	key := ref.Key
	if key == "" {
		key = ref.Name
	}
	value, ok := data[key]
	if !ok {
		return "", fmt.Errorf("secret %s has no key %s", ref.Name, key)
	}
	return value, nil
}

// expand replaces the templates in a property's value; each {uuid} becomes another random UUID.
func (r Resolver) expand(name, text string) (string, error) {
	if !strings.Contains(text, "{") {
		return text, nil
	}
	for strings.Contains(text, "{uuid}") {
		text = strings.Replace(text, "{uuid}", newUUID(), 1)
	}
	if strings.Contains(text, "{podName}") {
		if r.PodName == "" {
			return "", fmt.Errorf("failed to parse metadata: property %s refers to {podName} but podName is not set", name)
		}
		text = strings.ReplaceAll(text, "{podName}", r.PodName)
	}
	text = strings.ReplaceAll(text, "{namespace}", r.Namespace+"."+r.AppID)
	return strings.ReplaceAll(text, "{appID}", r.AppID), nil
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var u [16]byte
	_, _ = rand.Read(u[:]) // never fails: it would end the program
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}
