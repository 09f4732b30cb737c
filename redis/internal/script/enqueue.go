package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// EnqueueKeys returns the named keys of enqueue.lua.
func EnqueueKeys(q *wire.QueueKeys) []string {
	return q.Keys(q.Ticks, q.Disabled, q.Dead, q.Outbox, q.Waiting, q.Rounds, q.Policy)
}

// EnqueueArgs are the named arguments of enqueue.lua.
type EnqueueArgs struct {
	Token  string
	Groups int
}

// Append appends them in their order.
func (a *EnqueueArgs) Append(args []any) []any { return append(args, a.Token, a.Groups) }
