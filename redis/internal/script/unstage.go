package script

import "github.com/taskgen/taskgen/redis/internal/wire"

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
