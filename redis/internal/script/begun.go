package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// MarkBegunKeys returns the named keys of markbegun.lua and recordrunning.lua.
func MarkBegunKeys(q *wire.QueueKeys, name string) []string {
	return []string{q.Batch(name), q.Done(name)}
}

// MarkBegunArgs are the named arguments of markbegun.lua and recordrunning.lua.
type MarkBegunArgs struct {
	Index, Bits int
}

// Append appends them in their order.
func (a *MarkBegunArgs) Append(args []any) []any { return append(args, a.Index, a.Bits) }

// SpareArgs are the named arguments of spare.lua.
type SpareArgs struct {
	Keep   int64 // milliseconds
	Listed bool
}

// Append appends them in their order.
func (a *SpareArgs) Append(args []any) []any { return append(args, a.Keep, yes(a.Listed)) }
