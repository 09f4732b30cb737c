package script

// OutboxArgs are the named arguments of outbox.lua.
type OutboxArgs struct {
	Skip, Entries, Bytes int
	From                 string
}

// Append appends them in their order.
func (a *OutboxArgs) Append(args []any) []any {
	return append(args, a.Skip, a.Entries, a.Bytes, a.From)
}
