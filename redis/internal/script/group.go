package script

// GroupArgs has all but the first two only to reserve a group.
type GroupArgs struct {
	Action, Token   string
	Size            int
	Entry           []byte
	Keep, KeepEnded int64 // milliseconds
}

// Append appends them in their order.
func (a *GroupArgs) Append(args []any) []any {
	return append(args, a.Action, a.Token, a.Size, a.Entry, a.Keep, a.KeepEnded)
}
