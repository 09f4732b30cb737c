package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// StartKeys returns the named keys of start.lua.
func StartKeys(q *wire.QueueKeys, member, unique string) []string {
	return []string{q.Batch(member), q.Done(member), q.Unique(unique)}
}

// StartArgs are the named arguments of start.lua.
type StartArgs struct {
	Index int
	ID    string
}

// Append appends them in their order.
func (a *StartArgs) Append(args []any) []any { return append(args, a.Index, a.ID) }
