package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// FinishKeys returns the named keys of finish.lua.
func FinishKeys(q *wire.QueueKeys) []string {
	return q.Keys(q.InFlight, q.Dead, q.Dropped, q.Waiters, q.Waiting, q.Rounds, q.Policy, q.Recheck, q.Held, q.Outbox)
}

// FinishArgs are the named arguments of finish.lua.
type FinishArgs struct {
	MaxDead, Slots int
	BeforeID       int // how many bytes of a record's key come before the id
}

// Append appends them in their order.
func (a *FinishArgs) Append(args []any) []any { return append(args, a.MaxDead, a.Slots, a.BeforeID) }
