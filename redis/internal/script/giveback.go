package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// GivebackKeys returns the named keys of giveback.lua.
func GivebackKeys(q *wire.QueueKeys, session, name string) []string {
	return q.Keys(q.InFlight, q.Leases, q.Lost(session), q.Batch(name), q.Done(name), q.Dead, q.Trimmed,
		q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running, q.Cancels(session), q.Outbox, q.Raised(session))
}

// Modes of giveback.lua.
const (
	GivebackLeave   = "leave"   // the session itself gives the batch back
	GivebackRecover = "recover" // somebody does, if the session's lease has ended
)

// GivebackArgs are the named arguments of giveback.lua.
type GivebackArgs struct {
	Session, Name string
	Mode          string // GivebackLeave or GivebackRecover
	MaxDead       int
	Failure       string // of entries that cannot be read
	Delays        int
}

// Append appends them in their order.
func (a *GivebackArgs) Append(args []any) []any {
	return append(args, a.Session, a.Name, a.Mode, a.MaxDead, a.Failure, a.Delays)
}

// GivebackReply is the reply of giveback.lua.
type GivebackReply struct {
	Runs      int64 // that are put back, -1 if the lease has not ended
	Cancelled int64 // runs that went into the outbox, as their end was asked for
	Buried    int64 // runs that became dead letters, as they cannot be read
}

// ParseGiveback parses the reply of giveback.lua.
func ParseGiveback(v any) (GivebackReply, error) {
	reply, err := arrayOf("giveback", v, 3)
	if err != nil {
		return GivebackReply{}, err
	}
	return GivebackReply{number(reply[0]), number(reply[1]), number(reply[2])}, nil
}
