// Package cel evaluates the part of the Common Expression Language (cel.dev) that route rules use: one variable, event,
// with JSON-like values. What an expression of that part yields, or whether it fails, is what cel-go yields; all else is
// refused by Compile with the name of the construct and its place.
//
// The part: literals of all scalar types, lists and maps; field selection, indexing, has; the operators, with logical
// ones that absorb errors; numbers of different types compared by value; size, contains, startsWith, endsWith, matches (RE2);
// the macros all, exists, exists_one, map and filter; type and the conversions; timestamps and durations without their
// accessors. Outside: messages, other variables, optional syntax, escaped names, functions of extensions.
//
// The reference is cel-go 0.32, to which the tests compare. The 0.20 of daprd 1.18 differs from it in little: there NaN
// in a comparison fails, timestamp() takes some strings that are no RFC 3339, and duration() takes seconds.
package cel

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Program is a compiled expression. It is immutable and safe for concurrent use.
type Program struct {
	expr   string
	root   node
	locals int // slots for the variables of macros
}

// ErrUnsupported is in the chain of a Compile error when the expression may be valid CEL, but needs what this package
// leaves out.
var ErrUnsupported = errors.New("not supported in route rules")

// Error is an expression that Compile refuses.
type Error struct {
	Expr        string
	Pos         int // offset in bytes
	Message     string
	Unsupported bool
}

// Error says what is wrong, and where: the position counts characters from 1.
func (e *Error) Error() string {
	msg := e.Message
	if e.Unsupported {
		msg += " is " + ErrUnsupported.Error()
	}
	return fmt.Sprintf("expression %q, position %d: %s", e.Expr, utf8.RuneCountInString(e.Expr[:min(e.Pos, len(e.Expr))])+1, msg)
}

// Is makes errors.Is(err, ErrUnsupported) work.
func (e *Error) Is(target error) bool { return e.Unsupported && target == ErrUnsupported }

// EvalError is an expression that has no value for an event, such as one that selects a key that is not there.
type EvalError struct {
	Expr    string
	Message string
}

// Error says why there is no value.
func (e *EvalError) Error() string { return fmt.Sprintf("expression %q: %s", e.Expr, e.Message) }

const (
	maxSize  = 64 << 10 // bytes of an expression
	maxDepth = 200      // of nesting, which bounds the recursion of compiling and evaluating
	maxWork  = 1 << 20  // rounds of all macros in one evaluation
)

// Compile parses and type-checks an expression. Errors are *Error.
func Compile(expr string) (*Program, error) {
	p := &Program{expr: expr}
	err := p.compile()
	if err != nil {
		err.Expr = expr
		return nil, err
	}
	return p, nil
}

func (p *Program) compile() *Error {
	if len(p.expr) > maxSize {
		return unsupported(maxSize, "an expression of %d bytes", len(p.expr))
	}
	for i, r := range p.expr {
		if _, n := utf8.DecodeRuneInString(p.expr[i:]); r == utf8.RuneError && n == 1 {
			return unsupported(i, "text that is not UTF-8")
		}
	}
	root, err := parse(p.expr)
	if err != nil {
		return err
	}
	c := checker{}
	if _, err := c.check(root); err != nil {
		return err
	}
	p.root, p.locals = root, c.slots
	return nil
}

// String returns the expression.
func (p *Program) String() string { return p.expr }

// Match evaluates the expression for an event, as encoding/json decodes one. An error is an *EvalError: the expression
// fails, or its value is no boolean. The event is not changed and nothing of it is kept.
func (p *Program) Match(event map[string]any) (bool, error) {
	v, err := p.eval(event)
	if err != nil {
		return false, &EvalError{p.expr, err.Error()}
	}
	b, ok := v.(bool)
	if !ok {
		return false, &EvalError{p.expr, "the result of match expression was not a boolean"}
	}
	return b, nil
}

func (p *Program) eval(event map[string]any) (any, error) {
	f := frame{event: event, locals: make([]any, p.locals)}
	return p.root.eval(&f)
}

// frame is one evaluation.
type frame struct {
	event  any
	locals []any
	work   int
}

// node is a part of an expression that has a value.
type node interface {
	at() int // offset in the expression
	eval(f *frame) (any, error)
}

func refuse(pos int, format string, args ...any) *Error {
	return &Error{Pos: pos, Message: fmt.Sprintf(format, args...)}
}

func unsupported(pos int, format string, args ...any) *Error {
	return &Error{Pos: pos, Message: fmt.Sprintf(format, args...), Unsupported: true}
}
