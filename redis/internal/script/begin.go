package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// BeginKeys returns the named keys of begin.lua and started.lua.
func BeginKeys(q *wire.QueueKeys, member string) []string {
	return []string{q.Batch(member), q.Done(member)}
}

// BeginArgs are the named arguments of begin.lua and started.lua.
type BeginArgs struct {
	Index, Bits int
}

// Append appends them in their order.
func (a *BeginArgs) Append(args []any) []any { return append(args, a.Index, a.Bits) }
