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
		Components: delta(from.Components, to.Components, func(c *Component) (*Meta, *Source) { return &c.Meta, &c.Source }),
		Subscriptions: delta(from.Subscriptions, to.Subscriptions, func(s *Subscription) (*Meta, *Source) {
			return &s.Meta, &s.Source
		}),
		Configurations: delta(from.Configurations, to.Configurations, func(c *Configuration) (*Meta, *Source) {
			return &c.Meta, &c.Source
		}),
		Resiliencies: delta(from.Resiliencies, to.Resiliencies, func(r *Resiliency) (*Meta, *Source) { return &r.Meta, &r.Source }),
		HTTPEndpoints: delta(from.HTTPEndpoints, to.HTTPEndpoints, func(h *HTTPEndpoint) (*Meta, *Source) {
			return &h.Meta, &h.Source
		}),
	}
}

// delta compares resources of one kind. of returns a resource's metadata and its place, which does not count.
func delta[T any](from, to []T, of func(*T) (*Meta, *Source)) Delta[T] {
	removed, same, added := match(len(from), len(to),
		func(i int) string { m, _ := of(&from[i]); return m.Name },
		func(i int) string { m, _ := of(&to[i]); return m.Name })
	var d Delta[T]
	for _, i := range removed {
		d.Removed = append(d.Removed, from[i])
	}
	for _, pair := range same {
		a, b := from[pair[0]], to[pair[1]]
		_, at := of(&a)
		*at = Source{}
		_, at = of(&b)
		*at = Source{}
		if !reflect.DeepEqual(&a, &b) {
			d.Updated = append(d.Updated, Update[T]{Old: from[pair[0]], New: to[pair[1]]})
		}
	}
	for _, i := range added {
		d.Added = append(d.Added, to[i])
	}
	return d
}

// match pairs old and new resources by name, and by number where several subscriptions share a name. It returns indices,
// those of what is new or the same in the order of the new.
func match(from, to int, nameFrom, nameTo func(i int) string) (removed []int, same [][2]int, added []int) {
	old := make(map[string]int, from)
	for i, key := range keys(from, nameFrom) {
		old[key] = i
	}
	for i, key := range keys(to, nameTo) {
		if before, ok := old[key]; ok {
			same = append(same, [2]int{before, i})
			delete(old, key)
		} else {
			added = append(added, i)
		}
	}
	for i, key := range keys(from, nameFrom) {
		if _, left := old[key]; left {
			removed = append(removed, i)
		}
	}
	return removed, same, added
}

// keys returns a unique key for each of n resources: its name, numbered.
func keys(n int, name func(i int) string) []string {
	out := make([]string, n)
	count := map[string]int{}
	for i := range n {
		key := name(i)
		out[i] = key + "/" + strconv.Itoa(count[key])
		count[key]++
	}
	return out
}
