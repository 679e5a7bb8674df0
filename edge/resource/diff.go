package resource

import (
	"reflect"
	"strconv"
)

// Update is a resource that changed.
type Update[T any] struct {
	Old, New T
}

// Delta is what changed among the resources of one kind. Added and Updated are in loading order.
type Delta[T any] struct {
	Removed []T
	Updated []Update[T]
	Added   []T
}

// Empty reports whether nothing changed.
func (d Delta[T]) Empty() bool {
	return len(d.Removed) == 0 && len(d.Updated) == 0 && len(d.Added) == 0
}

// Diff is what changed between two sets of resources. Resources are the same by name; moving one to another line or file
// is no change.
type Diff struct {
	Components     Delta[Component]
	Subscriptions  Delta[Subscription]
	Configurations Delta[Configuration]
	Resiliencies   Delta[Resiliency]
	HTTPEndpoints  Delta[HTTPEndpoint]
}

// Empty reports whether nothing changed.
func (d Diff) Empty() bool {
	return d.Components.Empty() && d.Subscriptions.Empty() && d.Configurations.Empty() &&
		d.Resiliencies.Empty() && d.HTTPEndpoints.Empty()
}

// Compare returns what turns from into to.
func Compare(from, to Set) Diff {
	return Diff{
		Components: delta(from.Components, to.Components, func(c Component) (string, Component) {
			c.Source = Source{}
			return c.Meta.Name, c
		}),
		Subscriptions: delta(from.Subscriptions, to.Subscriptions, func(s Subscription) (string, Subscription) {
			s.Source = Source{}
			return s.Meta.Name, s
		}),
		Configurations: delta(from.Configurations, to.Configurations, func(c Configuration) (string, Configuration) {
			c.Source = Source{}
			return c.Meta.Name, c
		}),
		Resiliencies: delta(from.Resiliencies, to.Resiliencies, func(r Resiliency) (string, Resiliency) {
			r.Source = Source{}
			return r.Meta.Name, r
		}),
		HTTPEndpoints: delta(from.HTTPEndpoints, to.HTTPEndpoints, func(h HTTPEndpoint) (string, HTTPEndpoint) {
			h.Source = Source{}
			return h.Meta.Name, h
		}),
	}
}

// delta compares resources of one kind. of returns a resource's name, and the resource without its place.
func delta[T any](from, to []T, of func(T) (string, T)) Delta[T] {
	var d Delta[T]
	old := named(from, of)
	kept := map[string]bool{}
	for i, key := range keys(to, of) {
		kept[key] = true
		before, ok := old[key]
		if !ok {
			d.Added = append(d.Added, to[i])
			continue
		}
		_, a := of(before)
		if _, b := of(to[i]); !reflect.DeepEqual(a, b) {
			d.Updated = append(d.Updated, Update[T]{Old: before, New: to[i]})
		}
	}
	for i, key := range keys(from, of) {
		if !kept[key] {
			d.Removed = append(d.Removed, from[i])
		}
	}
	return d
}

// keys returns a unique key per resource: its name, numbered when several subscriptions share one.
func keys[T any](in []T, of func(T) (string, T)) []string {
	out := make([]string, len(in))
	count := map[string]int{}
	for i, r := range in {
		name, _ := of(r)
		out[i] = name + "/" + strconv.Itoa(count[name])
		count[name]++
	}
	return out
}

func named[T any](in []T, of func(T) (string, T)) map[string]T {
	out := make(map[string]T, len(in))
	for i, key := range keys(in, of) {
		out[key] = in[i]
	}
	return out
}
