package cel

import "slices"

// parser turns tokens into nodes by recursive descent, one method per rule of the CEL grammar.
type parser struct {
	tokens []token
	next   int
	depth  int
}

func parse(s string) (node, *Error) {
	tokens, err := lex(s)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	n, err := p.expr()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokEOF {
		return nil, p.unexpected()
	}
	return n, nil
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != tokEOF {
		p.next++
	}
	return t
}

// accept takes the next token if it is of the kind.
func (p *parser) accept(kind tokenKind) bool {
	if p.peek().kind != kind {
		return false
	}
	p.take()
	return true
}

func (p *parser) expect(kind tokenKind) *Error {
	if !p.accept(kind) {
		return p.unexpected()
	}
	return nil
}

func (p *parser) unexpected() *Error {
	t := p.peek()
	if t.kind == tokEOF {
		return refuse(t.pos, "unexpected end of expression")
	}
	return refuse(t.pos, "unexpected %s", t.text)
}

// deeper counts a level of recursion; the caller gives it back when it has parsed the level. Chains of operators are
// parsed by loops: how deep they make the tree is for the checker to bound.
func (p *parser) deeper() *Error {
	if p.depth++; p.depth > maxDepth {
		return unsupported(p.peek().pos, "nesting deeper than %d levels", maxDepth)
	}
	return nil
}

// expr = or ["?" or ":" expr]
func (p *parser) expr() (node, *Error) {
	if err := p.deeper(); err != nil {
		return nil, err
	}
	defer func() { p.depth-- }()
	c, err := p.or()
	if err != nil || p.peek().kind != "?" {
		return c, err
	}
	pos := p.take().pos
	a, err := p.or()
	if err != nil {
		return nil, err
	}
	if err := p.expect(":"); err != nil {
		return nil, err
	}
	b, err := p.expr()
	if err != nil {
		return nil, err
	}
	return &condNode{place(pos), c, a, b}, nil
}

func (p *parser) or() (node, *Error)  { return p.logic("||", p.and) }
func (p *parser) and() (node, *Error) { return p.logic("&&", p.relation) }

// logic parses operands of one logical operator into one node.
func (p *parser) logic(op tokenKind, operand func() (node, *Error)) (node, *Error) {
	first, err := operand()
	if err != nil || p.peek().kind != op {
		return first, err
	}
	n := &logicNode{place(p.peek().pos), op == "&&", []node{first}}
	for p.accept(op) {
		term, err := operand()
		if err != nil {
			return nil, err
		}
		n.terms = append(n.terms, term)
	}
	return n, nil
}

func (p *parser) relation() (node, *Error) {
	return p.binary([]tokenKind{"<", "<=", ">=", ">", "==", "!=", "in"}, p.sum)
}
func (p *parser) sum() (node, *Error)     { return p.binary([]tokenKind{"+", "-"}, p.product) }
func (p *parser) product() (node, *Error) { return p.binary([]tokenKind{"*", "/", "%"}, p.unary) }

// binary parses a chain of left-associative operators.
func (p *parser) binary(ops []tokenKind, operand func() (node, *Error)) (node, *Error) {
	n, err := operand()
	for err == nil && slices.Contains(ops, p.peek().kind) {
		op := p.take()
		var right node
		if right, err = operand(); err == nil {
			n = &callNode{place: place(op.pos), name: string(op.kind), args: []node{n, right}}
		}
	}
	return n, err
}

// unary = member | "!" {"!"} member | "-" {"-"} member; a minus before a number belongs to the number.
func (p *parser) unary() (node, *Error) {
	op := p.peek()
	if op.kind == "-" && p.isNumber(p.next+1) || op.kind != "!" && op.kind != "-" {
		return p.member()
	}
	count := 0
	for p.accept(op.kind) {
		count++
	}
	n, err := p.member()
	if err != nil || count%2 == 0 {
		return n, err
	}
	return &callNode{place: place(op.pos), name: string(op.kind) + "_", args: []node{n}}, nil
}

func (p *parser) isNumber(i int) bool {
	return i < len(p.tokens) && (p.tokens[i].kind == tokInt || p.tokens[i].kind == tokFloat)
}

