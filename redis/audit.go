package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// auditGrace is how long a run has to be missing.
const auditGrace = time.Second

// Audit reads all that is stored of a queue, while consumers work on it, and reports what does
// not fit together. If repair is true it repairs that; after an error a part may be
// repaired.
//
// An audit is not for every minute: it scans all keys of the database, in pages, and keeps
// the ids of the queue's runs in memory. If something seems to be missing, it looks again
// a second later, and repairs only faults that it finds both times. In one step it counts the
// runs at each limit, unless the queue has megabytes in flight; it compares them with the
// stored counts in pages, unless more than some thousand runs are in flight.
//
// Leases that nobody holds expire without an audit. Beyond the rights of a broker the user
// needs those to SCAN, TYPE, GETRANGE, ZSCAN, HSCAN, SISMEMBER, LREM, LPOS and LINDEX.
func (b *Broker) Audit(ctx context.Context, queueName string, repair bool) (maintenance.Report, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return maintenance.Report{}, fmt.Errorf("audit queue: %w", err)
	}
	a := &audit{b: b, q: q, report: maintenance.Report{Repaired: repair}}
	if err := a.run(ctx); err != nil {
		return a.report, b.fail(ctx, "audit queue "+q.Name, b.blameIn(ctx, err, q))
	}
	return a.report, nil
}

func (a *audit) run(ctx context.Context) (err error) {
	if a.node, err = a.b.nodeOf(ctx, a.q); err != nil {
		return err
	}
	if err := a.b.seeStaged(ctx, a.q); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{a.scan, a.checkExpiring, a.checkBatches, a.firstPass} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	lost, err := a.findLost(ctx)
	if err != nil {
		return err
	}
	if err := a.checkLimits(ctx); err != nil {
		return err
	}
	groups, err := a.findLostGroups(ctx)
	if err != nil {
		return err
	}
	if len(lost.ids)+len(lost.records)+len(lost.uniques)+len(a.twice)+len(groups.pending)+len(groups.groups) == 0 {
		return nil
	}
	if !a.b.clients.Pause(ctx, auditGrace) {
		return errors.Join(ctx.Err(), errors.New("there is no time to look again"))
	}
	if err := a.secondPass(ctx, lost); err != nil {
		return err
	}
	return a.endLostGroups(ctx, groups)
}

// scan finds the queue's keys.
func (a *audit) scan(ctx context.Context) error {
	a.keys = map[string]bool{}
	err := a.pages(ctx, func(cursor uint64) (conn.Page, error) {
		return a.node.Scan(ctx, cursor, wire.GlobOf(a.q.Base), 1000)
	}, func(keys []string) {
		for _, key := range keys {
			a.keys[key] = true
		}
	})
	if err != nil {
		return fmt.Errorf("find keys: %w", err)
	}
	return nil
}

// findBatches notes the names of all batches: those with a list or a bitmap, and those that are
// listed.
func (a *audit) findBatches(ctx context.Context) error {
	a.batchNames = map[string]bool{}
	for key := range a.keys {
		for _, opens := range []string{a.q.Batch(""), a.q.Done("")} {
			if name, ok := strings.CutPrefix(key, opens); ok {
				a.batchNames[name] = true
			}
		}
	}
	return a.inFlight(ctx)
}

// checkBatches checks that batches, the list of them and their bitmaps fit together.
func (a *audit) checkBatches(ctx context.Context) error {
	if err := a.findBatches(ctx); err != nil {
		return err
	}
	for batchNames := range slices.Chunk(slices.Collect(maps.Keys(a.batchNames)), auditPage) {
		keys, args := []string{a.q.InFlight}, (&script.AuditArgs{Repair: a.repairs()}).Append(nil)
		for _, name := range batchNames {
			keys = append(keys, a.q.Batch(name), a.q.Done(name))
			args = append(args, name)
		}
		v, err := a.script(ctx, a.b.scripts.AuditBatches, keys, args)
		if err != nil {
			return fmt.Errorf("check batches: %w", err)
		}
		reply, err := script.ParseAuditBatches(v)
		if err != nil {
			return fmt.Errorf("check batches: %w", err)
		}
		a.report.UnlistedBatches += int(reply.Unlisted)
		a.report.MissingBatches += int(reply.Missing)
		a.report.StrayBitmaps += int(reply.Stray)
	}
	return nil
}

