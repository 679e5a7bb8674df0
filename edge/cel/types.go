package cel

import (
	"slices"
	"strings"
)

// kind is what a type is before its parameters, named as in CEL.
type kind string

const (
	kindDyn       kind = "dyn"
	kindAny       kind = "any" // dyn, but nothing to loop over
	kindBool      kind = "bool"
	kindInt       kind = "int"
	kindUint      kind = "uint"
	kindDouble    kind = "double"
	kindString    kind = "string"
	kindBytes     kind = "bytes"
	kindNull      kind = "null_type"
	kindList      kind = "list"
	kindMap       kind = "map"
	kindType      kind = "type"
	kindTimestamp kind = "google.protobuf.Timestamp"
	kindDuration  kind = "google.protobuf.Duration"
	kindVar       kind = "variable"
)

// typeNames are the types that expressions can name.
const typeNames = " bool int uint double string bytes null_type list map type "

// typ is a type. Types are not changed once made.
type typ struct {
	kind   kind
	params []*typ // of lists and maps
	id     int    // of a variable
}

// These types are immutable, as all are.
var (
	dyn     = &typ{kind: kindDyn}
	anyType = &typ{kind: kindAny} // of event
	boolean = &typ{kind: kindBool}
)

func (t *typ) isDyn() bool { return t.kind == kindDyn || t.kind == kindAny }

func (t *typ) String() string {
	switch t.kind {
	case kindVar:
		return string(kindDyn)
	case kindList:
		return "list(" + t.params[0].String() + ")"
	case kindMap:
		return "map(" + t.params[0].String() + ", " + t.params[1].String() + ")"
	}
	return string(t.kind)
}

// fresh returns a new type variable.
func (c *checker) fresh() *typ {
	c.bound = append(c.bound, nil)
	return &typ{kind: kindVar, id: len(c.bound) - 1}
}

// resolve replaces the variables in t that are known.
func (c *checker) resolve(t *typ) *typ {
	if t.kind == kindVar {
		if b := c.bound[t.id]; b != nil {
			return c.resolve(b)
		}
		return t
	}
	if len(t.params) == 0 {
		return t
	}
	r := &typ{kind: t.kind, params: make([]*typ, len(t.params))}
	for i, p := range t.params {
		r.params[i] = c.resolve(p)
	}
	return r
}

func same(a, b *typ) bool {
	return a.kind == b.kind && a.id == b.id && slices.EqualFunc(a.params, b.params, same)
}

// assignable reports whether each of from fits its place in to, and binds variables if all do.
func (c *checker) assignable(from, to []*typ) bool {
	before := slices.Clone(c.bound)
	if c.fitAll(from, to) {
		return true
	}
	copy(c.bound, before)
	return false
}

func (c *checker) fitAll(from, to []*typ) bool {
	return slices.EqualFunc(from, to, c.fit)
}

func (c *checker) fit(from, to *typ) bool {
	if to.kind == kindVar {
		ok, known := c.bind(from, to)
		if ok {
			return true
		}
		if known {
			return false
		}
	}
	if from.kind == kindVar {
		ok, _ := c.bind(to, from)
		return ok
	}
	switch {
	case from.isDyn() || to.isDyn():
		return true
	case from.kind == kindNull || to.kind == kindNull:
		return from.kind == to.kind || nullable(from) || nullable(to)
	case from.kind == kindList || from.kind == kindMap:
		return from.kind == to.kind && c.fitAll(from.params, to.params)
	}
	return from.kind == to.kind
}

// nullable types fit null, for the sake of older expressions.
func nullable(t *typ) bool { return t.kind == kindTimestamp || t.kind == kindDuration }

// bind makes a variable stand for t, or for the more general of t and what it stands for. Known says that it stood for
// something.
func (c *checker) bind(t, variable *typ) (ok, known bool) {
	if same(t, variable) {
		return true, true
	}
	if b := c.bound[variable.id]; b != nil {
		if same(t, b) {
			return true, true
		}
		if !c.fit(t, b) {
			return false, true
		}
		if g := mostGeneral(t, b); !c.occurs(variable, g) {
			c.bound[variable.id] = g
		}
		return true, true
	}
	if c.occurs(variable, t) {
		return false, false
	}
	c.bound[variable.id] = t
	return true, false
}

