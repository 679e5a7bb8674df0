package cel_test

import (
	"fmt"
	"strings"
)

// generator turns bytes into an expression and an event: each byte decides one thing, and when they run out, so does the
// expression.
type generator struct {
	choices []byte
	depth   int
	vars    []string
}

func (g *generator) pick(n int) int {
	if len(g.choices) == 0 {
		return 0
	}
	b := g.choices[0]
	g.choices = g.choices[1:]
	return int(b) % n
}

func (g *generator) oneOf(options ...string) string { return options[g.pick(len(options))] }

func (g *generator) expr() string {
	g.depth++
	defer func() { g.depth-- }()
	if g.depth > 7 || len(g.choices) == 0 {
		return g.leaf()
	}
	switch g.pick(24) {
	case 0, 1, 2:
		return g.leaf()
	case 3, 4, 5:
		return g.path()
	case 6, 7:
		return fmt.Sprintf("(%s %s %s)", g.expr(), g.oneOf("==", "!=", "<", "<=", ">", ">="), g.expr())
	case 8, 9:
		return fmt.Sprintf("(%s %s %s)", g.expr(), g.oneOf("+", "-", "*", "/", "%"), g.expr())
	case 10, 11:
		return fmt.Sprintf("(%s %s %s)", g.expr(), g.oneOf("&&", "||"), g.expr())
	case 12:
		return fmt.Sprintf("(%s ? %s : %s)", g.expr(), g.expr(), g.expr())
	case 13:
		return fmt.Sprintf("(%s in %s)", g.expr(), g.expr())
	case 14:
		return fmt.Sprintf("%s[%s]", g.expr(), g.expr())
	case 15:
		return fmt.Sprintf("%s(%s)", g.oneOf("dyn", "int", "uint", "double", "string", "bytes", "bool", "type", "size", "timestamp", "duration"), g.expr())
	case 16:
		return fmt.Sprintf("has(%s.%s)", g.path(), g.key())
	case 17:
		return g.oneOf("!", "-") + "(" + g.expr() + ")"
	case 18:
		return g.list()
	case 19:
		return g.mapping()
	case 20:
		return fmt.Sprintf("%s.%s(%s)", g.expr(), g.oneOf("contains", "startsWith", "endsWith", "matches"), g.expr())
	case 21, 22:
		return g.macro()
	}
	// Without parentheses, so that the precedences count.
	return fmt.Sprintf("%s %s %s %s %s", g.expr(), g.operator(), g.expr(), g.operator(), g.expr())
}

func (g *generator) operator() string {
	return g.oneOf("==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&&", "||", "in")
}

func (g *generator) leaf() string {
	if len(g.vars) > 0 && g.pick(2) == 1 {
		return g.vars[g.pick(len(g.vars))]
	}
	return g.oneOf("1", "true", "event", "0", "-1", "2u", "0u", "1.0", "0.5", "-2.5", `"a"`, `"b"`, `""`, `"1"`, `'é'`, `b"a"`, `b""`, "null", "false", "[]", "{}", "9223372036854775807",
		"-9223372036854775808", "18446744073709551615u", "1e30", "0.0/0.0", "1.0/0.0", "int", "string", "list", `dyn(1)`, `dyn("a")`, "dyn(1.0)", "dyn(1u)", "dyn(null)", `"2026-01-02T03:04:05Z"`, `"1h"`,
		"timestamp(0)", `duration("1s")`, `"[a-z]+"`, `r"\d"`, "0x10", "event.m", "event.l", "event.n", "event.s")
}

func (g *generator) key() string { return g.oneOf("a", "b", "m", "l", "n", "s", "t", "z", "x") }

func (g *generator) path() string {
	s := "event"
	for range 1 + g.pick(3) {
		switch g.pick(6) {
		case 0:
			s += fmt.Sprintf("[%q]", g.key())
		case 1:
			s += "[" + g.oneOf("0", "1", "-1", "5", "1.0", "0u", "0.5", "true", `"a"`) + "]"
		default:
			s += "." + g.key()
		}
	}
	return s
}

func (g *generator) list() string {
	elems := make([]string, g.pick(4))
	for i := range elems {
		elems[i] = g.expr()
	}
	return "[" + strings.Join(elems, ", ") + "]"
}

func (g *generator) mapping() string {
	entries := make([]string, g.pick(3))
	for i := range entries {
		entries[i] = g.oneOf(`"a"`, `"b"`, "1", "1u", "true", "1.0", g.leaf()) + ": " + g.expr()
	}
	return "{" + strings.Join(entries, ", ") + "}"
}

func (g *generator) macro() string {
	over := g.expr()
	name := g.oneOf("all", "exists", "exists_one", "map", "filter", "map3")
	v := g.oneOf("x", "y", "event", "int")
	g.vars = append(g.vars, v)
	defer func() { g.vars = g.vars[:len(g.vars)-1] }()
	if name == "map3" {
		return fmt.Sprintf("%s.map(%s, %s, %s)", over, v, g.expr(), g.expr())
	}
	return fmt.Sprintf("%s.%s(%s, %s)", over, name, v, g.expr())
}

// event returns a value such as JSON has, an object at the top.
func (g *generator) event() any {
	m := map[string]any{}
	for _, k := range []string{"a", "b", "m", "l", "n", "s", "t"} {
		if g.pick(5) > 0 {
			m[k] = g.value(k)
		}
	}
	return m
}

// value returns what a key of an event may hold: the keys lean towards a type.
func (g *generator) value(key string) any {
	g.depth++
	defer func() { g.depth-- }()
	choice := g.pick(8)
	if lean := strings.Index("mlns", key); lean >= 0 && choice < 5 {
		choice = lean
	}
	if g.depth > 4 && choice < 2 {
		choice = 2
	}
	switch choice {
	case 0:
		m := map[string]any{}
		for range g.pick(3) {
			k := g.key()
			m[k] = g.value(k)
		}
		return m
	case 1:
		l := make([]any, g.pick(4))
		for i := range l {
			l[i] = g.value("x")
		}
		return l
	case 2:
		return []float64{0, 1, -1, 2, 0.5, 1e30, 9007199254740993, -2.5}[g.pick(8)]
	case 3:
		return g.oneOf("a", "b", "", "1", "é", "abc", "2026-01-02T03:04:05Z", "1h")
	case 4:
		return g.pick(2) == 1
	case 5:
		return nil
	case 6:
		return float64(g.pick(5))
	}
	return "a"
}
