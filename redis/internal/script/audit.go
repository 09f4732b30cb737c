package script

import (
	"fmt"
	"math"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// AuditArgs is the first argument of all audits: whether they repair, or only count.
type AuditArgs struct {
	Repair bool
}

// Append appends them in their order.
func (a *AuditArgs) Append(args []any) []any { return append(args, yes(a.Repair)) }

// AuditBatchesReply is the reply of auditbatches.lua.
type AuditBatchesReply struct {
	Unlisted int64 // batches that inflight does not list
	Missing  int64 // batches that inflight lists and that are not there
	Stray    int64 // bitmaps without a batch
}

// ParseAuditBatches parses the reply of auditbatches.lua.
func ParseAuditBatches(v any) (AuditBatchesReply, error) {
	reply, err := arrayOf("auditbatches", v, 3)
	if err != nil {
		return AuditBatchesReply{}, err
	}
	return AuditBatchesReply{number(reply[0]), number(reply[1]), number(reply[2])}, nil
}

// AuditBuryKeys returns the named keys of auditbury.lua.
func AuditBuryKeys(q *wire.QueueKeys, place string) []string {
	return []string{q.Dead, q.Trimmed, q.Backlogs, q.Rounds, q.Policy, q.Recheck, place}
}

// AuditBuryArgs are the named arguments of auditbury.lua.
type AuditBuryArgs struct {
	Repair  bool
	MaxDead int
	Failure string // of entries that cannot be read
	Before  int    // how many bytes of an entry come before its stored run
}

// Append appends them in their order.
func (a *AuditBuryArgs) Append(args []any) []any {
	return append(args, yes(a.Repair), a.MaxDead, a.Failure, a.Before)
}

// ParseAuditBury parses the reply of auditbury.lua: how many entries became dead letters.
func ParseAuditBury(v any) (int64, error) { return integerOf("auditbury", v, 0, math.MaxInt64) }

// AuditCopyKeys returns the named keys of auditcopy.lua.
func AuditCopyKeys(q *wire.QueueKeys, kept, keptDone, other, otherDone string) []string {
	return []string{q.Backlogs, q.Rounds, q.Policy, q.Recheck, kept, keptDone, other, otherDone}
}

// AuditCopyArgs are the named arguments of auditcopy.lua.
type AuditCopyArgs struct {
	Repair    bool
	KeptEntry string
	KeptIndex int // in a batch, else -1
	CopyEntry string
	CopyIndex int
}

// Append appends them in their order.
func (a *AuditCopyArgs) Append(args []any) []any {
	return append(args, yes(a.Repair), a.KeptEntry, a.KeptIndex, a.CopyEntry, a.CopyIndex)
}

// ParseAuditCopy parses the reply of auditcopy.lua: whether both copies were there.
func ParseAuditCopy(v any) (bool, error) { return conditionOf("auditcopy", v) }

// AuditCountsKeys returns the named keys of auditcounts.lua.
func AuditCountsKeys(q *wire.QueueKeys) []string {
	return []string{q.InFlight, q.Backlogs, q.Rounds, q.Policy, q.Recheck, q.Running}
}

// AuditCountsArgs are the named arguments of auditcounts.lua.
type AuditCountsArgs struct {
	Repair, Brief    bool
	Batches, Bitmaps string // the beginning of their keys
	From             string
}

// Append appends them in their order.
func (a *AuditCountsArgs) Append(args []any) []any {
	return append(args, yes(a.Repair), yes(a.Brief), a.Batches, a.Bitmaps, a.From)
}

// AuditGroupsKeys returns the named keys of auditgroups.lua.
func AuditGroupsKeys(q *wire.QueueKeys) []string { return []string{q.Outbox} }

// AuditGroupsArgs are the named arguments of auditgroups.lua.
type AuditGroupsArgs struct {
	Brief bool
}

// Append appends them in their order.
func (a *AuditGroupsArgs) Append(args []any) []any { return append(args, yes(a.Brief)) }

// ParseAuditGroups parses the reply of auditgroups.lua to so many groups: the places, from 0, of
// those that have lost the run that awaits them.
func ParseAuditGroups(v any, groups int) ([]int, error) {
	reply, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("unexpected reply %T of auditgroups.lua", v)
	}
	lost := make([]int, len(reply))
	for i, v := range reply {
		place, err := integerOf("auditgroups", v, 1, int64(groups))
		if err != nil {
			return nil, err
		}
		lost[i] = int(place) - 1
	}
	return lost, nil
}

// AuditOwnersKeys returns the named keys of auditowners.lua.
func AuditOwnersKeys(q *wire.QueueKeys) []string { return []string{q.InFlight, q.Backlogs} }

// AuditOwnersArgs are the named arguments of auditowners.lua.
type AuditOwnersArgs struct {
	Repair, Brief bool
	Places        int
	Batches       string // the beginning of their keys
}

// Append appends them in their order.
func (a *AuditOwnersArgs) Append(args []any) []any {
	return append(args, yes(a.Repair), yes(a.Brief), a.Places, a.Batches)
}

// ParseAuditOwners parses the reply of auditowners.lua: how many strings are of runs that are
// nowhere, -1 if that is too much to look at in one call.
func ParseAuditOwners(v any) (int64, error) { return integerOf("auditowners", v, -1, math.MaxInt64) }

// AuditTurnsKeys returns the named keys of auditturns.lua.
func AuditTurnsKeys(q *wire.QueueKeys) []string {
	return []string{q.Backlogs, q.Rounds, q.Policy, q.Recheck}
}

// AuditTurnsArgs are the named arguments of auditturns.lua.
type AuditTurnsArgs struct {
	Repair bool
	From   string
}

// Append appends them in their order.
func (a *AuditTurnsArgs) Append(args []any) []any { return append(args, yes(a.Repair), a.From) }

// ParseAuditPage parses the reply of auditcounts.lua or auditturns.lua, which have one form:
// how many counts or backlogs are wrong, -1 if they are too many to look at in one call; and
// where to go on, "" at the end.
func ParseAuditPage(v any) (wrong int64, next string, err error) {
	reply, ok := v.([]any)
	if !ok || len(reply) != 2 {
		return 0, "", fmt.Errorf("unexpected reply %T of auditcounts.lua or auditturns.lua", v)
	}
	return number(reply[0]), text(reply[1]), nil
}