// occurs reports whether a variable is part of t.
func (c *checker) occurs(variable, t *typ) bool {
	if t.kind == kindVar {
		return t.id == variable.id || c.bound[t.id] != nil && c.occurs(variable, c.bound[t.id])
	}
	return slices.ContainsFunc(t.params, func(p *typ) bool { return c.occurs(variable, p) })
}

// mostGeneral returns the more general of two types that fit each other.
func mostGeneral(a, b *typ) *typ {
	if lessSpecific(a, b) {
		return a
	}
	return b
}

func lessSpecific(a, b *typ) bool {
	switch {
	case a.isDyn() || a.kind == kindVar:
		return true
	case b.isDyn() || b.kind == kindVar:
		return false
	}
	return a.kind == b.kind && slices.EqualFunc(a.params, b.params, lessSpecific)
}

// signatures returns the overloads of a function: one letter per type (see instantiate), the result last, and whether
// there is a function of that name at all.
func signatures(name string, member bool) ([]string, bool) {
	var s string
	switch name {
	case "==", "!=":
		s = "AAb"
	case "?:":
		s = "bAAA"
	case "!_":
		s = "bb"
	case "-_":
		s = "dd ii"
	case "<", "<=", ">", ">=":
		s = "bbb iib uub ddb ssb yyb ttb rrb"
	case "+":
		s = "yyy ddd rrr rtt trt iii LLL sss uuu"
	case "-":
		s = "ddd rrr iii trt ttr uuu"
	case "*", "/":
		s = "ddd iii uuu"
	case "%":
		s = "iii uuu"
	case "[]":
		s = "LiA MAB"
	case "in":
		s = "ALb AMb"
	case "size":
		return strings.Fields("yi Li Mi si"), true
	case "matches":
		return []string{"ssb"}, true
	case "contains", "startsWith", "endsWith":
		if member {
			return []string{"ssb"}, true
		}
		return nil, true
	default:
		if s = conversions(name); s == "" {
			return nil, false
		}
	}
	if member {
		return nil, true
	}
	return strings.Fields(s), true
}

func conversions(name string) string {
	switch name {
	case "bool":
		return "bb sb"
	case "bytes":
		return "yy sy"
	case "double":
		return "dd id sd ud"
	case "int":
		return "ii di ri si ti ui"
	case "uint":
		return "uu du iu su"
	case "string":
		return "ss bs ys ds rs is ts us"
	case "timestamp":
		return "tt it st"
	case "duration":
		return "rr sr"
	case "dyn":
		return "A*"
	case "type":
		return "AT"
	}
	return ""
}

// instantiate returns the types of a signature, with variables of their own: A and B any type, L a list of A, M a map of A
// to B.
func (c *checker) instantiate(signature string) (params []*typ, result *typ) {
	a, b := c.fresh(), c.fresh()
	types := make([]*typ, len(signature))
	for i, letter := range signature {
		switch letter {
		case 'A':
			types[i] = a
		case 'B':
			types[i] = b
		case 'L':
			types[i] = &typ{kind: kindList, params: []*typ{a}}
		case 'M':
			types[i] = &typ{kind: kindMap, params: []*typ{a, b}}
		default:
			types[i] = &typ{kind: kindOf(letter)}
		}
	}
	return types[:len(types)-1], types[len(types)-1]
}

func kindOf(letter rune) kind {
	switch letter {
	case 'b':
		return kindBool
	case 'i':
		return kindInt
	case 'u':
		return kindUint
	case 'd':
		return kindDouble
	case 's':
		return kindString
	case 'y':
		return kindBytes
	case 't':
		return kindTimestamp
	case 'r':
		return kindDuration
	case 'T':
		return kindType
	}
	return kindDyn
}

// containsWord reports whether a list of words, with spaces around each, has the word.
func containsWord(list, word string) bool { return strings.Contains(list, " "+word+" ") }
