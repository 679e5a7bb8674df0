package cel

// Eval returns the value of the expression for any event.
func (p *Program) Eval(event any) (any, error) {
	f := frame{event: event, locals: make([]any, p.locals)}
	return p.root.eval(&f)
}

// Mapping is a map that an expression made.
type Mapping = mapping

// Describe returns a value for the tests to look at: the entries of a map that an expression made, the name of a type.
func Describe(v any) any {
	switch v := norm(v).(type) {
	case *mapping:
		var entries [][2]any
		for k, e := range v.entries {
			entries = append(entries, [2]any{unkey(k), e})
		}
		return entries
	case typeName:
		return "type " + string(v)
	default:
		return v
	}
}
