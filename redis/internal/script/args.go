package script

// Arguments are the arguments of a script that have a name: the fields of a struct, in order.
type Arguments interface {
	Append(args []any) []any
}

// NoArgs is for a script without arguments that have a name.
type NoArgs struct{}

// Append appends nothing.
func (*NoArgs) Append(args []any) []any { return args }

// yes returns a condition as scripts take it.
func yes(is bool) any {
	if is {
		return "1"
	}
	return "0"
}
