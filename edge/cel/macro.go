package cel

// The macros of CEL. A name with the right number of arguments is a macro, whatever the types.
const (
	macroAll       = "all"
	macroExists    = "exists"
	macroExistsOne = "exists_one"
	macroMap       = "map"
	macroFilter    = "filter"
)

// foldNode applies body, with each element in a variable, as one of the macros does. Filter is the condition of a map
// with three arguments.
type foldNode struct {
	place
	macro        string
	over         node
	variable     string
	slot         int  // of the variable; set by the checker, as is element
	element      *typ // of what the variable holds
	filter, body node
}

func globalCall(name token, args []node) (node, *Error) {
	if name.text != "has" || len(args) != 1 {
		return &callNode{place: place(name.pos), name: name.text, args: args}, nil
	}
	sel, ok := args[0].(*selectNode)
	if !ok {
		return nil, refuse(args[0].at(), "invalid argument to has() macro")
	}
	return &selectNode{place: place(name.pos), x: sel.x, field: sel.field, test: true}, nil
}

func memberCall(name token, x node, args []node) (node, *Error) {
	n := &foldNode{place: place(name.pos), macro: name.text, over: x}
	switch {
	case name.text == macroMap && len(args) == 3:
		n.filter = args[1]
	case len(args) == 2 && containsWord(" all exists exists_one map filter ", name.text):
	default:
		return &callNode{place: place(name.pos), name: name.text, member: true, args: append([]node{x}, args...)}, nil
	}
	n.body = args[len(args)-1]
	v, ok := args[0].(*identNode)
	if !ok {
		return nil, refuse(args[0].at(), "the first argument of %s() must be a simple name", name.text)
	}
	if v.name == "__result__" {
		return nil, refuse(args[0].at(), "the name __result__ belongs to the macros")
	}
	n.variable = v.name
	return n, nil
}

func (n *foldNode) eval(f *frame) (any, error) {
	over, err := n.over.eval(f)
	if err != nil {
		return nil, err
	}
	fold := folder{n: n, f: f, verdict: n.macro == macroAll}
	switch over := over.(type) {
	case []any:
		for _, e := range over {
			if !fold.add(norm(e)) {
				break
			}
		}
	case map[string]any:
		for k := range over {
			if !fold.add(k) {
				break
			}
		}
	case *mapping:
		for k := range over.entries {
			if !fold.add(unkey(k)) {
				break
			}
		}
	default:
		return nil, failf("%s() needs a list or a map, not %s", n.macro, typeOf(over))
	}
	return fold.result()
}

// folder gathers what the body says of the elements.
type folder struct {
	n       *foldNode
	f       *frame
	err     error
	verdict bool
	count   int
	list    []any
}

// add takes the next element and reports whether another one can matter.
func (a *folder) add(element any) bool {
	a.f.locals[a.n.slot] = element
	if a.f.work++; a.f.work > maxWork {
		a.err = failf("more than %d rounds of macros", maxWork)
		return false
	}
	if cond := a.n.filter; cond != nil {
		if ok, err := truth(cond.eval(a.f)); err != nil || !ok {
			return a.fail(err)
		}
	}
	v, err := a.n.body.eval(a.f)
	if a.n.macro == macroMap {
		a.list = append(a.list, v)
		return a.fail(err)
	}
	ok, err := truth(v, err)
	switch a.n.macro {
	case macroAll, macroExists:
		// An error is no verdict: a later element may still decide.
		if err == nil && ok != (a.n.macro == macroAll) {
			a.verdict, a.err = ok, nil
			return false
		}
		if a.err == nil {
			a.err = err
		}
		return true
	case macroFilter:
		if ok {
			a.list = append(a.list, element)
		}
	case macroExistsOne:
		if ok {
			a.count++
		}
	}
	return a.fail(err)
}

// fail keeps the first error and reports whether to go on, which errors of these macros end.
func (a *folder) fail(err error) bool {
	a.err = err
	return err == nil
}

func (a *folder) result() (any, error) {
	switch {
	case a.err != nil:
		return nil, a.err
	case a.n.macro == macroExistsOne:
		return a.count == 1, nil
	case a.n.macro == macroAll || a.n.macro == macroExists:
		return a.verdict, nil
	case a.list == nil:
		return []any{}, nil
	}
	return a.list, nil
}
