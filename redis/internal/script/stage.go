package script

import (
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// StageKeys returns the named keys of stage.lua.
func StageKeys(q *wire.QueueKeys, token string) []string { return []string{q.Stages, q.Staging(token)} }

// StageArgs are the named arguments of stage.lua.
type StageArgs struct {
	Token  string
	Lease  int64 // milliseconds
	Before int
	Check  bool
}

// Append appends them in their order.
func (a *StageArgs) Append(args []any) []any {
	return append(args, a.Token, a.Lease, a.Before, yes(a.Check))
}

// StageReply is the reply of stage.lua.
type StageReply struct {
	Gone  bool // the time of the call is over
	InWay []RunInWay
}

// RunInWay is a run that is in the way of one on the page.
type RunInWay struct {
	Run       int    // the place of the run on the page, from 0
	ID        string // of the run in its way, "" if it has the same id
	Undecided bool   // the run in its way is of a call that is not decided
}

// ParseStage parses the reply of stage.lua to a page of so many runs.
func ParseStage(v any, runs int) (r StageReply, err error) {
	others, _ := v.([]any)
	for i := 0; i+1 < len(others); i += 2 {
		n := number(others[i])
		place := int(max(n, -n))
		if place < 1 || place > runs {
			return r, fmt.Errorf("unexpected run %d in the reply of stage.lua", place)
		}
		r.InWay = append(r.InWay, RunInWay{place - 1, text(others[i+1]), n < 0})
	}
	r.Gone = v == int64(-1)
	return r, nil
}

// CommitKeys has the key of a group only where the runs are its members.
func CommitKeys(q *wire.QueueKeys, token string, group ...string) []string {
	return append([]string{q.Stages, q.Staged, q.Staging(token), q.Stub(token)}, group...)
}

// CommitArgs are the named arguments of commit.lua.
type CommitArgs struct {
	Token    string
	Runs     int
	Reserved string // the token that reserved the group
}

// Append appends them in their order.
func (a *CommitArgs) Append(args []any) []any { return append(args, a.Token, a.Runs, a.Reserved) }

// Replies of commit.lua.
const (
	Committed  = 0
	GroupBegun = 1 // another call has stored the members of the group
	StageGone  = 4 // the time of the call is over, or its group is gone
)

// UnstageKeys returns the named keys of unstage.lua.
func UnstageKeys(q *wire.QueueKeys, token string) []string {
	return q.Keys(q.Stages, q.Staged, q.Staging(token), q.Stub(token), q.Backlogs, q.Rounds, q.Policy, q.Dead, q.Trimmed)
}

// UnstageArgs are the named arguments of unstage.lua.
type UnstageArgs struct {
	Mode, Token string
	Left, Page  int
	MaxDead     int
	Failure     string // of entries that cannot be read
}

// Append appends them in their order.
func (a *UnstageArgs) Append(args []any) []any {
	return append(args, a.Mode, a.Token, a.Left, a.Page, a.MaxDead, a.Failure)
}

// Codes that unstage.lua returns instead of how many runs are left.
const (
	StageNotCommitted = -1
	StageCommitted    = -2
	StageNotOver      = -3 // the time of the call, which may still be committed
)
