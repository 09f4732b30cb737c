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

// ParseOutbox parses the reply of outbox.lua: how many entries are behind those that it read,
// and these.
func ParseOutbox(v any) (behind int64, entries []string, err error) {
	reply, err := arrayOf("outbox", v, 2)
	if err != nil {
		return 0, nil, err
	}
	return number(reply[0]), texts(reply[1]), nil
}
