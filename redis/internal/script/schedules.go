package script

import "github.com/taskgen/taskgen/redis/internal/wire"

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
