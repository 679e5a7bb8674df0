package cel

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

func onStrings(name string, f func(a, b string) bool) func(a, b any) (any, error) {
	return func(a, b any) (any, error) {
		s, ok1 := a.(string)
		t, ok2 := b.(string)
		if !ok1 || !ok2 {
			return nil, noOverload(name, a, b)
		}
		return f(s, t), nil
	}
}

// matches looks for a match anywhere in a; b is the pattern.
func matches(a, b any) (any, error) {
	s, ok1 := a.(string)
	t, ok2 := b.(string)
	if !ok1 || !ok2 {
		return nil, noOverload("matches", a, b)
	}
	re, err := regexp.Compile(t)
	if err != nil {
		return nil, failf("matches: %v", err)
	}
	return re.MatchString(s), nil
}

func size(a, _ any) (any, error) {
	if n := sizeOf(a); n >= 0 {
		return n, nil
	}
	return nil, noOverload("size", a)
}

// sizeOf returns the characters of a string, the bytes of bytes, the elements of a list or map, or -1.
func sizeOf(v any) int64 {
	switch v := v.(type) {
	case string:
		return int64(utf8.RuneCountInString(v))
	case []byte:
		return int64(len(v))
	case []any:
		return int64(len(v))
	case map[string]any:
		return int64(len(v))
	case *mapping:
		return int64(len(v.entries))
	}
	return -1
}

// convert returns the conversion to a type.
func convert(name string) func(a, b any) (any, error) {
	return func(a, _ any) (any, error) {
		var v any
		switch name {
		case "dyn":
			return a, nil
		case "type":
			return typeName(typeOf(a)), nil
		case "bool":
			v = toBool(a)
		case "bytes":
			v = toBytes(a)
		case "double":
			v = toDouble(a)
		case "int":
			v = toInt(a)
		case "uint":
			v = toUint(a)
		case "string":
			v = toString(a)
		case "timestamp":
			v = toTimestamp(a)
		case "duration":
			v = toDuration(a)
		}
		if v == nil {
			return nil, failf("%s() of %s fails", name, typeOf(a))
		}
		return v, nil
	}
}

// The conversions return nil for what they cannot convert.

func toBool(a any) any {
	switch a := a.(type) {
	case bool:
		return a
	case string:
		if b, err := strconv.ParseBool(a); err == nil {
			return b
		}
	}
	return nil
}

func toBytes(a any) any {
	switch a := a.(type) {
	case []byte:
		return a
	case string:
		return []byte(a)
	}
	return nil
}

func toDouble(a any) any {
	switch a := a.(type) {
	case float64:
		return a
	case int64:
		return float64(a)
	case uint64:
		return float64(a)
	case string:
		if f, err := strconv.ParseFloat(a, 64); err == nil {
			return f
		}
	}
	return nil
}

func toInt(a any) any {
	switch a := a.(type) {
	case int64:
		return a
	case uint64:
		if a <= math.MaxInt64 {
			return int64(a)
		}
	case float64:
		if a > math.MinInt64 && a < math.MaxInt64 {
			return int64(a)
		}
	case string:
		if i, err := strconv.ParseInt(a, 10, 64); err == nil {
			return i
		}
	case time.Time:
		return a.Unix()
	case time.Duration:
		return int64(a)
	}
	return nil
}

func toUint(a any) any {
	switch a := a.(type) {
	case uint64:
		return a
	case int64:
		if a >= 0 {
			return uint64(a)
		}
	case float64:
		if a >= 0 && a < 1<<64 {
			return uint64(a)
		}
	case string:
		if u, err := strconv.ParseUint(a, 10, 64); err == nil {
			return u
		}
	}
	return nil
}

func toString(a any) any {
	switch a := a.(type) {
	case string:
		return a
	case bool:
		return strconv.FormatBool(a)
	case int64:
		return strconv.FormatInt(a, 10)
	case uint64:
		return strconv.FormatUint(a, 10)
	case float64:
		return fmt.Sprintf("%g", a)
	case []byte:
		if utf8.Valid(a) {
			return string(a)
		}
	case time.Time:
		return a.Format(time.RFC3339Nano)
	case time.Duration:
		return strconv.FormatFloat(a.Seconds(), 'f', -1, 64) + "s"
	}
	return nil
}

// Timestamps are of the years 1 to 9999.
const (
	minTime = -62135596800
	maxTime = 253402300799
)

func toTimestamp(a any) any {
	switch a := a.(type) {
	case time.Time:
		return a
	case int64:
		if a >= minTime && a <= maxTime {
			return time.Unix(a, 0).UTC()
		}
	case string:
		if t, err := time.Parse(time.RFC3339, a); err == nil && isRFC3339(a) && t.Unix() >= minTime && t.Unix() <= maxTime {
			return t
		}
	}
	return nil
}

// isRFC3339 refuses what time.Parse lets pass: a comma before the fraction, an hour of one digit, an offset of more than
// a day.
func isRFC3339(s string) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || s[13] != ':' || strings.IndexByte(s, ',') >= 0 {
		return false
	}
	if zone := s[len(s)-6:]; zone[0] == '+' || zone[0] == '-' {
		return zone[1:3] <= "23" && zone[4:6] <= "59"
	}
	return true
}

func toDuration(a any) any {
	switch a := a.(type) {
	case time.Duration:
		return a
	case string:
		if d, err := time.ParseDuration(a); err == nil {
			return d
		}
	}
	return nil
}

func addTimes(a, b any) (any, error) {
	switch a := a.(type) {
	case time.Time:
		if b, ok := b.(time.Duration); ok {
			return inRange(a.Add(b))
		}
	case time.Duration:
		switch b := b.(type) {
		case time.Time:
			return inRange(b.Add(a))
		case time.Duration:
			sum, err := addInt(int64(a), int64(b))
			if err != nil {
				return nil, err
			}
			return time.Duration(sum.(int64)), nil
		}
	}
	return nil, noOverload("+", a, b)
}

func subtractTimes(a, b any) (any, error) {
	switch b := b.(type) {
	case time.Duration:
		switch a := a.(type) {
		case time.Time:
			if b == math.MinInt64 {
				return nil, overflow
			}
			return inRange(a.Add(-b))
		case time.Duration:
			difference, err := subtractInt(int64(a), int64(b))
			if err != nil {
				return nil, err
			}
			return time.Duration(difference.(int64)), nil
		}
	case time.Time:
		if a, ok := a.(time.Time); ok {
			// Sub clamps; then adding it back misses.
			if d := a.Sub(b); b.Add(d).Equal(a) {
				return d, nil
			}
			return nil, overflow
		}
	}
	return nil, noOverload("-", a, b)
}

func inRange(t time.Time) (any, error) {
	if t.Unix() < minTime || t.Unix() > maxTime {
		return nil, failf("timestamp overflow")
	}
	return t, nil
}
