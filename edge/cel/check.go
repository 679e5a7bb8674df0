package cel

import "slices"

// checker finds the types of an expression's parts, as far as they are known before there is an event, and what each
// name and function means. Its rules are those of the CEL type checker: dyn fits everything, and type variables take
// what they are first met with.
type checker struct {
	bound  []*typ // what the type variables stand for; nil: not known
	scopes []*foldNode
	slots  int
	depth  int
	// matched are the overloads that the last resolved call may mean.
	matched []string
}

func (c *checker) check(n node) (*typ, *Error) {
	if c.depth++; c.depth > maxDepth {
		return nil, unsupported(n.at(), "nesting deeper than %d levels", maxDepth)
	}
	defer func() { c.depth-- }()
	switch n := n.(type) {
	case *litNode:
		return typeOfLiteral(n.value), nil
	case *identNode:
		return c.ident(n)
	case *selectNode:
		return c.selection(n)
	case *indexNode:
		return c.index(n)
	case *listNode:
		elem, err := c.join(n.elems)
		return &typ{kind: kindList, params: []*typ{elem}}, err
	case *mapNode:
		key, err := c.join(n.keys)
		if err != nil {
			return nil, err
		}
		value, err := c.join(n.values)
		return &typ{kind: kindMap, params: []*typ{key, value}}, err
	case *logicNode:
		return c.logic(n)
	case *condNode:
		return c.call(n.at(), "?:", false, n.c, n.a, n.b)
	case *callNode:
		return c.callNode(n)
	case *foldNode:
		return c.fold(n)
	}
	return nil, refuse(n.at(), "unknown construct")
}

// join returns the type of elements: what they have in common, else dyn.
func (c *checker) join(elems []node) (*typ, *Error) {
	var joined *typ
	for _, e := range elems {
		t, err := c.check(e)
		switch {
		case err != nil:
			return nil, err
		case joined == nil:
			joined = t
		case c.assignable([]*typ{joined}, []*typ{t}):
			joined = mostGeneral(joined, t)
		default:
			joined = dyn
		}
	}
	if joined == nil {
		joined = c.fresh()
	}
	return joined, nil
}

func (c *checker) ident(n *identNode) (*typ, *Error) {
	for _, scope := range slices.Backward(c.scopes) {
		if scope.variable == n.name {
			n.slot = scope.slot
			return scope.element, nil
		}
	}
	switch {
	case n.name == "event":
		n.slot = slotEvent
		return anyType, nil
	case containsWord(typeNames, n.name):
		n.slot = slotType
		return &typ{kind: kindType}, nil
	}
	return nil, unsupported(n.at(), "the name %s (only event is known)", n.name)
}

func (c *checker) selection(n *selectNode) (*typ, *Error) {
	t, err := c.check(n.x)
	if err != nil {
		return nil, err
	}
	result := dyn
	switch t = c.resolve(t); t.kind {
	case kindMap:
		result = c.resolve(t.params[1])
	case kindVar:
		c.assignable([]*typ{dyn}, []*typ{t})
	case kindDyn, kindAny:
	default:
		return nil, refuse(n.at(), "type %s does not support field selection", t.kind)
	}
	if n.test {
		return boolean, nil
	}
	return result, nil
}

func (c *checker) index(n *indexNode) (*typ, *Error) {
	if lit, ok := n.i.(*litNode); ok && !canQualify(lit.value) {
		return nil, refuse(n.i.at(), "%s cannot be an index", typeOf(lit.value))
	}
	t, err := c.call(n.at(), "[]", false, n.x, n.i)
	if ident, ok := n.i.(*identNode); err == nil && ok && ident.slot == slotType {
		return nil, refuse(n.i.at(), "a type cannot be an index")
	}
	return t, err
}

func (c *checker) logic(n *logicNode) (*typ, *Error) {
	for _, term := range n.terms {
		t, err := c.check(term)
		if err != nil {
			return nil, err
		}
		if !c.assignable([]*typ{t}, []*typ{boolean}) {
			return nil, refuse(term.at(), "expected a bool, found %s", c.resolve(t))
		}
	}
	return boolean, nil
}

func (c *checker) callNode(n *callNode) (*typ, *Error) {
	t, err := c.call(n.at(), n.name, n.member, n.args...)
	if err != nil {
		return nil, err
	}
	n.apply = function(n.name)
	if conversions(n.name) != "" && len(c.matched) == 1 {
		// A conversion that is known to take one type takes no other when it runs.
		n.only = kindOf(rune(c.matched[0][0]))
	}
	return t, n.prepare()
}

// call finds the overloads of a function that fit its arguments, and what they return.
func (c *checker) call(pos int, name string, member bool, args ...node) (*typ, *Error) {
	types := make([]*typ, len(args))
	for i, arg := range args {
		var err *Error
		if types[i], err = c.check(arg); err != nil {
			return nil, err
		}
	}
	return c.overload(pos, name, member, types)
}

func (c *checker) overload(pos int, name string, member bool, args []*typ) (*typ, *Error) {
	overloads, known := signatures(name, member)
	if !known {
		return nil, unsupported(pos, "the function %s", name)
	}
	var result *typ
	var matched []string
	for _, signature := range overloads {
		params, returns := c.instantiate(signature)
		if !c.assignable(args, params) {
			continue
		}
		matched = append(matched, signature)
		r := c.resolve(returns)
		if result == nil {
			result = r
		} else if !result.isDyn() && !same(result, r) {
			result = dyn
		}
	}
	c.matched = matched
	if result == nil {
		text := ""
		for i, arg := range args {
			if i > 0 {
				text += ", "
			}
			text += c.resolve(arg).String()
		}
		return nil, refuse(pos, "no overload of '%s' fits (%s)", name, text)
	}
	return result, nil
}

func (c *checker) fold(n *foldNode) (*typ, *Error) {
	over, err := c.check(n.over)
	if err != nil {
		return nil, err
	}
	switch over = c.resolve(over); over.kind {
	case kindList, kindMap:
		n.element = over.params[0]
	case kindDyn, kindVar:
		c.assignable([]*typ{dyn}, []*typ{over})
		n.element = dyn
	default:
		return nil, refuse(n.at(), "%s() needs a list or a map, not %s", n.macro, over)
	}
	accu := &typ{kind: kindList, params: []*typ{c.fresh()}}
	n.slot = len(c.scopes)
	c.scopes = append(c.scopes, n)
	c.slots = max(c.slots, len(c.scopes))
	defer func() { c.scopes = c.scopes[:n.slot] }()
	var filter *typ
	if n.filter != nil {
		if filter, err = c.check(n.filter); err != nil {
			return nil, err
		}
	}
	body, err := c.check(n.body)
	if err != nil {
		return nil, err
	}
	if n.macro != macroMap && n.macro != macroFilter {
		if !c.assignable([]*typ{body}, []*typ{boolean}) {
			return nil, refuse(n.body.at(), "expected a bool, found %s", c.resolve(body))
		}
		return boolean, nil
	}
	if n.macro == macroFilter {
		filter, body = body, n.element
	}
	// As the macro is defined: accu + [body], or filter ? accu + [body] : accu.
	step, err := c.overload(n.at(), "+", false, []*typ{accu, {kind: kindList, params: []*typ{body}}})
	if err == nil && filter != nil {
		step, err = c.overload(n.at(), "?:", false, []*typ{filter, step, accu})
	}
	if err == nil && !c.assignable([]*typ{step}, []*typ{accu}) {
		err = refuse(n.at(), "elements of %s() do not go together", n.macro)
	}
	return c.resolve(accu), err
}
