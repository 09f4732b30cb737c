package script

import (
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// EndWaitingKeys returns the named keys of endwaiting.lua.
func EndWaitingKeys(q *wire.QueueKeys, place string) []string {
	return q.Keys(q.Dead, q.Trimmed, q.Waiters, q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running, q.Outbox, q.EndedSucceeded, q.EndedFailed, place)
}

// EndWaitingArgs are the named arguments of endwaiting.lua.
type EndWaitingArgs struct {
	MaxDead, BeforeID int
	Entry, Operations string
}

// Append appends them in their order.
func (a *EndWaitingArgs) Append(args []any) []any {
	return append(args, a.MaxDead, a.BeforeID, a.Entry, a.Operations)
}

// EndWaitingReply is the reply of endwaiting.lua.
type EndWaitingReply struct {
	Ended   bool // the run was where the caller saw it
	Waiters []Waiter
	Sent    bool // entries were added to the outbox
}

// ParseEndWaiting parses the reply of endwaiting.lua.
func ParseEndWaiting(v any) (r EndWaitingReply, err error) {
	reply, err := arrayOf("endwaiting", v, 3)
	if err != nil {
		return r, err
	}
	return EndWaitingReply{Ended: number(reply[0]) == 1, Waiters: parseWaiters(reply[1]), Sent: number(reply[2]) > 0}, nil
}

// FreeUniqueKeys returns the named keys of freeunique.lua.
func FreeUniqueKeys(q *wire.QueueKeys, name, unique string) []string {
	return []string{q.Batch(name), q.Done(name), q.Unique(unique)}
}

// FreeUniqueArgs are the named arguments of freeunique.lua.
type FreeUniqueArgs struct {
	Index int
	ID    string
}

// Append appends them in their order.
func (a *FreeUniqueArgs) Append(args []any) []any { return append(args, a.Index, a.ID) }

// ParseFreeUnique parses the reply of freeunique.lua: whether the caller still holds the run.
func ParseFreeUnique(v any) (held bool, err error) { return conditionOf("freeunique", v) }
