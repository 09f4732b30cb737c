package redis

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// lostKept is how long the record of a lost run is kept.
const lostKept = time.Hour

// lostKeys are keys of runs that the first pass has not seen, with their values.
type lostKeys struct {
	ids, records, uniques map[string]string
}

// findLost returns the keys of runs that the first pass has not seen.
func (a *audit) findLost(ctx context.Context) (lost lostKeys, err error) {
	if lost.ids, err = a.missing(ctx, a.q.Owner(""), "ended:"); err != nil {
		return lost, err
	}
	if lost.records, err = a.missing(ctx, a.q.Record(""), "s", "f"); err != nil {
		return lost, err
	}
	if lost.uniques, err = a.strayKeys(ctx); err != nil {
		return lost, err
	}
	return lost, a.leaveStaged(ctx, lost.ids, lost.uniques)
}

// missing returns the values of keys of runs that the first pass has not seen. It skips keys
// that expire, and values that begin like those of ended runs.
func (a *audit) missing(ctx context.Context, opens string, ended ...string) (map[string]string, error) {
	keys := slices.DeleteFunc(a.keysWith(opens), func(key string) bool { return a.seen[key[len(opens):]] })
	found := map[string]string{}
	err := a.readLasting(ctx, keys, func(pipe conn.Pipeline, key string) conn.Reply[string] { return pipe.GetRange(ctx, key, 0, 5) },
		func(key, start string) {
			if !slices.ContainsFunc(ended, func(word string) bool { return strings.HasPrefix(start, word) }) {
				found[key] = ""
			}
		})
	if err != nil {
		return nil, fmt.Errorf("read %s*: %w", opens, err)
	}
	for key := range found {
		value, err := a.node.Get(ctx, key)
		if err != nil && !conn.IsMissing(err) {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		found[key] = value
	}
	return found, nil
}

// strayKeys returns the values of unique keys whose runs the first pass has not seen.
func (a *audit) strayKeys(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	for list := range slices.Chunk(a.keysWith(a.q.Unique("")), auditPage) {
		start := time.Now()
		values, err := a.node.MGet(ctx, list...)
		if err == nil {
			err = a.pace.after(ctx, a.b.clients, start)
		}
		if err != nil {
			return nil, fmt.Errorf("read unique keys: %w", err)
		}
		for i, key := range list {
			if id := wire.OwnerOf(values[i]); id != "" && !a.seen[id] {
				found[key], _ = values[i].(string)
			}
		}
	}
	return found, nil
}

// leaveStaged removes the keys that large calls have reserved which are being stored.
func (a *audit) leaveStaged(ctx context.Context, owners ...map[string]string) error {
	tokens, err := a.node.HKeys(ctx, a.q.Stages)
	if err != nil {
		return fmt.Errorf("read calls that are being stored: %w", err)
	}
	for _, values := range owners {
		maps.DeleteFunc(values, func(_, owner string) bool {
			return slices.Contains(tokens, owner[strings.LastIndexByte(owner, ' ')+1:])
		})
	}
	return nil
}

// endLost frees the ids and unique keys of lost runs, and ends their records.
func (a *audit) endLost(ctx context.Context, lost lostKeys) error {
	after := func(opens string) func(key, value string) string {
		return func(key, _ string) string { return strings.TrimPrefix(key, opens) }
	}
	if err := a.swap(ctx, lost.ids, after(a.q.Owner("")), &a.report.StrayIDs, nil); err != nil {
		return fmt.Errorf("release ids: %w", err)
	}
	if err := a.swap(ctx, lost.records, after(a.q.Record("")), &a.report.LostRecords, lostRecord); err != nil {
		return fmt.Errorf("end records: %w", err)
	}
	owner := func(_, value string) string { return wire.OwnerOf(value) }
	if err := a.swap(ctx, lost.uniques, owner, &a.report.StrayKeys, nil); err != nil {
		return fmt.Errorf("release unique keys: %w", err)
	}
	return nil
}

// swap replaces the values of keys whose runs are still nowhere, or deletes the keys if
// instead is nil. A run that moves as fast as the passes read can hide from both, so that
// the script searches it once more.
func (a *audit) swap(ctx context.Context, values map[string]string, idOf func(key, value string) string, n *int, instead func(string) string) error {
	maps.DeleteFunc(values, func(key, value string) bool {
		return value == "" || a.seen[idOf(key, value)]
	})
	places := slices.Concat(a.others(), a.q.Waits(), []string{a.q.Backlogs})
	for keys := range slices.Chunk(slices.Collect(maps.Keys(values)), auditPage) {
		args := (&script.AuditOwnersArgs{Repair: a.repairs(), Brief: a.pace.slow, Places: len(places), Batches: a.q.Batch("")}).Append(nil)
		for _, key := range keys {
			args = append(args, idOf(key, values[key]), values[key])
			args = append(args, a.swapArgs(key, values[key], instead)...)
		}
		v, err := a.script(ctx, a.b.scripts.AuditOwners, slices.Concat(script.AuditOwnersKeys(&a.q.QueueKeys), places, keys), args)
		if err != nil {
			return err
		}
		found, err := script.ParseAuditOwners(v)
		if err != nil {
			return err
		}
		*n += int(max(found, 0))
	}
	return nil
}

// swapArgs are the value that replaces one of a key, "" for none, and for how long that is kept.
func (a *audit) swapArgs(key, value string, instead func(string) string) []any {
	next := ""
	if instead != nil {
		next = instead(value)
	}
	if strings.HasPrefix(key, a.q.Unique("")) {
		return []any{next, ""} // the key may expire
	}
	return []any{next, lostKept.Milliseconds()}
}

// lostRecord is the value for the record of a run that is nowhere, "" if the old value
// cannot be read.
func lostRecord(value string) string {
	var was broker.Record
	if err := wire.ParseRecord([]byte(value), &was); err != nil {
		return ""
	}
	run := &broker.TaskRun{Task: was.Task, Attempt: was.Attempt, ParentID: was.ParentID, QueuedAt: was.QueuedAt}
	if len(was.Attempts) > 0 {
		run.History = &broker.History{Attempts: was.Attempts}
	}
	return string(failedRecord(run, &broker.Failure{Kind: broker.FailureLost, Message: "the run was neither queued nor in flight any more"}))
}
