package script

import (
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// FinishKeys returns the named keys of finish.lua.
func FinishKeys(q *wire.QueueKeys) []string {
	return q.Keys(q.InFlight, q.Dead, q.Trimmed, q.Waiters, q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running, q.Outbox)
}

// FinishArgs are the named arguments of finish.lua.
type FinishArgs struct {
	MaxDead, Batches int
	BeforeID         int // how many bytes of a record's key come before the id
}

// Append appends them in their order.
func (a *FinishArgs) Append(args []any) []any {
	return append(args, a.MaxDead, a.Batches, a.BeforeID)
}

// FinishReply is the reply of finish.lua.
type FinishReply struct {
	Fenced   []RunPlace
	Waiters  []Waiter
	Sent     bool  // entries were added to the outbox
	Trimmed  int64 // dead letters beyond the cap
	Failures []FinishFailure
}

// RunPlace names a run of a finish call: its batch by the place in the call, from 0, and
// its index in the batch. The index is negative for all runs of the batch without operations.
type RunPlace struct {
	Batch, Index int
}

// FinishFailure is the error by which an outcome was not applied. If the index is negative,
// the batch stays although all its runs have ended; if the batch is negative too, the error
// is of no batch.
type FinishFailure struct {
	RunPlace
	Err error
}

// Waiter is the name of a waiter, and the ended run that it waits for.
type Waiter struct {
	Name, RunID string
}

// ParseFinish parses the reply of finish.lua to a call with so many batches.
func ParseFinish(v any, batches int) (r FinishReply, err error) {
	reply, err := arrayOf("finish", v, 5)
	if err != nil {
		return r, err
	}
	fenced, _ := reply[0].([]any)
	for i := 0; i+1 < len(fenced); i += 2 {
		run, err := parseRunPlace(fenced[i:], 1, batches)
		if err != nil {
			return r, err
		}
		r.Fenced = append(r.Fenced, run)
	}
	r.Waiters = parseWaiters(reply[1])
	r.Sent, r.Trimmed = number(reply[2]) > 0, number(reply[3])
	failures, _ := reply[4].([]any)
	for i := 0; i+2 < len(failures); i += 3 {
		run, err := parseRunPlace(failures[i:], 0, batches)
		if err != nil {
			return r, err
		}
		r.Failures = append(r.Failures, FinishFailure{run, resp.Error(text(failures[i+2]))})
	}
	return r, nil
}

// parseRunPlace parses the place of a batch, which is between two bounds, and an index.
func parseRunPlace(values []any, least, most int) (RunPlace, error) {
	place, index := number(values[0]), number(values[1])
	if int(place) < least || int(place) > most {
		return RunPlace{}, fmt.Errorf("unexpected batch %d in the reply of finish.lua", place)
	}
	return RunPlace{int(place) - 1, int(index)}, nil
}

// parseWaiters parses waiters and run ids, which follow each other.
func parseWaiters(v any) (waiters []Waiter) {
	list, _ := v.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		waiters = append(waiters, Waiter{text(list[i]), text(list[i+1])})
	}
	return waiters
}
