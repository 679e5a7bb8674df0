package cel

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"
)

// Values are nil, bool, int64, uint64, float64, string, []byte, []any, map[string]any (of the event), *mapping (of an
// expression), typeName, time.Time and time.Duration.

// typeName is a type as a value.
type typeName string

// mapping is a map that an expression made. Its keys are values as Go can compare them (see key).
type mapping struct{ entries map[any]any }

// odd is a key that equals nothing else: a list or a map.
type odd struct{ value any }

// failure is an error of an evaluation.
type failure string

func (f failure) Error() string { return string(f) }

func failf(format string, args ...any) error { return failure(fmt.Sprintf(format, args...)) }

// noOverload is the error of an operation on values that it is not defined for.
func noOverload(op string, args ...any) error {
	text := ""
	for i, arg := range args {
		if i > 0 {
			text += ", "
		}
		text += string(typeOf(arg))
	}
	return failf("no overload of '%s' fits (%s)", op, text)
}

// norm makes a value of what an event holds.
func norm(v any) any {
	switch v := v.(type) {
	case nil, bool, string, float64, []any, map[string]any, int64, uint64, []byte, *mapping, typeName, time.Time, time.Duration:
		return v
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return string(v)
		}
		return f
	case float32:
		return float64(v)
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case uint:
		return uint64(v)
	case uint32:
		return uint64(v)
	case map[string]string:
		m := make(map[string]any, len(v))
		for k, s := range v {
			m[k] = s
		}
		return m
	case []string:
		l := make([]any, len(v))
		for i, s := range v {
			l[i] = s
		}
		return l
	}
	return foreign{v}
}

// foreign is a Go value that has no counterpart. It equals nothing and no operation takes it.
type foreign struct{ value any }

func typeOf(v any) kind {
	switch v.(type) {
	case nil:
		return kindNull
	case bool:
		return kindBool
	case int64:
		return kindInt
	case uint64:
		return kindUint
	case float64:
		return kindDouble
	case string:
		return kindString
	case []byte:
		return kindBytes
	case []any:
		return kindList
	case map[string]any, *mapping:
		return kindMap
	case typeName:
		return kindType
	case time.Time:
		return kindTimestamp
	case time.Duration:
		return kindDuration
	}
	return "unknown"
}

func typeOfLiteral(v any) *typ { return &typ{kind: typeOf(v)} }

// canQualify reports whether a value can be an index.
func canQualify(v any) bool {
	switch v.(type) {
	case string, int64, uint64, float64, bool:
		return true
	}
	return false
}

// equal compares two values: numbers by value, whatever their types, and all else by type and content.
func equal(a, b any) bool {
	switch a := a.(type) {
	case nil:
		return b == nil
	case bool, string, typeName, time.Duration:
		return a == b
	case int64, uint64, float64:
		order, ok := compareNumbers(a, b)
		return ok && order == 0
	case []byte:
		b, ok := b.([]byte)
		return ok && string(a) == string(b)
	case time.Time:
		b, ok := b.(time.Time)
		return ok && a.Equal(b)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, func(x, y any) bool { return equal(norm(x), norm(y)) })
	case map[string]any, *mapping:
		return equalMaps(a, b)
	}
	return false
}

func equalMaps(a, b any) bool {
	if typeOf(b) != kindMap || sizeOf(a) != sizeOf(b) {
		return false
	}
	switch a := a.(type) {
	case map[string]any:
		for k, v := range a {
			if w, ok, err := find(b, k); err != nil || !ok || !equal(norm(v), w) {
				return false
			}
		}
	case *mapping:
		for k, v := range a.entries {
			if w, ok, err := find(b, unkey(k)); err != nil || !ok || !equal(v, w) {
				return false
			}
		}
	}
	return true
}

// compareNumbers orders two numbers by value; ok is false if one is no number or NaN.
func compareNumbers(a, b any) (order int, ok bool) {
	switch a := a.(type) {
	case int64:
		switch b := b.(type) {
		case int64:
			return compare(a, b), true
		case uint64:
			if a < 0 || b > math.MaxInt64 {
				return -1, true
			}
			return compare(a, int64(b)), true
		case float64:
			order, ok = compareNumbers(b, a)
			return -order, ok
		}
	case uint64:
		switch b := b.(type) {
		case uint64:
			return compare(a, b), true
		case int64, float64:
			order, ok = compareNumbers(b, a)
			return -order, ok
		}
	case float64:
		return compareDouble(a, b)
	}
	return 0, false
}

func compareDouble(a float64, b any) (order int, ok bool) {
	if math.IsNaN(a) {
		return 0, false
	}
	switch b := b.(type) {
	case float64:
		return compare(a, b), !math.IsNaN(b)
	case int64:
		switch {
		case a < math.MinInt64:
			return -1, true
		case a > math.MaxInt64:
			return 1, true
		}
		return compare(a, float64(b)), true
	case uint64:
		switch {
		case a < 0:
			return -1, true
		case a > math.MaxUint64:
			return 1, true
		}
		return compare(a, float64(b)), true
	}
	return 0, false
}

func compare[T int64 | uint64 | float64 | string | time.Duration](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// key returns a value as a Go map can have it.
func key(v any) (any, error) {
	switch v.(type) {
	case []byte:
		return nil, failf("bytes cannot be a map key")
	case []any, map[string]any, *mapping:
		return &odd{v}, nil
	}
	return v, nil
}

func unkey(k any) any {
	if o, ok := k.(*odd); ok {
		return o.value
	}
	return k
}

// find looks a key up in a map. Whole numbers find each other, whatever their types.
func find(m, k any) (v any, ok bool, err error) {
	if m, isEvent := m.(map[string]any); isEvent {
		s, isString := k.(string)
		if !isString {
			return nil, false, nil
		}
		v, ok = m[s]
		return norm(v), ok, nil
	}
	entries := m.(*mapping).entries
	if len(entries) == 0 {
		return nil, false, nil
	}
	if k, err = key(k); err != nil {
		return nil, false, err
	}
	if v, ok = entries[k]; ok {
		return v, true, nil
	}
	if i, whole := wholeInt(k); whole {
		if v, ok = entries[i]; ok {
			return v, true, nil
		}
	}
	if u, whole := wholeUint(k); whole {
		v, ok = entries[u]
	}
	return v, ok, nil
}

// wholeInt returns a number as an int, if nothing is lost.
func wholeInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	case float64:
		if v > math.MinInt64 && v < math.MaxInt64 && v == math.Trunc(v) {
			return int64(v), true
		}
	}
	return 0, false
}

// wholeUint returns a number as a uint, if nothing is lost.
func wholeUint(v any) (uint64, bool) {
	switch v := v.(type) {
	case int64:
		return uint64(v), v >= 0
	case uint64:
		return v, true
	case float64:
		if v >= 0 && v < 1<<64 && v == math.Trunc(v) {
			return uint64(v), true
		}
	}
	return 0, false
}
