package cel

import (
	"regexp"
)

// place is where a node stands in the expression.
type place int

func (p place) at() int { return int(p) }

type litNode struct {
	place
	value any
}

func (n *litNode) eval(*frame) (any, error) { return n.value, nil }

// Slots of names that are no variables of macros.
const (
	slotEvent = -1 - iota
	slotType
)

type identNode struct {
	place
	name string
	slot int // in the frame; set by the checker
}

func (n *identNode) eval(f *frame) (any, error) {
	switch n.slot {
	case slotEvent:
		return norm(f.event), nil
	case slotType:
		return typeName(n.name), nil
	}
	return f.locals[n.slot], nil
}

// selectNode is x.field, or has(x.field).
type selectNode struct {
	place
	x     node
	field string
	test  bool
}

func (n *selectNode) eval(f *frame) (any, error) {
	x, err := n.x.eval(f)
	if err != nil {
		return nil, err
	}
	switch x.(type) {
	case map[string]any, *mapping:
		v, ok, err := find(x, n.field)
		if err != nil || n.test {
			return ok, err
		}
		if ok {
			return v, nil
		}
	case []any:
		return nil, failf("a list has no key %q", n.field)
	default:
		if n.test {
			return false, nil
		}
	}
	return nil, failf("no such key: %s", n.field)
}

type indexNode struct {
	place
	x, i node
}

func (n *indexNode) eval(f *frame) (any, error) {
	x, err := n.x.eval(f)
	if err != nil {
		return nil, err
	}
	i, err := n.i.eval(f)
	if err != nil {
		return nil, err
	}
	if !canQualify(i) {
		return nil, failf("%s cannot be an index", typeOf(i))
	}
	switch x := x.(type) {
	case []any:
		at, ok := wholeInt(i)
		if !ok {
			return nil, failf("%s %v cannot be the index of a list", typeOf(i), i)
		}
		if at < 0 || at >= int64(len(x)) {
			return nil, failf("index out of bounds: %d", at)
		}
		return norm(x[at]), nil
	case map[string]any, *mapping:
		v, ok, err := find(x, i)
		if err != nil || ok {
			return v, err
		}
	}
	return nil, failf("no such key: %v", i)
}

type listNode struct {
	place
	elems []node
}

func (n *listNode) eval(f *frame) (any, error) {
	list := make([]any, len(n.elems))
	for i, e := range n.elems {
		var err error
		if list[i], err = e.eval(f); err != nil {
			return nil, err
		}
	}
	return list, nil
}

type mapNode struct {
	place
	keys, values []node
}

func (n *mapNode) eval(f *frame) (any, error) {
	m := &mapping{make(map[any]any, len(n.keys))}
	for i := range n.keys {
		k, err := n.keys[i].eval(f)
		if err != nil {
			return nil, err
		}
		v, err := n.values[i].eval(f)
		if err != nil {
			return nil, err
		}
		if k, err = key(k); err != nil {
			return nil, err
		}
		m.entries[k] = v
	}
	return m, nil
}

// logicNode is terms with && between them, or ||. A term that decides the value makes errors in others irrelevant,
// wherever they stand.
type logicNode struct {
	place
	and   bool
	terms []node
}

func (n *logicNode) eval(f *frame) (any, error) {
	var failed error
	for _, term := range n.terms {
		b, err := truth(term.eval(f))
		switch {
		case err != nil && failed == nil:
			failed = err
		case err == nil && b != n.and:
			return b, nil
		}
	}
	if failed != nil {
		return nil, failed
	}
	return n.and, nil
}

// truth takes a value as a condition.
func truth(v any, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	b, ok := v.(bool)
	if !ok {
		return false, failf("expected a bool, found %s", typeOf(v))
	}
	return b, nil
}

type condNode struct {
	place
	c, a, b node
}

func (n *condNode) eval(f *frame) (any, error) {
	c, err := truth(n.c.eval(f))
	if err != nil {
		return nil, err
	}
	if c {
		return n.a.eval(f)
	}
	return n.b.eval(f)
}

// callNode is an operator or a function, of one or two arguments.
type callNode struct {
	place
	name    string
	member  bool
	args    []node
	apply   func(a, b any) (any, error) // set by the checker, as is only
	only    kind                        // the one type that the argument may have, or dyn, or none
	pattern *regexp.Regexp              // of matches, if it is a literal
}

// prepare compiles a regular expression that does not depend on the event.
func (n *callNode) prepare() *Error {
	if n.name != "matches" {
		return nil
	}
	lit, ok := n.args[1].(*litNode)
	if !ok {
		return nil
	}
	text, ok := lit.value.(string)
	if !ok {
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return unsupported(lit.at(), "a regular expression that RE2 does not know (%v)", err)
	}
	n.pattern = re
	return nil
}

func (n *callNode) eval(f *frame) (any, error) {
	a, err := n.args[0].eval(f)
	if err != nil {
		return nil, err
	}
	if n.pattern != nil {
		s, ok := a.(string)
		if !ok {
			return nil, noOverload(n.name, a, "")
		}
		return n.pattern.MatchString(s), nil
	}
	if len(n.args) == 1 {
		if n.only != "" && n.only != kindDyn && n.only != typeOf(a) {
			return nil, noOverload(n.name, a)
		}
		return n.apply(a, nil)
	}
	b, err := n.args[1].eval(f)
	if err != nil {
		return nil, err
	}
	return n.apply(a, b)
}
