package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// AttendKeys returns the named keys of attend.lua.
func AttendKeys(q *wire.QueueKeys, session string) []string {
	return []string{q.Last, q.Cancels(session)}
}

// AttendArgs are the named arguments of attend.lua.
type AttendArgs struct {
	Keep  int64 // milliseconds
	Tasks int
}

// Append appends them in their order.
func (a *AttendArgs) Append(args []any) []any { return append(args, a.Keep, a.Tasks) }
