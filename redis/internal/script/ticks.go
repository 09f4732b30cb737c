package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// RestoreTickKeys returns the named keys of restoretick.lua.
func RestoreTickKeys(q *wire.QueueKeys) []string { return []string{q.Ticks, q.Schedules} }

// RestoreTickArgs are the named arguments of restoretick.lua.
type RestoreTickArgs struct {
	Field, Tick, Schedule string
}

// Append appends them in their order.
func (a *RestoreTickArgs) Append(args []any) []any { return append(args, a.Field, a.Tick, a.Schedule) }

// RewindArgs are the named arguments of rewind.lua.
type RewindArgs struct {
	Field, Claimed, Instead string
}

// Append appends them in their order.
func (a *RewindArgs) Append(args []any) []any { return append(args, a.Field, a.Claimed, a.Instead) }
