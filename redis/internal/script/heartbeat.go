package script

import "github.com/taskgen/taskgen/redis/internal/wire"

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
