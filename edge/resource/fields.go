package resource

import (
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// structField is one field that YAML can set.
type structField struct {
	name  string
	index []int
	enum  []string
}

// structFields are the fields of a struct type, those of inlined structs included.
type structFields struct {
	byName map[string]structField
	names  []string
}

// find returns the field with a name, in lenient mode in any case, as encoding/json matches it.
func (s *structFields) find(name string, lenient bool) (structField, bool) {
	if f, ok := s.byName[name]; ok {
		return f, true
	}
	if lenient {
		for _, known := range s.names {
			if strings.EqualFold(known, name) {
				return s.byName[known], true
			}
		}
	}
	return structField{}, false
}

// fieldsOf returns the fields of a struct type.
func (d *decoder) fieldsOf(t reflect.Type) *structFields {
	if s, ok := d.structs[t]; ok {
		return s
	}
	s := &structFields{byName: map[string]structField{}}
	s.collect(t, nil)
	d.structs[t] = s
	return s
}

// collect adds the fields of t, which lies at index in the outermost struct. An outer field hides an inlined one.
func (s *structFields) collect(t reflect.Type, index []int) {
	var inlined []reflect.StructField
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" || (!f.IsExported() && !f.Anonymous) {
			continue
		}
		if f.Type.Kind() == reflect.Struct && name == "" && (f.Anonymous || strings.Contains(options, "inline")) {
			inlined = append(inlined, f)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			name = lowerFirst(f.Name)
		}
		if _, ok := s.byName[name]; ok {
			continue
		}
		field := structField{name: name, index: append(append([]int(nil), index...), f.Index...)}
		if choices := f.Tag.Get("enum"); choices != "" {
			field.enum = strings.Split(choices, ",")
		}
		s.byName[name] = field
		s.names = append(s.names, name)
	}
	for _, f := range inlined {
		s.collect(f.Type, append(append([]int(nil), index...), f.Index...))
	}
}

func lowerFirst(name string) string {
	r, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(r)) + name[size:]
}
