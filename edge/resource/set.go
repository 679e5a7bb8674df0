package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// append adds the resources of o after those of s.
func (s *Set) append(o Set) {
	s.Components = append(s.Components, o.Components...)
	s.Subscriptions = append(s.Subscriptions, o.Subscriptions...)
	s.Configurations = append(s.Configurations, o.Configurations...)
	s.Resiliencies = append(s.Resiliencies, o.Resiliencies...)
	s.HTTPEndpoints = append(s.HTTPEndpoints, o.HTTPEndpoints...)
}

// selected returns the resources that the options choose, and a fault for each name that is given twice.
func (s Set) selected(o Options) (Set, Faults) {
	var out Set
	var faults, f Faults
	out.Components, f = choose(s.Components, o, kindComponent, func(c Component) (Meta, []string, Source, string) {
		return c.Meta, c.Scopes, c.Source, c.String()
	})
	faults = append(faults, f...)
	out.Components = SecretStoresFirst(out.Components)
	// daprd gives subscriptions no unique names and leaves their namespace unread.
	for _, sub := range s.Subscriptions {
		if inScope(sub.Scopes, o.AppID) {
			out.Subscriptions = append(out.Subscriptions, sub)
		}
	}
	out.Configurations, f = choose(s.Configurations, o, kindConfiguration, func(c Configuration) (Meta, []string, Source, string) {
		return c.Meta, nil, c.Source, c.Meta.Name
	})
	faults = append(faults, f...)
	out.Resiliencies, f = choose(s.Resiliencies, o, kindResiliency, func(r Resiliency) (Meta, []string, Source, string) {
		return r.Meta, r.Scopes, r.Source, r.Meta.Name
	})
	faults = append(faults, f...)
	out.HTTPEndpoints, f = choose(s.HTTPEndpoints, o, kindHTTPEndpoint, func(h HTTPEndpoint) (Meta, []string, Source, string) {
		return h.Meta, h.Scopes, h.Source, h.String()
	})
	return out, append(faults, f...)
}

// choose returns the resources of one kind that the options choose. As in daprd, the first of a name counts, and another
// is a duplicate even if the application is not in its scopes.
func choose[T any](in []T, o Options, kind string, of func(T) (Meta, []string, Source, string)) ([]T, Faults) {
	var out []T
	var faults Faults
	type seen struct {
		name   string
		source Source
	}
	names := map[string]seen{}
	for _, r := range in {
		m, scopes, source, name := of(r)
		if o.Namespace != "" && m.Namespace != "" && m.Namespace != o.Namespace {
			continue
		}
		if first, dup := names[m.Name]; dup {
			f := source.Fault("metadata.name", strconv.Quote(m.Name),
				fmt.Sprintf("duplicate definition of %s name %s with existing %s", kind, name, first.name),
				fmt.Sprintf("the first is at %s:%d", first.source.File, first.source.Line))
			faults = append(faults, f)
			continue
		}
		if !inScope(scopes, o.AppID) {
			continue
		}
		names[m.Name] = seen{name, source}
		out = append(out, r)
	}
	return out, faults
}

func inScope(scopes []string, app string) bool {
	return app == "" || len(scopes) == 0 || slices.Contains(scopes, app)
}

// SecretStoresFirst returns components so that secret stores come before everything else, and a secret store after the
// one that its own secrets come from. Otherwise the order stays.
func SecretStoresFirst(components []Component) []Component {
	var stores, rest []Component
	for _, c := range components {
		if c.Category() == "secretstores" {
			stores = append(stores, c)
		} else {
			rest = append(rest, c)
		}
	}
	return append(dependencyOrder(stores), rest...)
}

// dependencyOrder sorts secret stores after the stores that they refer to; those in a circle stay as they are.
func dependencyOrder(stores []Component) []Component {
	out := make([]Component, 0, len(stores))
	placed := map[string]bool{}
	pending := slices.Clone(stores)
	for len(pending) > 0 {
		var later []Component
		for _, c := range pending {
			needs := c.Auth.SecretStore
			waits := needs != "" && needs != c.Meta.Name && !placed[needs] &&
				slices.ContainsFunc(pending, func(p Component) bool { return p.Meta.Name == needs })
			if waits {
				later = append(later, c)
				continue
			}
			out = append(out, c)
			placed[c.Meta.Name] = true
		}
		if len(later) == len(pending) {
			return append(out, later...)
		}
		pending = later
	}
	return out
}

// allowedEnv reports whether a component may read an environment variable: as in daprd, never those that hold tokens or
// configure the runtime, and only those in allowlist if there is one (DAPR_ENV_KEYS, separated by blanks).
func allowedEnv(name, allowlist string) bool {
	name = strings.ToUpper(name)
	if name == "" || name == "APP_API_TOKEN" || strings.HasPrefix(name, "DAPR_") || strings.Contains(name, " ") {
		return false
	}
	return allowlist == "" || slices.Contains(strings.Fields(allowlist), name)
}
