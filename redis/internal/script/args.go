package script

// Arguments are those of a script that have a name: the fields of a struct, in order.
type Arguments interface {
	Append(args []any) []any
}

// NoArgs are those of a script whose arguments have no names.
type NoArgs struct{}

// Append appends nothing.
func (*NoArgs) Append(args []any) []any { return args }

// yes is how scripts have a condition.
func yes(is bool) any {
	if is {
		return "1"
	}
	return "0"
}
