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

// ParseReserveGroup parses the reply of group.lua to reserve: whether there is another such
// group.
func ParseReserveGroup(v any) (other bool, err error) { return conditionOf("group", v) }

// ParseDropGroup parses the reply of group.lua to drop: whether the group stays because its
// members are stored. Else it is gone.
func ParseDropGroup(v any) (stays bool, err error) {
	n, err := integerOf("group", v, 0, 2)
	return n == 1, err
}
