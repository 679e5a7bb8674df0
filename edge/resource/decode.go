package resource

import (
	"fmt"
	"reflect"
	"strconv"

	"go.yaml.in/yaml/v3"
)

const (
	maxDepth   = 100    // of nested values; more is not configuration
	maxAliased = 20_000 // nodes read through aliases, which can multiply a small file beyond all bounds
	maxFaults  = 100    // reported per file
)

// Validator is a struct that checks itself after it was decoded. It calls report once per fault; field is the path
// relative to the struct (such as maxBytes, or out[1].qos; empty for the struct itself), value what is wrong there (empty
// to leave it out), hint what to write instead. The report gets the file and line of the field, or of what encloses it.
// Faults of fields that could not be decoded are not reported twice.
type Validator interface {
	Validate(report func(field, value, problem, hint string))
}

// Defaulter is a type whose values in lists, maps and behind pointers begin with defaults instead of zeros. The method
// has a pointer receiver.
type Defaulter interface {
	SetDefaults()
}

// DecodeStrict decodes the one YAML document of data into v, a pointer to a struct that holds the defaults, and returns
// every fault: syntax, unknown and duplicate fields, wrong types, bad durations and sizes, and what Validators report.
// With faults, v holds what could be read and must not be used. An empty document leaves the defaults.
//
// Fields are named by their yaml tag, else by their name with a lower-case first letter. time.Duration ("30s", "720h"),
// Bytes ("64MiB") and encoding.TextUnmarshaler are read from scalars; a tag enum:"a,b" bounds a string; a field or embedded
// struct tagged ",inline" spreads its fields. It never panics on any data, and reads at most 4 MiB.
func DecodeStrict(file string, data []byte, v any) Faults {
	d := newDecoder(file, false)
	docs := parseFile(file, data)
	for i, doc := range docs {
		switch {
		case doc.fault != nil:
			d.add(*doc.fault)
		case i > 0:
			d.add(Fault{
				File: file, Line: doc.offset + doc.root.Line, Problem: "is a second document",
				Hint: "this file has one; remove the line of dashes before it",
			})
		}
	}
	var first document
	if len(docs) > 0 && docs[0].fault == nil {
		first = docs[0]
	}
	if len(docs) == 0 || first.root != nil {
		d.decode(first, v)
	}
	d.faults.sort()
	return d.faults
}

// decoder decodes the documents of one file.
type decoder struct {
	file    string
	lenient bool // daprd's reading: unknown fields are ignored, names match in any case, the last duplicate wins
	faults  Faults
	structs map[reflect.Type]*structFields

	// Of the current document.
	offset    int
	lines     map[string]int  // path -> line in the file
	faulted   map[string]bool // paths that have a fault
	depth     int
	aliases   map[*yaml.Node]bool // being read, to find cycles
	aliased   int                 // nodes read through aliases
	exhausted bool
}

func newDecoder(file string, lenient bool) *decoder {
	return &decoder{file: file, lenient: lenient, structs: map[reflect.Type]*structFields{}}
}

// decode reads a document into v, a non-nil pointer, and lets its parts validate themselves.
func (d *decoder) decode(doc document, v any) {
	if d.decodeOnly(doc, v) {
		d.validate(reflect.ValueOf(v), "", 0)
	}
}

// decodeOnly reads a document into v, a non-nil pointer; it reports whether v is one.
func (d *decoder) decodeOnly(doc document, v any) bool {
	d.offset = doc.offset
	d.lines = map[string]int{"": doc.offset + 1}
	d.faulted = map[string]bool{}
	d.depth, d.aliased, d.exhausted = 0, 0, len(d.faults) > maxFaults
	d.aliases = map[*yaml.Node]bool{}
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		d.add(Fault{File: d.file, Problem: fmt.Sprintf("cannot be decoded into a %T", v)})
		return false
	}
	if doc.root != nil {
		d.lines[""] = doc.offset + doc.root.Line
		d.value(doc.root, target.Elem(), "")
	}
	return true
}

