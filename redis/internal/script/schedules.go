package script

import (
	"fmt"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// EntryKeys returns the named keys of the scripts of schedules.
func EntryKeys(q *wire.QueueKeys) []string { return []string{q.Entries, q.Changes, q.Ticks} }

// DeleteEntryArgs are the named arguments of deleteentry.lua.
type DeleteEntryArgs struct {
	ID string
}

// Append appends them in their order.
func (a *DeleteEntryArgs) Append(args []any) []any { return append(args, a.ID) }

// PutEntryArgs are the named arguments of putentry.lua.
type PutEntryArgs struct {
	ID, Task  string
	Rule, Run []byte
	Most      int
}

// Append appends them in their order.
func (a *PutEntryArgs) Append(args []any) []any {
	return append(args, a.ID, a.Task, a.Rule, a.Run, a.Most)
}

// PutEntryReply is the reply of putentry.lua.
type PutEntryReply struct {
	TooMany   bool // there are that many entries
	OtherTask bool // the id is that of another task's entry
	Revision  string
	Since     string // µs after which its ticks come
	Last      string // the last claimed tick
	Lost      bool   // the last claimed tick was lost: it is the present now
	Found     string // the field's value before
}

// ParsePutEntry parses the reply of putentry.lua.
func ParsePutEntry(v any) (r PutEntryReply, err error) {
	switch v {
	case int64(0):
		return PutEntryReply{TooMany: true}, nil
	case int64(1):
		return PutEntryReply{OtherTask: true}, nil
	}
	reply, ok := v.([]any)
	if !ok || len(reply) < 3 {
		return r, fmt.Errorf("unexpected reply %T of putentry.lua", v)
	}
	r.Revision, r.Since, r.Last = text(reply[0]), text(reply[1]), text(reply[2])
	if len(reply) > 3 {
		r.Lost, r.Found = true, text(reply[3])
	}
	return r, nil
}
