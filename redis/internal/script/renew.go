package script

import "github.com/taskgen/taskgen/redis/internal/wire"

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
