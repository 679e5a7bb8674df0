package state

import (
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/edged-io/edged/edge/component"
	"github.com/edged-io/edged/edge/fault"
)

// settings is what a state component's metadata says about keys and values, whatever its type.
type settings struct {
	properties map[string]string // where it was read; kept so that its address is not used again
	strategy   string            // keyPrefix: appid, name, namespace, none or a literal prefix
	component  string
	keys       *encryption // nil: values are kept in clear
	outbox     *OutboxTarget
}

// CheckSpec reports a keyPrefix or encryption key that cannot be used, so that it is known when the component is made
// and not at its first use.
func CheckSpec(spec component.Spec) error {
	_, err := newSettings(spec)
	return err
}

func newSettings(spec component.Spec) (*settings, error) {
	s := &settings{properties: spec.Properties, strategy: "appid", component: spec.Name}
	for k, v := range spec.Properties {
		if strings.EqualFold(k, "keyPrefix") {
			s.strategy = strings.ToLower(v)
		}
	}
	if strings.Contains(s.strategy, separator) {
		return nil, fault.StateKeyIllegal(spec.Name, s.strategy)
	}
	keys, err := newEncryption(spec.Properties[primaryKeyName], spec.Properties[secondaryKeyName])
	if err != nil {
		return nil, fmt.Errorf("state store %s: %w", spec.Name, err)
	}
	s.keys = keys
	if to, ok := OutboxOf(spec); ok {
		s.outbox = &to
	}
	return s, nil
}

// prefixFor is what stands before an application's keys, and the separator (Dapr API reference, key prefix strategies).
func (s *settings) prefixFor(app, namespace string) (prefix, sep string) {
	switch s.strategy {
	case "none":
		return "", ""
	case "name":
		return s.component, separator
	case "appid", "namespace":
		if app == "" {
			return "", ""
		}
		if s.strategy == "namespace" && namespace != "" {
			return namespace + "." + app, separator
		}
		return app, separator
	}
	return s.strategy, separator
}

// settingsCache keeps the settings of each component until its resource changes. The zero value is ready to use.
type settingsCache struct{ byName sync.Map } // component name -> *settings

func (c *settingsCache) of(spec component.Spec) (*settings, error) {
	if v, ok := c.byName.Load(spec.Name); ok {
		if s := v.(*settings); sameMap(s.properties, spec.Properties) {
			return s, nil
		}
	}
	s, err := newSettings(spec)
	if err != nil {
		return nil, err
	}
	c.byName.Store(spec.Name, s)
	return s, nil
}

// sameMap reports whether a and b are one map. A component that is made anew comes with a new map.
func sameMap(a, b map[string]string) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}
