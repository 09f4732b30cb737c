package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// PendingKeys has the unique key only of a run that has one.
func PendingKeys(q *wire.QueueKeys, id string, unique ...string) []string {
	return append([]string{q.PendingRun(id), q.Owner(id), q.Record(id), q.Pending}, unique...)
}

// PendingArgs has all but the first three only to reserve.
type PendingArgs struct {
	Action, Token, ID string
	Where             string
	OwnID             bool
	Record            []byte
	Keep              int64 // milliseconds
	Unique            string
}

// Append appends them in their order.
func (a *PendingArgs) Append(args []any) []any {
	return append(args, a.Action, a.Token, a.ID, a.Where, yes(a.OwnID), a.Record, a.Keep, a.Unique)
}