// add keeps a fault; a file that is nothing but faults is not reported to its end.
func (d *decoder) add(f Fault) {
	switch {
	case len(d.faults) < maxFaults:
		d.faults = append(d.faults, f)
	case len(d.faults) == maxFaults:
		d.exhausted = true
		d.faults = append(d.faults, Fault{File: f.File, Line: f.Line, Problem: "has more faults: these are the first"})
	}
}

// faultAt reports what is wrong with a node.
func (d *decoder) faultAt(n *yaml.Node, path, value, problem, hint string) {
	d.faulted[path] = true
	d.add(Fault{File: d.file, Line: d.offset + n.Line, Field: path, Value: value, Problem: problem, Hint: hint})
}

// wrong reports a node whose value is not what the field needs.
func (d *decoder) wrong(n *yaml.Node, path, problem, hint string) {
	d.faultAt(n, path, shown(n, path), problem, hint)
}

// value decodes n into v, which is settable.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if d.exhausted {
		return
	}
	if d.depth >= maxDepth {
		d.exhausted = true
		d.faultAt(n, path, "", "is nested too deeply", "")
		return
	}
	if !d.spend(n, path) {
		return
	}
	d.depth++
	defer func() { d.depth-- }()
	if n.Kind == yaml.AliasNode {
		d.alias(n, path, func(target *yaml.Node) { d.value(target, v, path) })
		return
	}
	if isNull(n) {
		if k := v.Kind(); k == reflect.Pointer || k == reflect.Slice || k == reflect.Map || k == reflect.Interface {
			v.SetZero()
		}
		return
	}
	d.present(n, v, path)
}

// spend counts a node that is read through an alias, and reports when there were too many.
func (d *decoder) spend(n *yaml.Node, path string) bool {
	if d.exhausted {
		return false
	}
	if len(d.aliases) == 0 {
		return true
	}
	if d.aliased++; d.aliased > maxAliased {
		d.exhausted = true
		d.faultAt(n, path, "", "expands to too much", "write the values out instead of aliases of aliases")
		return false
	}
	return true
}

// alias calls fn with the node that an alias names, unless that is being read already.
func (d *decoder) alias(n *yaml.Node, path string, fn func(target *yaml.Node)) {
	if n.Alias == nil || d.aliases[n.Alias] {
		d.faultAt(n, path, "*"+n.Value, "refers to itself", "")
		return
	}
	d.aliases[n.Alias] = true
	defer delete(d.aliases, n.Alias)
	fn(n.Alias)
}

// present decodes a node that is neither an alias nor null.
func (d *decoder) present(n *yaml.Node, v reflect.Value, path string) {
	if d.special(n, v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(fresh(v.Type().Elem()))
		}
		d.value(n, v.Elem(), path)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Interface:
		if v.NumMethod() != 0 {
			d.wrong(n, path, "cannot be set in YAML", "")
			return
		}
		if plain := d.plain(n, path); plain != nil {
			v.Set(reflect.ValueOf(plain))
		} else {
			v.SetZero()
		}
	default:
		d.scalar(n, v, path)
	}
}

// list decodes a sequence; what the slice held before is replaced.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		hint := "write one `- value` per line, or [a, b]"
		if n.Kind == yaml.ScalarNode && n.Value != "" && len(n.Value) < 40 && !secretField(path) {
			hint = "write [" + n.Value + "]"
		}
		d.wrong(n, path, "is "+kindName(n)+" where a list is needed", hint)
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), 1024))
	for i, c := range n.Content {
		element := fresh(v.Type().Elem()).Elem()
		at := path + "[" + strconv.Itoa(i) + "]"
		d.lines[at] = d.offset + c.Line
		d.value(c, element, at)
		out = reflect.Append(out, element)
		if d.exhausted {
			return
		}
	}
	v.Set(out)
}

// mapping decodes a map with string keys; keys that the map holds already and the file does not name stay.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if v.Type().Key().Kind() != reflect.String {
		d.wrong(n, path, "cannot be set in YAML", "")
		return
	}
	if !d.needMapping(n, path) {
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	d.pairs(n, path, func(key string, keyNode, value *yaml.Node) {
		element := fresh(v.Type().Elem()).Elem()
		at := join(path, key)
		d.lines[at] = d.offset + keyNode.Line
		d.value(value, element, at)
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
	})
}

