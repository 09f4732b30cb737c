package script

import "github.com/taskgen/taskgen/redis/internal/wire"

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
