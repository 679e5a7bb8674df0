package resource

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Meta is a resource's metadata, as in Kubernetes objects.
type Meta struct {
	Name        string
	Namespace   string
	Labels      map[string]string
	Annotations map[string]string
}

// Source says where a resource was read, so that faults found later name the line.
type Source struct {
	File  string
	Line  int            // of the document
	lines map[string]int // of its fields
}

// Fault returns a fault at a field of the resource, such as spec.type.
func (s Source) Fault(field, value, problem, hint string) Fault {
	line := lineIn(s.lines, field)
	if line == 0 {
		line = s.Line
	}
	return Fault{File: s.File, Line: line, Field: field, Value: value, Problem: problem, Hint: hint}
}

// header is what every resource begins with.
type header struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
}

// Component is a Dapr Component resource (dapr.io/v1alpha1).
type Component struct {
	header `yaml:",inline"`
	Meta   Meta `yaml:"metadata"`
	Spec   ComponentSpec
	Auth   Auth
	Scopes []string // application ids that may use it; empty: all
	Source Source   `yaml:"-"`
}

// ComponentSpec says what a component is.
type ComponentSpec struct {
	Type         string // such as state.bbolt
	Version      string // such as v1; empty means v1
	IgnoreErrors bool   // go on without the component if it cannot be made
	Metadata     []Property
	InitTimeout  string // a duration, such as 5s
}

// Auth names the secret store component that secretKeyRef refers to.
type Auth struct {
	SecretStore string
}

// Property is one name and value of a component's metadata or an HTTP endpoint's headers.
type Property struct {
	Name         string
	Value        Value
	SecretKeyRef SecretKeyRef
	EnvRef       string
}

// SecretKeyRef refers to a secret, and to a key in it; an empty key means the secret's own name.
type SecretKeyRef struct {
	Name string
	Key  string
}

// Value is a property's value. YAML may write it as text, number, boolean, list or mapping; components get text.
type Value struct {
	Text    string // lists and mappings are compact JSON
	Present bool   // whether the file gives a value, if only an empty one
}

// String returns the text.
func (v Value) String() string { return v.Text }

// decodeNode reads any YAML value as daprd does: through YAML 1.1 booleans and JSON numbers.
func (v *Value) decodeNode(d *decoder, n *yaml.Node, path string) {
	v.Present = true
	if n.Kind != yaml.ScalarNode {
		before := len(d.faults)
		plain := d.plain(n, path)
		if len(d.faults) > before || d.exhausted {
			return
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(plain); err != nil {
			d.wrong(n, path, "cannot be written as JSON: "+err.Error(), "")
			return
		}
		v.Text = strings.TrimSuffix(b.String(), "\n")
		return
	}
	v.Text = scalarText(n)
}

// scalarText returns a scalar as text. A number of digits only stays as it is written.
func scalarText(n *yaml.Node) string {
	if b, ok := boolean(n, true); ok {
		return strconv.FormatBool(b)
	}
	switch n.ShortTag() {
	case "!!int":
		if i, err := strconv.ParseInt(digits(n), 0, 64); err == nil {
			return strconv.FormatInt(i, 10)
		}
	case "!!float":
		if strings.Trim(n.Value, "0123456789") == "" {
			return n.Value
		}
		if f, err := strconv.ParseFloat(digits(n), 64); err == nil {
			if text, err := json.Marshal(f); err == nil {
				return string(text)
			}
		}
	}
	return n.Value
}

// Category returns what comes before the type's first dot: state, pubsub, secretstores, bindings and so on.
func (c Component) Category() string {
	category, _, _ := strings.Cut(c.Spec.Type, ".")
	return category
}

// String names a component as daprd's messages do: `name (type/version)`.
func (c Component) String() string {
	if c.Spec.Version == "" {
		return c.Meta.Name + " (" + c.Spec.Type + ")"
	}
	return c.Meta.Name + " (" + c.Spec.Type + "/" + c.Spec.Version + ")"
}

// Validate reports what a component lacks.
func (c Component) Validate(report func(field, value, problem, hint string)) {
	needName(c.Meta, report)
	switch category, name, _ := strings.Cut(c.Spec.Type, "."); {
	case c.Spec.Type == "":
		report("spec.type", "", "is missing", "such as state.bbolt or pubsub.durable")
	case category == "" || name == "":
		report("spec.type", c.Spec.Type, "is not a component type", "such as state.bbolt or pubsub.durable")
	}
	needDuration("spec.initTimeout", c.Spec.InitTimeout, report)
	validateProperties("spec.metadata", c.Spec.Metadata, c.Auth.SecretStore, report)
}

// validateProperties reports properties without a name, named twice or with more than one source.
func validateProperties(field string, properties []Property, secretStore string, report func(field, value, problem, hint string)) {
	seen := map[string]bool{}
	for i, p := range properties {
		at := field + "[" + strconv.Itoa(i) + "]"
		if p.Name == "" {
			report(at+".name", "", "is missing", "")
			continue
		}
		if key := strings.ToLower(p.Name); seen[key] {
			report(at+".name", p.Name, "is given twice", "")
		} else {
			seen[key] = true
		}
		if p.SecretKeyRef.Key != "" && p.SecretKeyRef.Name == "" {
			report(at+".secretKeyRef.name", "", "is missing", "the name of the secret; key is the field in it")
		}
		if p.SecretKeyRef.Name != "" && secretStore == "" {
			report(at+".secretKeyRef", "", "refers to a secret, but auth.secretStore is missing", "name the secret store component in auth.secretStore")
		}
		if p.Value.Present && p.Value.Text != "" && (p.SecretKeyRef.Name != "" || p.EnvRef != "") {
			report(at+".value", "", "is given besides a reference", "give value, secretKeyRef or envRef")
		}
	}
}
