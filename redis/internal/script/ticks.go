package script

import "github.com/taskgen/taskgen/redis/internal/wire"

// GoOnKeys returns the named keys of goon.lua.
func GoOnKeys(q *wire.QueueKeys) []string { return []string{q.Ticks, q.Entries} }

// GoOnArgs are the named arguments of goon.lua.
type GoOnArgs struct {
	Field, Tick, Entry string
}

// Append appends them in their order.
func (a *GoOnArgs) Append(args []any) []any { return append(args, a.Field, a.Tick, a.Entry) }

// RewindArgs are the named arguments of rewind.lua.
type RewindArgs struct {
	Field, Claimed, Instead string
}

// Append appends them in their order.
func (a *RewindArgs) Append(args []any) []any { return append(args, a.Field, a.Claimed, a.Instead) }
