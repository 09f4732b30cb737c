package script

import (
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// ScheduleKeys returns the named keys of the scripts of schedules.
func ScheduleKeys(q *wire.QueueKeys) []string { return []string{q.Schedules, q.Changes, q.Ticks} }

// DeleteScheduleArgs are the named arguments of deleteschedule.lua.
type DeleteScheduleArgs struct {
	ID string
}

// Append appends them in their order.
func (a *DeleteScheduleArgs) Append(args []any) []any { return append(args, a.ID) }

// PutScheduleArgs are the named arguments of putschedule.lua.
type PutScheduleArgs struct {
	ID, Task  string
	Rule, Run []byte
	Most      int
}

// Append appends them in their order.
func (a *PutScheduleArgs) Append(args []any) []any {
	return append(args, a.ID, a.Task, a.Rule, a.Run, a.Most)
}

// PutScheduleReply is the reply of putschedule.lua.
type PutScheduleReply struct {
	TooMany   bool // there are that many schedules
	OtherTask bool // the id is that of another task's schedule
	Revision  string
	Since     string // µs after which its ticks come
	Last      string // the last claimed tick
	Lost      bool   // the last claimed tick was lost: it is the present now
	Found     string // the field's value before
}

// ParsePutSchedule parses the reply of putschedule.lua.
func ParsePutSchedule(v any) (r PutScheduleReply, err error) {
	switch v {
	case int64(0):
		return PutScheduleReply{TooMany: true}, nil
	case int64(1):
		return PutScheduleReply{OtherTask: true}, nil
	}
	reply, ok := v.([]any)
	if !ok || len(reply) < 3 {
		return r, fmt.Errorf("unexpected reply %T of putschedule.lua", v)
	}
	r.Revision, r.Since, r.Last = text(reply[0]), text(reply[1]), text(reply[2])
	if len(reply) > 3 {
		r.Lost, r.Found = true, text(reply[3])
	}
	return r, nil
}

// RestoreTickKeys returns the named keys of restoretick.lua.
func RestoreTickKeys(q *wire.QueueKeys) []string { return []string{q.Ticks, q.Schedules} }

// RestoreTickArgs are the named arguments of restoretick.lua.
type RestoreTickArgs struct {
	Field, Tick, Schedule string
}

// Append appends them in their order.
func (a *RestoreTickArgs) Append(args []any) []any { return append(args, a.Field, a.Tick, a.Schedule) }

// RestoreTickReply is the reply of restoretick.lua.
type RestoreTickReply struct {
	Gone  bool   // the schedule is not there with that revision
	Lost  bool   // the last claimed tick was lost, and is set anew
	Found string // the field's value before, if it was lost
}

// ParseRestoreTick parses the reply of restoretick.lua.
func ParseRestoreTick(v any) (RestoreTickReply, error) {
	if found, lost := v.(string); lost {
		return RestoreTickReply{Lost: true, Found: found}, nil
	}
	there, err := conditionOf("restoretick", v)
	return RestoreTickReply{Gone: !there}, err
}

// RewindArgs are the named arguments of rewind.lua.
type RewindArgs struct {
	Field, Claimed, Instead string
}

// Append appends them in their order.
func (a *RewindArgs) Append(args []any) []any { return append(args, a.Field, a.Claimed, a.Instead) }

// LastTicksArgs are the arguments of lastticks.lua: the names of tasks, by queues.
type LastTicksArgs [][]string

// Append appends them in their order.
func (a LastTicksArgs) Append(args []any) []any {
	for _, tasks := range a {
		args = append(args, len(tasks))
		for _, task := range tasks {
			args = append(args, task)
		}
	}
	return args
}

// ParseLastTicks parses the reply of lastticks.lua to these arguments. It returns the ticks by
// queues, empty for none, and nil for a queue that cannot be read.
func ParseLastTicks(v any, asked LastTicksArgs) ([][]string, error) {
	reply, err := arrayOf("lastticks", v, len(asked))
	if err != nil {
		return nil, err
	}
	ticks := make([][]string, len(asked))
	for i := range ticks {
		if list := texts(reply[i]); len(list) == len(asked[i]) {
			ticks[i] = list
		}
	}
	return ticks, nil
}

// SchedulesArgs are the named arguments of schedules.lua.
type SchedulesArgs struct {
	Most, Large, Total, Bytes int
}

// Append appends them in their order.
func (a *SchedulesArgs) Append(args []any) []any {
	return append(args, a.Most, a.Large, a.Total, a.Bytes)
}

// ParseSchedules parses the reply of schedules.lua for n queues. It can have fewer. It returns for
// each queue in turn the id of a schedule and what is stored of it, nil if they are to be read
// by themselves.
func ParseSchedules(v any, n int) ([][]string, error) {
	reply, ok := v.([]any)
	if !ok || len(reply) == 0 || len(reply) > n {
		return nil, fmt.Errorf("unexpected reply %T of schedules.lua", v)
	}
	queues := make([][]string, len(reply))
	for i, found := range reply {
		if list := texts(found); found != nil && len(list)%2 == 0 {
			queues[i] = append([]string{}, list...)
		}
		if _, why := found.(string); why {
			queues[i] = nil
		}
	}
	return queues, nil
}