// repairs reports whether the audit repairs what it finds.
func (a *audit) repairs() bool { return a.pace.slow || a.report.Repaired }

// firstPass notes which runs there are, and makes dead letters of entries that are no runs.
func (a *audit) firstPass(ctx context.Context) error {
	a.seen, a.twice = a.pendingIDs(), map[string]bool{}
	ended := map[string]bool{} // ids of finished runs of batches with others, seen nowhere else
	bad := badEntries{at: map[string][]any{}}
	err := a.eachRun(ctx, func(s location, mine bool) {
		a.noteSeen(s, mine, ended)
		if mine && s.index < 0 {
			a.checkEntry(s, &bad)
		}
	})
	if err != nil {
		return err
	}
	a.report.Runs = len(a.seen) - len(ended)
	return a.bury(ctx, bad)
}

// noteSeen notes that a run was seen, and whether it was seen before.
func (a *audit) noteSeen(s location, mine bool, ended map[string]bool) {
	h, err := wire.ParseHeader([]byte(s.stored))
	if err != nil {
		return
	}
	id := string(h.ID)
	if mine && !s.finished && a.seen[id] {
		a.twice[id] = true
	}
	if !s.finished {
		delete(ended, id)
	} else if !a.seen[id] {
		ended[id] = true
	}
	a.seen[id] = true
}

// badEntries are entries that are no runs of the queue.
type badEntries struct {
	names   broker.Decoder
	at      map[string][]any // by key
	headers []location       // of which the header says what their end has to free
}

// checkEntry adds an entry to the bad ones if it is no run of the queue, and of no newer
// version either.
func (a *audit) checkEntry(s location, bad *badEntries) {
	run := new(broker.TaskRun)
	err := wire.ParseRun(&bad.names, []byte(s.stored), run)
	if _, newer := wire.NewerID([]byte(s.stored), err); newer {
		return
	}
	switch _, bare := wire.ParseHeader([]byte(s.stored)); {
	case err != nil && bare == nil && a.report.Repaired:
		bad.headers = append(bad.headers, s)
	case err != nil || run.Queue != a.q.Name:
		bad.at[s.key] = append(bad.at[s.key], s.entry)
	}
}

// bury makes dead letters of entries that are no runs.
func (a *audit) bury(ctx context.Context, bad badEntries) error {
	for _, s := range bad.headers {
		over, _, err := a.b.endWaiting(ctx, a.q, s.key, s.entry, s.stored, nil)
		if err != nil {
			return fmt.Errorf("bury unreadable entries: %w", err)
		}
		if over {
			a.report.Unreadable++
		}
	}
	for key, entries := range bad.at {
		before := 0
		if key == a.q.Backlogs {
			before = wire.BacklogPrefix
		}
		for list := range slices.Chunk(entries, auditPage) {
			n, err := a.buryAt(ctx, key, before, list...)
			if err != nil {
				return fmt.Errorf("bury unreadable entries: %w", err)
			}
			a.report.Unreadable += int(n)
		}
	}
	return nil
}

// buryAt makes dead letters of entries at one key, and returns their number.
func (a *audit) buryAt(ctx context.Context, key string, before int, entries ...any) (int64, error) {
	named := &script.AuditBuryArgs{Repair: a.repairs(), MaxDead: a.b.cfg.MaxDead, Failure: a.b.bad, Before: before}
	v, err := a.script(ctx, a.b.scripts.AuditBury, script.AuditBuryKeys(&a.q.QueueKeys, key), append(named.Append(nil), entries...))
	if err != nil {
		return 0, err
	}
	return script.ParseAuditBury(v)
}

