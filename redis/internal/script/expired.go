package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// ExpiredKeys returns the named keys of expired.lua.
func ExpiredKeys(q *wire.QueueKeys) []string {
	return []string{q.InFlight, q.Leases, q.Takes, q.Outbox, q.Pending, q.Stages}
}

// ExpiredArgs are the named arguments of expired.lua.
type ExpiredArgs struct {
	Cursor string
	Page   int
}

// Append appends them in their order.
func (a *ExpiredArgs) Append(args []any) []any { return append(args, a.Cursor, a.Page) }

// ExpiredReply is the reply of expired.lua.
type ExpiredReply struct {
	Cursor  string   // "" at the end
	Batches []string // <session>:<number>
	// How much is in the outbox, in pending and in stages.
	Outbox, Pending, Stages int64
}

// ParseExpired parses the reply of expired.lua.
func ParseExpired(v any) (ExpiredReply, error) {
	reply, err := arrayOf("expired", v, 5)
	if err != nil {
		return ExpiredReply{}, err
	}
	r := ExpiredReply{text(reply[0]), texts(reply[1]), number(reply[2]), number(reply[3]), number(reply[4])}
	if r.Cursor == "0" {
		r.Cursor = ""
	}
	return r, nil
}
