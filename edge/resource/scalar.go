package resource

import (
	"encoding"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// nodeDecoder is a type of this package that reads any YAML value.
type nodeDecoder interface {
	decodeNode(d *decoder, n *yaml.Node, path string)
}

// special decodes the types that have a reading of their own and reports whether v is one.
func (d *decoder) special(n *yaml.Node, v reflect.Value, path string) bool {
	if !v.CanAddr() {
		return false
	}
	switch target := v.Addr().Interface().(type) {
	case nodeDecoder:
		target.decodeNode(d, n, path)
	case *time.Duration:
		d.duration(n, target, path)
	case encoding.TextUnmarshaler:
		if d.needScalar(n, path, "a single value") {
			d.text(n, target, path)
		}
	default:
		return false
	}
	return true
}

// text reads a scalar with the type's own method.
func (d *decoder) text(n *yaml.Node, target encoding.TextUnmarshaler, path string) {
	err := target.UnmarshalText([]byte(n.Value))
	switch {
	case err == nil:
	case errors.Is(err, errSize):
		d.wrong(n, path, err.Error(), "write a number and a unit, such as 64MiB or 4MB")
	case errors.Is(err, errSizeRange):
		d.wrong(n, path, err.Error(), "the largest size is "+strconv.FormatInt(math.MaxInt64, 10)+" bytes")
	default:
		hint := ""
		var h interface{ Hint() string }
		if errors.As(err, &h) {
			hint = h.Hint()
		}
		d.wrong(n, path, err.Error(), hint)
	}
}

// duration reads a non-negative duration with a unit; a plain 0 needs none.
func (d *decoder) duration(n *yaml.Node, target *time.Duration, path string) {
	const hint = "write a number and a unit: 500ms, 30s, 15m, 720h"
	if !d.needScalar(n, path, "a duration") {
		return
	}
	v, err := time.ParseDuration(n.Value)
	switch {
	case err != nil && strings.Trim(n.Value, "0123456789.") == "":
		d.wrong(n, path, "is a duration without a unit", hint)
	case err != nil:
		d.wrong(n, path, "is not a duration", hint)
	case v < 0:
		d.wrong(n, path, "is negative", hint)
	default:
		*target = v
	}
}

// scalar decodes strings, booleans and numbers. A string takes any scalar as it is written, so `id: 17` needs no quotes.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		if d.needScalar(n, path, "text") {
			v.SetString(n.Value)
		}
	case reflect.Bool:
		b, ok := boolean(n, d.lenient)
		if !ok {
			d.wrong(n, path, "is not a yes or no", "write true or false, without quotes")
			return
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if d.needNumber(n, path) {
			i, err := strconv.ParseInt(digits(n), 0, v.Type().Bits())
			if err != nil {
				d.wholeNumber(n, path, err, -1<<(v.Type().Bits()-1), 1<<(v.Type().Bits()-1)-1)
				return
			}
			v.SetInt(i)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if d.needNumber(n, path) {
			u, err := strconv.ParseUint(digits(n), 0, v.Type().Bits())
			if err != nil {
				d.wholeNumber(n, path, err, 0, math.MaxUint64>>(64-v.Type().Bits()))
				return
			}
			v.SetUint(u)
		}
	case reflect.Float32, reflect.Float64:
		if d.needNumber(n, path) {
			d.float(n, v, path)
		}
	default:
		d.wrong(n, path, "cannot be set in YAML", "")
	}
}

// float decodes a finite number.
func (d *decoder) float(n *yaml.Node, v reflect.Value, path string) {
	f, err := strconv.ParseFloat(digits(n), v.Type().Bits())
	if i, intErr := strconv.ParseInt(digits(n), 0, 64); err != nil && intErr == nil {
		f, err = float64(i), nil
	}
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		d.wrong(n, path, "is not a finite number", "")
		return
	}
	v.SetFloat(f)
}

// wholeNumber reports a number that is not whole or does not fit.
func (d *decoder) wholeNumber(n *yaml.Node, path string, err error, low int64, high uint64) {
	if errors.Is(err, strconv.ErrRange) || (low == 0 && strings.HasPrefix(n.Value, "-")) {
		d.wrong(n, path, "is out of range", "from "+strconv.FormatInt(low, 10)+" to "+strconv.FormatUint(high, 10))
		return
	}
	d.wrong(n, path, "is not a whole number", "")
}

// needScalar reports a list or mapping where one value is needed.
func (d *decoder) needScalar(n *yaml.Node, path, what string) bool {
	if n.Kind == yaml.ScalarNode {
		return true
	}
	hint := ""
	if n.Kind == yaml.MappingNode {
		hint = "if it begins with { or contains a colon and a blank, put it in quotes"
	}
	d.wrong(n, path, "is "+kindName(n)+" where "+what+" is needed", hint)
	return false
}

// needNumber reports a node that is not written as a number.
func (d *decoder) needNumber(n *yaml.Node, path string) bool {
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!int", "!!float":
			return true
		}
		if _, err := strconv.ParseFloat(n.Value, 64); err == nil {
			d.wrong(n, path, "is text where a number is needed", "remove the quotes")
			return false
		}
	}
	d.wrong(n, path, "is "+kindName(n)+" where a number is needed", "")
	return false
}

// digits returns a number as strconv reads it: YAML allows 1_000 and +1.
func digits(n *yaml.Node) string {
	return strings.TrimPrefix(strings.ReplaceAll(n.Value, "_", ""), "+")
}

// boolean reads true and false, and with wide also the words that YAML 1.1, and so daprd, takes for them.
func boolean(n *yaml.Node, wide bool) (value, ok bool) {
	if n.Kind != yaml.ScalarNode {
		return false, false
	}
	if n.ShortTag() == "!!bool" {
		return strings.EqualFold(n.Value, "true"), true
	}
	if !wide || n.ShortTag() != "!!str" || n.Style&^yaml.TaggedStyle != 0 {
		return false, false
	}
	switch n.Value {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	return false, false
}

// plain decodes a node of any shape into nil, bool, int64, float64, string, []any and map[string]any.
func (d *decoder) plain(n *yaml.Node, path string) any {
	switch n.Kind {
	case yaml.SequenceNode:
		var out []any
		d.list(n, reflect.ValueOf(&out).Elem(), path)
		return out
	case yaml.MappingNode:
		var out map[string]any
		d.mapping(n, reflect.ValueOf(&out).Elem(), path)
		return out
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		b, _ := boolean(n, false)
		return b
	case "!!str":
		if b, ok := boolean(n, d.lenient); ok {
			return b
		}
	case "!!int":
		if i, err := strconv.ParseInt(digits(n), 0, 64); err == nil {
			return i
		}
	}
	if tag := n.ShortTag(); tag == "!!int" || tag == "!!float" {
		if f, err := strconv.ParseFloat(digits(n), 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	}
	return n.Value
}

// isNull reports a value that is absent: nothing, ~ or null.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// kindName says what a node is, in words.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a group of fields"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	}
	return "text"
}

// shown returns what a fault says of a node's value.
func shown(n *yaml.Node, path string) string {
	switch n.Kind {
	case yaml.AliasNode:
		return "*" + n.Value
	case yaml.ScalarNode:
		return quoted(n.Value, path)
	}
	return ""
}

// quoted returns what a fault says of a value: short, in quotes on one line, and not if it may be a secret.
func quoted(value, path string) string {
	const limit = 60
	switch {
	case value == "", value == "(hidden)":
		return value
	case secretField(path):
		return "(hidden)"
	case len(value) > limit:
		value = strings.ToValidUTF8(value[:limit], "") + "..."
	}
	return strconv.Quote(value)
}
