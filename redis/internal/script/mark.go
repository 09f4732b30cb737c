package script

// MarkArgs are the named arguments of mark.lua.
type MarkArgs struct {
	ID      string
	Failure []byte
	Keep    int64 // milliseconds
	Looked  int64
}

// Append appends them in their order.
func (a *MarkArgs) Append(args []any) []any {
	return append(args, a.ID, a.Failure, a.Keep, a.Looked)
}
