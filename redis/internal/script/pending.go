package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// PendingKeys has the unique key only of a run that has one. The group that the run awaits may
// have the same token, and be kept in the same queue.
func PendingKeys(q *wire.QueueKeys, id, token string, unique ...string) []string {
	return append([]string{q.PendingRun(id), q.Owner(id), q.Record(id), q.Pending, q.Moved(token + wire.GatheringOpens)}, unique...)
}

// PendingMoved is the place of the key moved among those of pending.lua.
const PendingMoved = 4

// PendingArgs has all but the first three only to reserve, and of these Record and Keep to lose.
type PendingArgs struct {
	Action, Token, ID string
	Value             []byte
	OwnID             bool
	Record            []byte
	Keep              int64 // milliseconds
	Unique            string
	MovedKept         int64 // milliseconds
}

// Append appends them in their order.
func (a *PendingArgs) Append(args []any) []any {
	return append(args, a.Action, a.Token, a.ID, a.Value, yes(a.OwnID), a.Record, a.Keep, a.Unique, a.MovedKept)
}

// PendingReply is the reply of pending.lua to a reservation.
type PendingReply struct {
	IDLives   bool
	Undecided bool   // a large call that is not decided has reserved the id or the unique key
	Holder    string // the id of the live run that has the unique key
}

// ParsePending parses the reply of pending.lua.
func ParsePending(v any) PendingReply {
	return PendingReply{IDLives: v == int64(1), Undecided: v == int64(2), Holder: text(v)}
}
