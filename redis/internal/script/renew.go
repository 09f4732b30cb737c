package script

import (
	"strconv"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// RenewKeys returns the named keys of renew.lua.
func RenewKeys(q *wire.QueueKeys, session string) []string {
	return []string{q.Leases, q.Lost(session), q.InFlight}
}

// RenewArgs are the named arguments of renew.lua.
type RenewArgs struct {
	Session string
	Lease   int64 // milliseconds
	Cursor  string
	Most    int
}

// Append appends them in their order.
func (a *RenewArgs) Append(args []any) []any {
	return append(args, a.Session, a.Lease, a.Cursor, a.Most)
}

// RenewReply is the reply of renew.lua to a call that lists.
type RenewReply struct {
	Lost    string  // when some of what the session held was last recovered
	Cursor  string  // "" at the end
	TooMany bool    // more is in flight than the caller wants listed: nothing is
	Numbers []int64 // of the session's batches in flight
	Ended   []int64 // of each bitmap, how many runs have ended
}

// ParseRenew parses the reply of renew.lua to a call that lists.
func ParseRenew(v any) (r RenewReply, err error) {
	reply, err := arrayOf("renew", v, 4)
	if err != nil {
		return r, err
	}
	r.Lost, r.Cursor = text(reply[0]), text(reply[1])
	if r.TooMany = r.Cursor == "-"; r.TooMany || r.Cursor == "0" {
		r.Cursor = ""
	}
	for _, name := range texts(reply[2]) {
		if n, err := strconv.ParseInt(name, 10, 64); err == nil {
			r.Numbers = append(r.Numbers, n)
		}
	}
	counts, _ := reply[3].([]any)
	for _, n := range counts {
		r.Ended = append(r.Ended, number(n))
	}
	return r, nil
}

// HeartbeatKeys returns the named keys of heartbeat.lua.
func HeartbeatKeys(q *wire.QueueKeys, session string) []string {
	return []string{q.Last, q.Cancels(session)}
}

// HeartbeatArgs are the named arguments of heartbeat.lua.
type HeartbeatArgs struct {
	Keep  int64 // milliseconds
	Tasks int
}

// Append appends them in their order.
func (a *HeartbeatArgs) Append(args []any) []any { return append(args, a.Keep, a.Tasks) }

// ParseHeartbeat parses the reply of heartbeat.lua: <number>:<index> of each run that is to
// end.
func ParseHeartbeat(v any) []string { return texts(v) }
