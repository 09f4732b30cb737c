package script

import (
	"math"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// MarkBegunKeys returns the named keys of markbegun.lua and recordrunning.lua.
func MarkBegunKeys(q *wire.QueueKeys, name string) []string {
	return []string{q.Batch(name), q.Done(name)}
}

// MarkBegunArgs are the named arguments of markbegun.lua.
type MarkBegunArgs struct {
	Index, Bits int
}

// Append appends them in their order.
func (a *MarkBegunArgs) Append(args []any) []any { return append(args, a.Index, a.Bits) }

// ParseMarkBegun parses the reply of markbegun.lua: whether the caller still holds the run.
func ParseMarkBegun(v any) (held bool, err error) { return conditionOf("markbegun", v) }

// RecordRunningArgs are the named arguments of recordrunning.lua.
type RecordRunningArgs struct {
	Started []byte // milliseconds since the epoch, as a record has them
	Host    []byte // as a record has it
}

// Append appends them in their order.
func (a *RecordRunningArgs) Append(args []any) []any { return append(args, a.Started, a.Host) }

// SpareArgs are the named arguments of spare.lua.
type SpareArgs struct {
	Keep   int64 // milliseconds
	Listed bool
}

// Append appends them in their order.
func (a *SpareArgs) Append(args []any) []any { return append(args, a.Keep, yes(a.Listed)) }

// ParseSpare parses the reply of spare.lua: how many runs were spared a delivery.
func ParseSpare(v any) (int64, error) { return integerOf("spare", v, 0, math.MaxInt64) }
