package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// RecordKeys has what is committed of large calls last, which not all look at.
func RecordKeys(q *wire.QueueKeys, id string) []string {
	return []string{q.Record(id), q.Waiters, q.Progress(id), q.Staged}
}

// RecordArgs are the named arguments of record.lua.
type RecordArgs struct {
	Waiter, ID string
}

// Append appends them in their order.
func (a *RecordArgs) Append(args []any) []any { return append(args, a.Waiter, a.ID) }