// quarantined matches the rest of a name that repair.lua gave the index of pending runs,
// which begins like that of a pending run.
var quarantined = regexp.MustCompile(`^broken:\d{13}$`)

// pendingIDs returns the ids of pending runs.
func (a *audit) pendingIDs() map[string]bool {
	ids := map[string]bool{}
	for key := range a.keys {
		if id, ok := strings.CutPrefix(key, a.q.PendingRun("")); ok && !quarantined.MatchString(id) {
			ids[id] = true
		}
	}
	return ids
}

// secondPass repairs the faults that both passes found: runs that are there twice, and ids and
// records of runs that are nowhere.
func (a *audit) secondPass(ctx context.Context, lost lostKeys) error {
	a.seen = a.pendingIDs()
	copies := map[string][]location{}
	err := a.eachRun(ctx, func(s location, mine bool) {
		h, err := wire.ParseHeader([]byte(s.stored))
		if err != nil {
			return
		}
		id := string(h.ID)
		a.seen[id] = true
		if a.twice[id] && mine && !s.finished {
			copies[id] = append(copies[id], s)
		}
	})
	if err == nil {
		err = a.removeCopies(ctx, copies)
	}
	if err == nil {
		err = a.endLost(ctx, lost)
	}
	return err
}

// removeCopies removes all copies of each run but one.
func (a *audit) removeCopies(ctx context.Context, copies map[string][]location) error {
	for _, spots := range copies {
		slices.Reverse(spots) // runs in flight were read last
		for _, other := range spots[1:] {
			removed, err := a.removeCopy(ctx, spots[0], other)
			if err != nil {
				return fmt.Errorf("remove copy of run: %w", err)
			}
			if removed {
				a.report.Copies++
			}
		}
	}
	return nil
}

// removeCopy removes one of two copies of a run, and reports whether both were there. It
// marks a run of a batch as finished instead, because the index identifies the runs behind it.
func (a *audit) removeCopy(ctx context.Context, kept, other location) (bool, error) {
	args := &script.AuditCopyArgs{
		Repair: a.repairs(), KeptEntry: kept.entry, KeptIndex: kept.index, CopyEntry: other.entry, CopyIndex: other.index,
	}
	keys := script.AuditCopyKeys(&a.q.QueueKeys, kept.key, kept.done, other.key, other.done)
	v, err := a.script(ctx, a.b.scripts.AuditCopy, keys, args.Append(nil))
	if err != nil {
		return false, err
	}
	return script.ParseAuditCopy(v)
}

// checkLimits checks the counts of runs in flight, and that each backlog is in the rounds.
func (a *audit) checkLimits(ctx context.Context) error {
	err := a.repairPages(ctx, &a.report.WrongCounts, a.b.scripts.AuditCounts, script.AuditCountsKeys(&a.q.QueueKeys), func(from string) script.Arguments {
		return &script.AuditCountsArgs{Repair: a.repairs(), Brief: a.pace.slow, Batches: a.q.Batch(""), Bitmaps: a.q.Done(""), From: from}
	})
	if err != nil {
		return fmt.Errorf("count runs in flight: %w", err)
	}
	err = a.repairPages(ctx, &a.report.ForgottenLimits, a.b.scripts.AuditTurns, script.AuditTurnsKeys(&a.q.QueueKeys), func(from string) script.Arguments {
		return &script.AuditTurnsArgs{Repair: a.repairs(), From: from}
	})
	if err != nil {
		return fmt.Errorf("check backlogs: %w", err)
	}
	return nil
}

// repairPages executes a script of the audit page by page, and counts what was wrong. A page
// of which the script does not know it, -1, does not count.
func (a *audit) repairPages(ctx context.Context, n *int, s script.Script, keys []string, args func(from string) script.Arguments) error {
	for from := ""; ; {
		v, err := a.script(ctx, s, keys, args(from).Append(nil))
		if err != nil {
			return err
		}
		wrong, next, err := script.ParseAuditPage(v)
		if err != nil {
			return err
		}
		*n += int(max(wrong, 0))
		if from = next; from == "" {
			return nil
		}
	}
}