// structure decodes a mapping into the fields of a struct.
func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if !d.needMapping(n, path) {
		return
	}
	fields := d.fieldsOf(v.Type())
	d.pairs(n, path, func(key string, keyNode, value *yaml.Node) {
		at := join(path, key)
		f, ok := fields.find(key, d.lenient)
		if !ok {
			if !d.lenient {
				d.faultAt(keyNode, at, shown(value, at), "is not a known field", suggest(key, fields.names))
			}
			return
		}
		d.lines[at] = d.offset + keyNode.Line
		field := v.FieldByIndex(f.index)
		d.value(value, field, at)
		d.checkEnum(value, field, f, at)
	})
}

// checkEnum reports a string that is not one of those that the field's enum tag lists.
func (d *decoder) checkEnum(n *yaml.Node, v reflect.Value, f structField, path string) {
	if len(f.enum) == 0 || d.faulted[path] || d.exhausted || isNull(n) {
		return
	}
	if v.Kind() != reflect.String {
		return
	}
	for _, allowed := range f.enum {
		if v.String() == allowed {
			return
		}
	}
	d.faultAt(n, path, shown(n, path), "is not one of the choices", suggest(v.String(), f.enum))
}

// needMapping reports a node that should be a mapping and is not.
func (d *decoder) needMapping(n *yaml.Node, path string) bool {
	if n.Kind == yaml.MappingNode {
		return true
	}
	d.wrong(n, path, "is "+kindName(n)+" where fields are needed", "write `name: value` lines below it, indented")
	return false
}

// pairs calls fn for each key of a mapping in order, then for the keys that `<<` merges in and the mapping does not have.
func (d *decoder) pairs(n *yaml.Node, path string, fn func(key string, keyNode, value *yaml.Node)) {
	seen := make(map[string]int, len(n.Content)/2)
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content) && !d.exhausted; i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.spend(key, path) {
			return
		}
		if key.Kind == yaml.AliasNode && key.Alias != nil {
			key = key.Alias
		}
		switch {
		case key.Kind != yaml.ScalarNode:
			d.faultAt(key, path, "", "has "+kindName(key)+" as a name", "a name is a word; is a value in braces missing its quotes?")
			continue
		case key.ShortTag() == "!!merge":
			merges = append(merges, value)
			continue
		}
		if line, dup := seen[key.Value]; dup && !d.lenient {
			d.faultAt(key, join(path, key.Value), "", "is written twice", fmt.Sprintf("it is on line %d already", line))
			continue
		}
		seen[key.Value] = d.offset + key.Line
		fn(key.Value, key, value)
	}
	for _, m := range merges {
		d.merge(m, path, seen, fn)
	}
}

// merge calls fn for the keys of a merged mapping, or list of mappings, that were not seen yet.
func (d *decoder) merge(n *yaml.Node, path string, seen map[string]int, fn func(key string, keyNode, value *yaml.Node)) {
	if d.depth >= maxDepth || d.exhausted {
		return
	}
	d.depth++
	defer func() { d.depth-- }()
	switch n.Kind {
	case yaml.AliasNode:
		d.alias(n, path, func(target *yaml.Node) { d.merge(target, path, seen, fn) })
	case yaml.SequenceNode:
		for _, c := range n.Content {
			d.merge(c, path, seen, fn)
		}
	case yaml.MappingNode:
		d.pairs(n, path, func(key string, keyNode, value *yaml.Node) {
			if _, ok := seen[key]; !ok {
				seen[key] = d.offset + keyNode.Line
				fn(key, keyNode, value)
			}
		})
	default:
		d.faultAt(n, path, shown(n, path), "cannot be merged", "<< takes an alias of a mapping")
	}
}

// fresh returns a pointer to a new value of type t, with its defaults.
func fresh(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if def, ok := p.Interface().(Defaulter); ok {
		def.SetDefaults()
	}
	return p
}

// join appends a name to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
