package script

import "github.com/taskgen/taskgen/redis/internal/wire"

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
