package script

// FindWaitingArgs are the named arguments of findwaiting.lua.
type FindWaitingArgs struct {
	ID     string
	Looked int64
	Before int
}

// Append appends them in their order.
func (a *FindWaitingArgs) Append(args []any) []any { return append(args, a.ID, a.Looked, a.Before) }
