package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// FreeUniqueKeys returns the named keys of freeunique.lua.
func FreeUniqueKeys(q *wire.QueueKeys, name, unique string) []string {
	return []string{q.Batch(name), q.Done(name), q.Unique(unique)}
}

// FreeUniqueArgs are the named arguments of freeunique.lua.
type FreeUniqueArgs struct {
	Index int
	ID    string
}

// Append appends them in their order.
func (a *FreeUniqueArgs) Append(args []any) []any { return append(args, a.Index, a.ID) }

// ParseFreeUnique parses the reply of freeunique.lua: whether the caller still holds the run.
func ParseFreeUnique(v any) (held bool, err error) { return conditionOf("freeunique", v) }
