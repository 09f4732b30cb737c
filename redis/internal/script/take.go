package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// TakeKeys returns the named keys of take.lua.
func TakeKeys(q *wire.QueueKeys, name string) []string {
	return q.Keys(q.InFlight, q.Leases, q.Takes, q.Batch(name), q.Paused, q.Disabled, q.Deferred, q.Enabling,
		q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running, q.Starts, q.Rates, q.Outbox, q.Stages)
}

// TakeArgs are the named arguments of take.lua.
type TakeArgs struct {
	Session                 string
	Number                  int64 // the batch's in the session
	Lease                   int64 // milliseconds
	IO, CPU, Total          int
	Announce                string
	PrefetchIO, PrefetchCPU int
	Apart                   bool
}

// Append appends them in their order.
func (a *TakeArgs) Append(args []any) []any {
	return append(args, a.Session, a.Number, a.Lease, a.IO, a.CPU, a.Total, a.Announce, a.PrefetchIO, a.PrefetchCPU, yes(a.Apart))
}
