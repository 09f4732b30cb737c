package script

// FindArgs are the named arguments of find.lua.
type FindArgs struct {
	ID     string
	Looked int64
	Before int
}

// Append appends them in their order.
func (a *FindArgs) Append(args []any) []any { return append(args, a.ID, a.Looked, a.Before) }
