package resource

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"
)

// validate calls the Validate methods in v, a pointer, and below it, outer ones first.
func (d *decoder) validate(v reflect.Value, path string, depth int) {
	if depth > maxDepth {
		return
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return
		}
		if v.Elem().Kind() == reflect.Struct {
			break
		}
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Pointer:
		d.validateStruct(v, path, depth)
	case reflect.Slice:
		if !mayValidate(v.Type().Elem()) {
			return
		}
		for i := range v.Len() {
			d.validate(addressed(v.Index(i)), path+"["+strconv.Itoa(i)+"]", depth+1)
		}
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String || !mayValidate(v.Type().Elem()) {
			return
		}
		for it := v.MapRange(); it.Next(); {
			d.validate(addressed(it.Value()), join(path, it.Key().String()), depth+1)
		}
	}
}

// validateStruct validates the struct that p points to, then its fields. Types that read themselves are left alone.
func (d *decoder) validateStruct(p reflect.Value, path string, depth int) {
	switch target := p.Interface().(type) {
	case encoding.TextUnmarshaler, nodeDecoder:
		return
	case Validator:
		target.Validate(func(field, value, problem, hint string) { d.reported(path, field, value, problem, hint) })
	}
	s := p.Elem()
	fields := d.fieldsOf(s.Type())
	for _, name := range fields.names {
		f := s.FieldByIndex(fields.byName[name].index)
		if mayValidate(f.Type()) {
			d.validate(addressed(f), join(path, name), depth+1)
		}
	}
}

// reported adds what a Validate method found, unless decoding the same field has found a fault before.
func (d *decoder) reported(path, field, value, problem, hint string) {
	full := path
	if field != "" {
		full = join(path, field)
		if strings.HasPrefix(field, "[") {
			full = path + field
		}
	}
	for at := full; ; {
		if d.faulted[at] {
			return
		}
		if at == "" {
			break
		}
		at = parent(at)
	}
	d.add(Fault{File: d.file, Line: d.lineOf(full), Field: full, Value: quoted(value, full), Problem: problem, Hint: hint})
}

// lineOf returns the line of a path, or of the nearest thing around it that is in the file.
func (d *decoder) lineOf(path string) int {
	return lineIn(d.lines, path)
}

func lineIn(lines map[string]int, path string) int {
	for {
		if line, ok := lines[path]; ok || path == "" {
			return line
		}
		path = parent(path)
	}
}

// parent returns the path that encloses path.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}

// mayValidate reports whether values of a type can hold a struct.
func mayValidate(t reflect.Type) bool {
	for {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			t = t.Elem()
		default:
			return t.Kind() == reflect.Struct
		}
	}
}

// addressed returns a pointer to v, or to a copy if v has no address; a pointer is returned as it is.
func addressed(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		return v
	}
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}
