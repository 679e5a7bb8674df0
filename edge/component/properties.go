package component

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Properties reads a component's metadata and collects everything that is wrong with it, so that a factory asks for each
// property with its default and looks at Err once. Names match in any case, as in Dapr. It is for one goroutine.
type Properties struct {
	spec   Spec
	byName map[string]string // lower-case name -> name as written
	asked  map[string]bool
	errs   []error
}

// Read returns a reader of the component's metadata.
func (s Spec) Read() *Properties {
	p := &Properties{spec: s, byName: make(map[string]string, len(s.Properties)), asked: map[string]bool{}}
	for name := range s.Properties {
		p.byName[strings.ToLower(name)] = name
	}
	return p
}

// lookup returns the value of the first of the names that is given and not empty.
func (p *Properties) lookup(names []string) (name, value string, ok bool) {
	for _, n := range names {
		key := strings.ToLower(n)
		p.asked[key] = true
		if written, given := p.byName[key]; given && value == "" {
			name, value, ok = written, p.spec.Properties[written], true
		}
	}
	return name, value, ok && value != ""
}

func (p *Properties) wrong(name, value, problem string) {
	p.errs = append(p.errs, fmt.Errorf("property %s: %q %s", name, value, problem))
}

// String returns a property, or def if it is absent or empty. Further names are aliases.
func (p *Properties) String(def string, names ...string) string {
	if _, v, ok := p.lookup(names); ok {
		return v
	}
	return def
}

// Required returns a property and records an error if it is absent or empty.
func (p *Properties) Required(names ...string) string {
	_, v, ok := p.lookup(names)
	if !ok {
		p.errs = append(p.errs, fmt.Errorf("property %s is missing", names[0]))
	}
	return v
}

// Bool returns a property that is true when it says y, yes, true, t, on or 1 in any case, as Dapr reads it; else false.
func (p *Properties) Bool(def bool, names ...string) bool {
	name, v, ok := p.lookup(names)
	if !ok {
		return def
	}
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "y", "yes", "true", "t", "on", "1":
		return true
	case "n", "no", "false", "f", "off", "0":
		return false
	}
	p.wrong(name, v, "is neither true nor false")
	return def
}

// Int returns a whole number within low and high.
func (p *Properties) Int(def, low, high int, names ...string) int {
	name, v, ok := p.lookup(names)
	if !ok {
		return def
	}
	i, err := strconv.Atoi(strings.TrimSpace(v))
	if err != nil {
		p.wrong(name, v, "is not a whole number")
		return def
	}
	if i < low || i > high {
		p.wrong(name, v, fmt.Sprintf("is not from %d to %d", low, high))
		return def
	}
	return i
}

// Duration returns a non-negative duration such as 30s; a plain number means unit, as older Dapr metadata has it.
func (p *Properties) Duration(def, unit time.Duration, names ...string) time.Duration {
	name, v, ok := p.lookup(names)
	if !ok {
		return def
	}
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/int64(max(unit, 1)) {
			p.wrong(name, v, "is out of range")
			return def
		}
		return time.Duration(n) * unit
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		p.wrong(name, v, "is not a duration such as 500ms, 30s or 15m")
		return def
	}
	return d
}

// OneOf returns a property that must be one of the choices, in any case; it returns the choice as it is spelt there.
func (p *Properties) OneOf(def string, choices []string, names ...string) string {
	name, v, ok := p.lookup(names)
	if !ok {
		return def
	}
	if i := slices.IndexFunc(choices, func(c string) bool { return strings.EqualFold(c, v) }); i >= 0 {
		return choices[i]
	}
	p.wrong(name, v, "is none of "+strings.Join(choices, ", "))
	return def
}

// Fail records an error about a property that the caller found.
func (p *Properties) Fail(name string, err error) {
	p.errs = append(p.errs, fmt.Errorf("property %s: %w", name, err))
}

// Known marks properties that somebody else reads, so that they do not count as unknown.
func (p *Properties) Known(names ...string) {
	for _, n := range names {
		p.asked[strings.ToLower(n)] = true
	}
}

// Unknown returns the properties that nobody asked for, sorted: misspelt ones, mostly. Dapr ignores them; say so in the log.
func (p *Properties) Unknown() []string {
	var out []string
	for key, written := range p.byName {
		if !p.asked[key] {
			out = append(out, written)
		}
	}
	slices.Sort(out)
	return out
}

// Err returns everything that is wrong with the properties that were asked for, or nil. Unknown properties are logged,
// as a warning, at the same time.
func (p *Properties) Err() error {
	if unknown := p.Unknown(); len(unknown) > 0 && p.spec.Log != nil {
		p.spec.Log.Warn("component properties that are not known were ignored", "component", p.spec.Name, "properties", unknown)
	}
	return errors.Join(p.errs...)
}
