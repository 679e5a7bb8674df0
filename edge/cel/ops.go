package cel

import (
	"math"
	"slices"
	"strings"
	"time"
)

// function returns what an operator or function does; the checker has made sure that there is one, and how many
// arguments it has.
func function(name string) func(a, b any) (any, error) {
	switch name {
	case "==":
		return func(a, b any) (any, error) { return equal(a, b), nil }
	case "!=":
		return func(a, b any) (any, error) { return !equal(a, b), nil }
	case "<":
		return ordering(name, func(order int) bool { return order < 0 })
	case "<=":
		return ordering(name, func(order int) bool { return order <= 0 })
	case ">":
		return ordering(name, func(order int) bool { return order > 0 })
	case ">=":
		return ordering(name, func(order int) bool { return order >= 0 })
	case "in":
		return contained
	case "!_":
		return func(a, _ any) (any, error) { b, err := truth(a, nil); return !b, err }
	case "-_":
		return negate
	case "+":
		return add
	case "-":
		return subtract
	case "*":
		return multiply
	case "/":
		return divide
	case "%":
		return modulo
	case "size":
		return size
	case "contains":
		return onStrings(name, strings.Contains)
	case "startsWith":
		return onStrings(name, strings.HasPrefix)
	case "endsWith":
		return onStrings(name, strings.HasSuffix)
	case "matches":
		return matches
	}
	return convert(name)
}

// ordering compares values of a type that has an order, and numbers of all types; nothing is ordered against NaN.
func ordering(name string, holds func(order int) bool) func(a, b any) (any, error) {
	return func(a, b any) (any, error) {
		switch typeOf(a) {
		case kindNull, kindList, kindMap, kindType, "unknown":
			return nil, noOverload(name, a, b)
		}
		if isNaN(a) || isNaN(b) {
			return false, nil
		}
		order, ok := compareNumbers(a, b)
		if !ok {
			order, ok = compareOthers(a, b)
		}
		if !ok {
			return nil, noOverload(name, a, b)
		}
		return holds(order), nil
	}
}

func isNaN(v any) bool {
	f, ok := v.(float64)
	return ok && math.IsNaN(f)
}

func compareOthers(a, b any) (order int, ok bool) {
	switch a := a.(type) {
	case string:
		b, ok := b.(string)
		return compare(a, b), ok
	case []byte:
		b, ok := b.([]byte)
		return slices.Compare(a, b), ok
	case bool:
		b, ok := b.(bool)
		return compare(number01(a), number01(b)), ok
	case time.Time:
		b, ok := b.(time.Time)
		return a.Compare(b), ok
	case time.Duration:
		b, ok := b.(time.Duration)
		return compare(a, b), ok
	}
	return 0, false
}

func number01(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// contained is a in b.
func contained(a, b any) (any, error) {
	switch b := b.(type) {
	case []any:
		return slices.ContainsFunc(b, func(e any) bool { return equal(a, norm(e)) }), nil
	case map[string]any, *mapping:
		_, ok, err := find(b, a)
		return ok, err
	}
	return nil, noOverload("in", a, b)
}

const overflow = failure("integer overflow")

func negate(a, _ any) (any, error) {
	switch a := a.(type) {
	case int64:
		if a == math.MinInt64 {
			return nil, overflow
		}
		return -a, nil
	case time.Duration:
		if a == math.MinInt64 {
			return nil, overflow
		}
		return -a, nil
	case float64:
		return -a, nil
	}
	return nil, noOverload("-_", a)
}

func add(a, b any) (any, error) {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return addInt(a, b)
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			if a+b < a {
				return nil, overflow
			}
			return a + b, nil
		}
	case float64:
		if b, ok := b.(float64); ok {
			return a + b, nil
		}
	case string:
		if b, ok := b.(string); ok {
			return a + b, nil
		}
	case []byte:
		if b, ok := b.([]byte); ok {
			return slices.Concat(a, b), nil
		}
	case []any:
		if b, ok := b.([]any); ok {
			return slices.Concat(a, b), nil
		}
	case time.Time, time.Duration:
		return addTimes(a, b)
	}
	return nil, noOverload("+", a, b)
}

func addInt(a, b int64) (any, error) {
	sum := a + b
	if (sum > a) != (b > 0) {
		return nil, overflow
	}
	return sum, nil
}

func subtract(a, b any) (any, error) {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return subtractInt(a, b)
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			if b > a {
				return nil, overflow
			}
			return a - b, nil
		}
	case float64:
		if b, ok := b.(float64); ok {
			return a - b, nil
		}
	case time.Time, time.Duration:
		return subtractTimes(a, b)
	}
	return nil, noOverload("-", a, b)
}

func subtractInt(a, b int64) (any, error) {
	difference := a - b
	if (difference < a) != (b > 0) {
		return nil, overflow
	}
	return difference, nil
}

func multiply(a, b any) (any, error) {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			if a == 0 || b == 0 {
				return int64(0), nil
			}
			product := a * b
			if product/b != a || a == -1 && b == math.MinInt64 || b == -1 && a == math.MinInt64 {
				return nil, overflow
			}
			return product, nil
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			if b != 0 && a > math.MaxUint64/b {
				return nil, overflow
			}
			return a * b, nil
		}
	case float64:
		if b, ok := b.(float64); ok {
			return a * b, nil
		}
	}
	return nil, noOverload("*", a, b)
}

const byZero = failure("division by zero")

func divide(a, b any) (any, error) {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			if err := checkDivision(a, b); err != nil {
				return nil, err
			}
			return a / b, nil
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			if b == 0 {
				return nil, byZero
			}
			return a / b, nil
		}
	case float64:
		if b, ok := b.(float64); ok {
			return a / b, nil
		}
	}
	return nil, noOverload("/", a, b)
}

func modulo(a, b any) (any, error) {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			if err := checkDivision(a, b); err != nil {
				return nil, err
			}
			return a % b, nil
		}
	case uint64:
		if b, ok := b.(uint64); ok {
			if b == 0 {
				return nil, byZero
			}
			return a % b, nil
		}
	}
	return nil, noOverload("%", a, b)
}

func checkDivision(a, b int64) error {
	switch {
	case b == 0:
		return byZero
	case a == math.MinInt64 && b == -1:
		return overflow
	}
	return nil
}
