package script

import (
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// EnqueueKeys returns the named keys of enqueue.lua.
func EnqueueKeys(q *wire.QueueKeys) []string {
	return q.Keys(q.Ticks, q.Disabled, q.Dead, q.Outbox, q.Backlogs, q.Rounds, q.Policy, q.EndedFailed)
}

// EnqueueArgs are the named arguments of enqueue.lua.
type EnqueueArgs struct {
	Token string
	Calls int
}

// Append appends them in their order.
func (a *EnqueueArgs) Append(args []any) []any { return append(args, a.Token, a.Calls) }

// CallStatus is what enqueue.lua has done with one call.
type CallStatus int64

// The statuses of a call.
const (
	Stored       CallStatus = 0
	IDLives      CallStatus = 1 // a live run has one of the ids
	TickClaimed  CallStatus = 2
	TaskDisabled CallStatus = 3 // the task of the tick
	SourceGone   CallStatus = 4 // the source of the call is gone, or was replaced already
	ScheduleGone CallStatus = 5 // the schedule of the tick was changed or deleted, or its last tick is lost
	Undecided    CallStatus = 6 // a large call that is not decided has reserved an id or a unique key
	PendingGone  CallStatus = 7 // the run awaited a group, and its pendingRun is gone: it was cancelled, or the key is lost
	KeyLives     CallStatus = 8 // live runs have unique keys: the reply names them
	NotStored    CallStatus = 9 // the reply is the error
)

// EnqueueReply is the reply of enqueue.lua to one call.
type EnqueueReply struct {
	Status CallStatus
	Live   []LiveRun // of KeyLives
	Err    error     // of NotStored
}

// LiveRun is a live run with a unique key of a call.
type LiveRun struct {
	Key int // the place of the key among the call's unique keys, from 0
	ID  string
}

// ParseEnqueue parses the reply of enqueue.lua to so many calls.
func ParseEnqueue(v any, calls int) ([]EnqueueReply, error) {
	statuses, ok := v.([]any)
	if !ok || len(statuses) != calls {
		return nil, fmt.Errorf("unexpected reply %T of enqueue.lua", v)
	}
	replies := make([]EnqueueReply, calls)
	for i, v := range statuses {
		switch v := v.(type) {
		case int64:
			if v < 0 || v > int64(PendingGone) {
				return nil, fmt.Errorf("unexpected status %d of enqueue.lua", v)
			}
			replies[i].Status = CallStatus(v)
		case string:
			replies[i] = EnqueueReply{Status: NotStored, Err: resp.Error(v)}
		case []any:
			if len(v) < 2 {
				return nil, fmt.Errorf("unexpected status of %d values of enqueue.lua", len(v))
			}
			replies[i] = EnqueueReply{Status: KeyLives, Live: parseLiveRuns(v)}
		default:
			return nil, fmt.Errorf("unexpected status %T of enqueue.lua", v)
		}
	}
	return replies, nil
}

// parseLiveRuns parses places of unique keys, from 1, and ids, in turn.
func parseLiveRuns(list []any) (live []LiveRun) {
	for i := 0; i+1 < len(list); i += 2 {
		live = append(live, LiveRun{Key: int(number(list[i])) - 1, ID: text(list[i+1])})
	}
	return live
}
