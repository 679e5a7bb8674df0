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
	c := chooser{options: o}
	for i, keep := range c.choose(kindComponent, len(s.Components), func(i int) candidate {
		r := &s.Components[i]
		return candidate{r.Meta, r.Scopes, r.Source, r.String()}
	}) {
		if keep {
			out.Components = append(out.Components, s.Components[i])
		}
	}
	out.Components = SecretStoresFirst(out.Components)
	// daprd gives subscriptions no unique names and leaves their namespace unread.
	for _, sub := range s.Subscriptions {
		if inScope(sub.Scopes, o.AppID) {
			out.Subscriptions = append(out.Subscriptions, sub)
		}
	}
	for i, keep := range c.choose(kindConfiguration, len(s.Configurations), func(i int) candidate {
		r := &s.Configurations[i]
		return candidate{r.Meta, nil, r.Source, r.Meta.Name}
	}) {
		if keep {
			out.Configurations = append(out.Configurations, s.Configurations[i])
		}
	}
	for i, keep := range c.choose(kindResiliency, len(s.Resiliencies), func(i int) candidate {
		r := &s.Resiliencies[i]
		return candidate{r.Meta, r.Scopes, r.Source, r.Meta.Name}
	}) {
		if keep {
			out.Resiliencies = append(out.Resiliencies, s.Resiliencies[i])
		}
	}
	for i, keep := range c.choose(kindHTTPEndpoint, len(s.HTTPEndpoints), func(i int) candidate {
		r := &s.HTTPEndpoints[i]
		return candidate{r.Meta, r.Scopes, r.Source, r.String()}
	}) {
		if keep {
			out.HTTPEndpoints = append(out.HTTPEndpoints, s.HTTPEndpoints[i])
		}
	}
	return out, c.faults
}

// candidate is what choosing needs to know of a resource.
type candidate struct {
	meta   Meta
	scopes []string
	source Source
	label  string
}

// chooser chooses among resources and collects the faults of names that are given twice.
type chooser struct {
	options Options
	faults  Faults
}

// choose says for each of n resources of one kind whether the options choose it. As in daprd, the first of a name counts,
// and another is a duplicate even if the application is not in its scopes.
func (c *chooser) choose(kind string, n int, of func(i int) candidate) []bool {
	keep := make([]bool, n)
	names := make(map[string]candidate, n)
	for i := range n {
		r := of(i)
		if c.options.Namespace != "" && r.meta.Namespace != "" && r.meta.Namespace != c.options.Namespace {
			continue
		}
		if first, dup := names[r.meta.Name]; dup {
			c.faults = append(c.faults, r.source.Fault("metadata.name", strconv.Quote(r.meta.Name),
				fmt.Sprintf("duplicate definition of %s name %s with existing %s", kind, r.label, first.label),
				fmt.Sprintf("the first is at %s:%d", first.source.File, first.source.Line)))
			continue
		}
		if inScope(r.scopes, c.options.AppID) {
			names[r.meta.Name] = r
			keep[i] = true
		}
	}
	return keep
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
