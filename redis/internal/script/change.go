package script

import (
	"errors"
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// EndRunsArgs are the named arguments of endruns.lua.
type EndRunsArgs struct {
	MaxDead, BeforeID, Entries int
}

// Append appends them in their order.
func (a *EndRunsArgs) Append(args []any) []any {
	return append(args, a.MaxDead, a.BeforeID, a.Entries)
}

// EndRunsReply is the reply of endruns.lua.
type EndRunsReply struct {
	Changes []EntryChange
	Waiters []Waiter
	Sent    bool // entries were added to the outbox
}

// EntryChange is what became of an entry that a script was to change.
type EntryChange struct {
	Done bool  // else it was not there, or
	Err  error // it stays
}

// ParseEndRuns parses the reply of endruns.lua for n entries.
func ParseEndRuns(v any, n int) (r EndRunsReply, err error) {
	reply, err := arrayOf("endruns", v, 3)
	if err != nil {
		return r, err
	}
	r.Changes, err = parseChanges("endruns", reply[0], n)
	r.Waiters, r.Sent = parseWaiters(reply[1]), number(reply[2]) > 0
	return r, err
}

func parseChanges(script string, v any, n int) ([]EntryChange, error) {
	list, err := arrayOf(script, v, n)
	if err != nil {
		return nil, err
	}
	changes := make([]EntryChange, n)
	for i, status := range list {
		switch status := status.(type) {
		case int64:
			changes[i].Done = status == 1
		case string:
			changes[i].Err = errors.New(status)
		default:
			return nil, fmt.Errorf("unexpected status %T of %s.lua", status, script)
		}
	}
	return changes, nil
}

// RunNowKeys returns the named keys of runnow.lua.
func RunNowKeys(q *wire.QueueKeys) []string { return q.Keys(q.Backlogs, q.Rounds, q.Policy) }

// RunNowArgs are the named arguments of runnow.lua.
type RunNowArgs struct {
	Runs int
}

// Append appends them in their order.
func (a *RunNowArgs) Append(args []any) []any { return append(args, a.Runs) }

// ParseRunNow parses the reply of runnow.lua for n runs.
func ParseRunNow(v any, n int) ([]EntryChange, error) { return parseChanges("runnow", v, n) }

// CancelRunsArgs are the named arguments of cancelruns.lua.
type CancelRunsArgs struct {
	Failure []byte
	Keep    int64 // milliseconds
}

// Append appends them in their order.
func (a *CancelRunsArgs) Append(args []any) []any { return append(args, a.Failure, a.Keep) }

// ParseCancelRuns parses the reply of cancelruns.lua for n runs.
func ParseCancelRuns(v any, n int) ([]EntryChange, error) { return parseChanges("cancelruns", v, n) }