// member = primary {"." name | "." name "(" args ")" | "[" expr "]"}
func (p *parser) member() (node, *Error) {
	n, err := p.primary()
	for err == nil {
		t := p.peek()
		if t.kind != "." && t.kind != "[" {
			return n, nil
		}
		p.take()
		if p.peek().kind == "?" {
			return nil, unsupported(p.peek().pos, "optional syntax")
		}
		if t.kind == "[" {
			n, err = p.index(n, t)
		} else {
			n, err = p.selection(n, t)
		}
	}
	return nil, err
}

func (p *parser) index(x node, open token) (node, *Error) {
	i, err := p.expr()
	if err != nil {
		return nil, err
	}
	return &indexNode{place(open.pos), x, i}, p.expect("]")
}

func (p *parser) selection(x node, dot token) (node, *Error) {
	name := p.peek()
	if err := p.expect(tokIdent); err != nil {
		return nil, err
	}
	if !p.accept("(") {
		return &selectNode{place: place(dot.pos), x: x, field: name.text}, nil
	}
	args, err := p.args()
	if err != nil {
		return nil, err
	}
	return memberCall(name, x, args)
}

// args parses what is behind an opening parenthesis, the closing one included.
func (p *parser) args() ([]node, *Error) {
	var args []node
	if p.accept(")") {
		return nil, nil
	}
	for {
		arg, err := p.expr()
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		if !p.accept(",") {
			return args, p.expect(")")
		}
	}
}

func (p *parser) primary() (node, *Error) {
	t := p.take()
	switch t.kind {
	case tokIdent:
		return p.identifier(t)
	case tokInt, tokUint, tokFloat:
		v, err := number(t, false)
		return &litNode{place(t.pos), v}, err
	case "-":
		if p.peek().kind == tokInt || p.peek().kind == tokFloat {
			v, err := number(p.take(), true)
			return &litNode{place(t.pos), v}, err
		}
	case tokString, tokBytes:
		v, err := unquote(t)
		return &litNode{place(t.pos), v}, err
	case "true", "false":
		return &litNode{place(t.pos), t.kind == "true"}, nil
	case "null":
		return &litNode{place(t.pos), nil}, nil
	case "(":
		n, err := p.expr()
		if err != nil {
			return nil, err
		}
		return n, p.expect(")")
	case "[":
		return p.list(t)
	case "{":
		return p.mapping(t)
	case ".":
		return nil, unsupported(t.pos, "a leading dot")
	}
	if t.kind != tokEOF {
		p.next--
	}
	return nil, p.unexpected()
}

// reserved are the words of other languages that may not name a variable.
const reserved = " as break const continue else for function if import let loop package namespace return var void while "

func (p *parser) identifier(t token) (node, *Error) {
	if containsWord(reserved, t.text) {
		return nil, refuse(t.pos, "reserved identifier: %s", t.text)
	}
	if p.accept("(") {
		args, err := p.args()
		if err != nil {
			return nil, err
		}
		return globalCall(t, args)
	}
	if p.peek().kind == "{" {
		return nil, unsupported(t.pos, "a message (%s{...})", t.text)
	}
	return &identNode{place: place(t.pos), name: t.text}, nil
}

// list = "[" [expr {"," expr}] [","] "]"
func (p *parser) list(open token) (node, *Error) {
	n := &listNode{place: place(open.pos)}
	err := p.elements("]", func() *Error {
		e, err := p.expr()
		n.elems = append(n.elems, e)
		return err
	})
	return n, err
}

// mapping = "{" [expr ":" expr {"," expr ":" expr}] [","] "}"
func (p *parser) mapping(open token) (node, *Error) {
	n := &mapNode{place: place(open.pos)}
	err := p.elements("}", func() *Error {
		k, err := p.expr()
		if err != nil {
			return err
		}
		if err := p.expect(":"); err != nil {
			return err
		}
		v, err := p.expr()
		n.keys, n.values = append(n.keys, k), append(n.values, v)
		return err
	})
	return n, err
}

// elements parses elements with commas between them, and perhaps one behind the last, up to the closing token.
func (p *parser) elements(closing tokenKind, element func() *Error) *Error {
	for first := true; ; first = false {
		if p.accept(closing) {
			return nil
		}
		if first && p.accept(",") {
			return p.expect(closing)
		}
		if p.peek().kind == "?" {
			return unsupported(p.peek().pos, "optional syntax")
		}
		if err := element(); err != nil {
			return err
		}
		if !p.accept(",") {
			return p.expect(closing)
		}
	}
}
