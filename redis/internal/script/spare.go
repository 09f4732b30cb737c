package script

// SpareArgs are the named arguments of spare.lua.
type SpareArgs struct {
	Keep   int64 // milliseconds
	Listed bool
}

// Append appends them in their order.
func (a *SpareArgs) Append(args []any) []any { return append(args, a.Keep, yes(a.Listed)) }
