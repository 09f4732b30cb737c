package script

// TallyArgs are the named arguments of tally.lua.
type TallyArgs struct {
	Ends    int64 // milliseconds since the epoch
	Longest int64 // milliseconds
	Highest int
}

// Append appends them in their order.
func (a *TallyArgs) Append(args []any) []any { return append(args, a.Ends, a.Longest, a.Highest) }

// TalliesArgs are the named arguments of tallies.lua.
type TalliesArgs struct {
	Room int // series
}

// Append appends them in their order.
func (a *TalliesArgs) Append(args []any) []any { return append(args, a.Room) }

// TalliesReply is the reply of tallies.lua for one key.
type TalliesReply struct {
	Series  []string // in turn a task and its series
	TooMany int64    // tasks there are; 0: all of them were read
	Odd     bool     // the key cannot be read
}

// ParseTallies parses the reply of tallies.lua for n keys.
func ParseTallies(v any, n int) ([]TalliesReply, error) {
	reply, err := arrayOf("tallies", v, n)
	if err != nil {
		return nil, err
	}
	found := make([]TalliesReply, n)
	for i := range reply {
		switch r := reply[i].(type) {
		case int64:
			found[i].TooMany = r
		case []any:
			found[i].Series = texts(r)
			found[i].Odd = len(r)%2 != 0
		default:
			found[i].Odd = true
		}
	}
	return found, nil
}
