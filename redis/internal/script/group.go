package script

import (
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// GroupKeys returns the keys of group.lua.
func GroupKeys(q *wire.QueueKeys, group, token string) []string {
	return []string{q.Group(group), q.Outbox, q.Moved(token)}
}

// GroupArgs has all but the first two only to reserve a group.
type GroupArgs struct {
	Action, Token   string
	Size            int
	Entry           []byte
	Keep, KeepEnded int64 // milliseconds
	MovedKept       int64 // milliseconds
}

// Append appends them in their order.
func (a *GroupArgs) Append(args []any) []any {
	return append(args, a.Action, a.Token, a.Size, a.Entry, a.Keep, a.KeepEnded, a.MovedKept)
}

// ForgetGroupArgs are the named arguments of forgetgroup.lua.
type ForgetGroupArgs struct {
	Token string
}

// Append appends them in their order.
func (a *ForgetGroupArgs) Append(args []any) []any { return append(args, a.Token) }

// GroupReply is the reply of group.lua to reserve.
type GroupReply struct {
	Other bool // there is another such group
	Over  bool // the group came before, and is over
}

// ParseReserveGroup parses the reply of group.lua to reserve.
func ParseReserveGroup(v any) (r GroupReply, err error) {
	n, err := integerOf("group", v, 0, 2)
	return GroupReply{Other: n == 1, Over: n == 2}, err
}

// ParseDropGroup parses the reply of group.lua to drop: whether the group stays because its
// members are stored. Else it is gone.
func ParseDropGroup(v any) (stays bool, err error) {
	n, err := integerOf("group", v, 0, 2)
	return n == 1, err
}

// ParseSendGroup parses the reply of group.lua to send: whether the group is there no more.
func ParseSendGroup(v any) (gone bool, err error) {
	n, err := integerOf("group", v, 0, 2)
	if n == 1 {
		return false, fmt.Errorf("unexpected reply %d of group.lua", n)
	}
	return n == 2, err
}

// PendingKeys has the unique key only of a run that has one. The group that the run awaits may
// have the same token, and be kept in the same queue.
func PendingKeys(q *wire.QueueKeys, id, token string, unique ...string) []string {
	return append([]string{q.PendingRun(id), q.Owner(id), q.Record(id), q.Pending, q.Moved(token + wire.GatheringOpens), q.EndedFailed}, unique...)
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
