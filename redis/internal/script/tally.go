package script

// TallyArgs are the named arguments of tally.lua.
type TallyArgs struct {
	Ends    int64 // milliseconds since the epoch
	Longest int64 // milliseconds
	Highest int
}

// Append appends them in their order.
func (a *TallyArgs) Append(args []any) []any { return append(args, a.Ends, a.Longest, a.Highest) }
