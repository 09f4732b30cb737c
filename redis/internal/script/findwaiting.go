package script

// FindWaitingArgs are the named arguments of findwaiting.lua.
type FindWaitingArgs struct {
	ID     string
	Looked int64
	Before int
}

// Append appends them in their order.
func (a *FindWaitingArgs) Append(args []any) []any { return append(args, a.ID, a.Looked, a.Before) }

// ParseFindWaiting parses the reply of findwaiting.lua: how many stored runs at the tail were
// looked at, not positive if all were, and the entry, "" if it was not found.
func ParseFindWaiting(v any) (looked int64, entry string, err error) {
	reply, err := arrayOf("findwaiting", v, 2)
	if err != nil {
		return 0, "", err
	}
	return number(reply[0]), text(reply[1]), nil
}
