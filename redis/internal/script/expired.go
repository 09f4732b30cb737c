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
