package script

// SurvivedArgs are the named arguments of survived.lua.
type SurvivedArgs struct {
	Keep   int64 // milliseconds
	Listed bool
}

// Append appends them in their order.
func (a *SurvivedArgs) Append(args []any) []any { return append(args, a.Keep, yes(a.Listed)) }
