package script

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// FinishKeys returns the named keys of finish.lua.
func FinishKeys(q *wire.QueueKeys) []string {
	return q.Keys(q.InFlight, q.Dead, q.Trimmed, q.Waiters, q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running, q.Outbox, q.EndedSucceeded, q.EndedFailed)
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
// its index in the batch, or one of the indexes below.
type RunPlace struct {
	Batch, Index int
}

// Indexes in a reply of finish.lua that are of no single run. Scripts name them
// INDEX.PLAIN_RUNS and so on.
const (
	PlainRuns   = -1 // fenced: all runs of the batch without operations
	BatchStays  = -2 // failed: all runs of the batch have ended, and it cannot be deleted
	StillListed = -3 // failed: the batch is deleted, and inflight lists it still
	NotTrimmed  = -4 // failed: dead letters beyond the cap are not trimmed; it is of no batch
)

// indexes are these by their names in scripts.
var indexes = map[string]string{
	"PLAIN_RUNS":   strconv.Itoa(PlainRuns),
	"BATCH_STAYS":  strconv.Itoa(BatchStays),
	"STILL_LISTED": strconv.Itoa(StillListed),
	"NOT_TRIMMED":  strconv.Itoa(NotTrimmed),
}

// FinishFailure is the error by which an outcome was not applied, or what its index says was
// not done.
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
		run, err := parseRunPlace(fenced[i:], batches, PlainRuns)
		if err != nil {
			return r, err
		}
		r.Fenced = append(r.Fenced, run)
	}
	r.Waiters = parseWaiters(reply[1])
	r.Sent, r.Trimmed = number(reply[2]) > 0, number(reply[3])
	failures, _ := reply[4].([]any)
	for i := 0; i+2 < len(failures); i += 3 {
		run, err := parseRunPlace(failures[i:], batches, BatchStays, StillListed, NotTrimmed)
		if err != nil {
			return r, err
		}
		r.Failures = append(r.Failures, FinishFailure{run, resp.Error(text(failures[i+2]))})
	}
	return r, nil
}

// parseRunPlace parses the place of a batch among so many, and an index: a run's, or one of
// those of no single run that can be there.
func parseRunPlace(values []any, batches int, others ...int) (RunPlace, error) {
	run := RunPlace{int(number(values[0])) - 1, int(number(values[1]))}
	if ofNoBatch := run.Index == NotTrimmed; ofNoBatch != (run.Batch == -1) || run.Batch < -1 || run.Batch >= batches {
		return run, fmt.Errorf("unexpected batch %d in the reply of finish.lua", run.Batch+1)
	}
	if run.Index < 0 && !slices.Contains(others, run.Index) {
		return run, fmt.Errorf("unexpected index %d in the reply of finish.lua", run.Index)
	}
	return run, nil
}

// parseWaiters parses waiters and run ids, which follow each other.
func parseWaiters(v any) (waiters []Waiter) {
	list, _ := v.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		waiters = append(waiters, Waiter{text(list[i]), text(list[i+1])})
	}
	return waiters
}

// The operations of an outcome, by the letters that stand for them on the wire. Scripts name
// them OP.FREE_ID and so on (include/operations.lua).
const (
	OpFreeID        = 'i' // the run's id is free again
	OpFreeUnique    = 'u' // the unique key is free again, if it is this run's
	OpReleaseLimits = 'l' // the run counts no more at its limits
	OpReady         = 'h' // back to the head of its ready list, or of its backlog
	OpDelay         = 'd' // back, due after a delay
	OpWake          = 'w' // wakes a consumer, which learns when the first run is due
	OpBury          = 'x' // adds a dead letter
	OpRecord        = 'r' // sets the record of a run that goes on
	OpEndRecord     = 'e' // sets the record of a run that has ended
	OpSend          = 'o' // adds an entry to the outbox
	OpEndMember     = 'g' // notes the end of a member of a group
	OpKeepGroup     = 'k' // keeps the group that the run gathered for so long
	OpIfCancelled   = 'c' // the first operation: does the next ones if a cancel of the run is stored, else the rest
)

// operations are the letters by their names in scripts.
var operations = map[string]string{
	"FREE_ID":        "'" + string(OpFreeID) + "'",
	"FREE_UNIQUE":    "'" + string(OpFreeUnique) + "'",
	"RELEASE_LIMITS": "'" + string(OpReleaseLimits) + "'",
	"READY":          "'" + string(OpReady) + "'",
	"DELAY":          "'" + string(OpDelay) + "'",
	"WAKE":           "'" + string(OpWake) + "'",
	"BURY":           "'" + string(OpBury) + "'",
	"RECORD":         "'" + string(OpRecord) + "'",
	"END_RECORD":     "'" + string(OpEndRecord) + "'",
	"SEND":           "'" + string(OpSend) + "'",
	"END_MEMBER":     "'" + string(OpEndMember) + "'",
	"KEEP_GROUP":     "'" + string(OpKeepGroup) + "'",
	"IF_CANCELLED":   "'" + string(OpIfCancelled) + "'",
}
