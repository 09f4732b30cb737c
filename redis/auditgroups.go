package redis

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// lostGroups are what is left of groups of which one half is gone.
type lostGroups struct {
	pending map[string]string // keys of pending runs whose groups are gone → their values
	groups  map[string]string // groups whose pending runs are gone → their `then`
}

// findLostGroups returns pending runs of the queue whose groups are gone, and groups of the queue
// whose pending runs are gone. A group on its way into its queue is neither:
//
//   - It expires until its members are stored, and so does its pending run, unless they come
//     from an outbox. Then the pending run is stored after the group, and before the members.
//   - The step that takes the run out of the group puts it into the outbox, and the entry stays
//     there until the step that deletes the pending run's key is over.
func (a *audit) findLostGroups(ctx context.Context) (lost lostGroups, err error) {
	all, err := a.pendingValues(ctx, a.keysWith(a.q.PendingRun("")))
	if err != nil {
		return lost, fmt.Errorf("read pending runs: %w", err)
	}
	if lost.pending, err = a.withoutGroups(ctx, all); err != nil {
		return lost, fmt.Errorf("look for the groups of pending runs: %w", err)
	}
	awaited := map[string]bool{}
	for _, value := range all {
		if p, _ := wire.ParsePendingRun(value); p.Queue == a.q.Name {
			awaited[a.q.Group(p.Group)] = true
		}
	}
	groups := slices.DeleteFunc(a.keysWith(a.q.Group("")), func(key string) bool { return awaited[key] })
	if lost.groups, err = a.withoutPending(ctx, groups); err != nil {
		return lost, fmt.Errorf("look for the runs that await groups: %w", err)
	}
	return lost, nil
}

// pendingValues returns the values of keys of pending runs that do not expire.
func (a *audit) pendingValues(ctx context.Context, keys []string) (map[string]string, error) {
	found := map[string]string{}
	err := a.readLasting(ctx, keys, func(pipe conn.Pipeline, key string) conn.Reply[string] { return pipe.Get(ctx, key) },
		func(key, value string) {
			if _, ok := wire.ParsePendingRun(value); ok {
				found[key] = value
			}
		})
	return found, err
}

// withoutGroups returns those of pending runs whose groups do not have them any more.
func (a *audit) withoutGroups(ctx context.Context, all map[string]string) (map[string]string, error) {
	byQueue, gone := map[string][]string{}, map[string]string{}
	for key, value := range all {
		p, _ := wire.ParsePendingRun(value)
		byQueue[p.Queue] = append(byQueue[p.Queue], key)
	}
	for name, keys := range byQueue {
		q, err := a.b.queue(name)
		if err != nil {
			continue // nobody can know where the group is
		}
		for page := range slices.Chunk(keys, auditPage) {
			groups, args := script.AuditGroupsKeys(&q.QueueKeys), (&script.AuditGroupsArgs{Brief: a.pace.slow}).Append(nil)
			for _, key := range page {
				p, _ := wire.ParsePendingRun(all[key])
				groups, args = append(groups, q.Group(p.Group)), append(args, p.Token)
			}
			v, err := a.script(ctx, a.b.scripts.AuditGroups, groups, args)
			if err != nil {
				return nil, err
			}
			lost, err := script.ParseAuditGroups(v, len(page))
			if err != nil {
				return nil, err
			}
			for _, i := range lost {
				gone[page[i]] = all[page[i]]
			}
		}
	}
	return gone, nil
}

// withoutPending returns those of the queue's groups whose pending runs are not there any more.
func (a *audit) withoutPending(ctx context.Context, groups []string) (map[string]string, error) {
	thens := map[string]string{}
	err := a.readLasting(ctx, groups, func(pipe conn.Pipeline, key string) conn.Reply[string] { return pipe.HGet(ctx, key, "then") },
		func(key, entry string) {
			if _, _, err := a.awaitingRun(entry); err == nil {
				thens[key] = entry
			}
		})
	if err != nil {
		return nil, err
	}
	for list := range slices.Chunk(slices.Collect(maps.Keys(thens)), auditPage) {
		tokens := make([]conn.Reply[string], len(list))
		start := time.Now()
		err := a.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
			for i, key := range list {
				to, run, _ := a.awaitingRun(thens[key])
				tokens[i] = pipe.GetRange(ctx, to.PendingRun(run.ID), 0, wire.TokenDigits-1)
			}
		})
		if err == nil {
			err = a.pace.after(ctx, a.b.clients, start)
		}
		if err != nil {
			return nil, err
		}
		for i, key := range list {
			if err := unlessOdd(tokens[i].Err()); err != nil {
				return nil, err
			}
			if tokens[i].Err() != nil || tokens[i].Val() == tokenOf(strings.TrimPrefix(thens[key], wire.GatheringOpens)) {
				delete(thens, key)
			}
		}
	}
	return thens, nil
}

// awaitingRun returns the run of an entry of a group, and its queue.
func (a *audit) awaitingRun(entry string) (*queue, *broker.TaskRun, error) {
	m := &moving{b: a.b, from: a.q}
	return m.read(entry)
}

// endLostGroups ends the runs of lost groups that still are lost.
func (a *audit) endLostGroups(ctx context.Context, before lostGroups) error {
	values, err := a.pendingValues(ctx, slices.Collect(maps.Keys(before.pending)))
	if err == nil {
		maps.DeleteFunc(values, func(key, value string) bool { return value != before.pending[key] })
		values, err = a.withoutGroups(ctx, values)
	}
	if err != nil {
		return fmt.Errorf("look for the groups of pending runs: %w", err)
	}
	for key, value := range values {
		if err := a.endWithoutGroup(ctx, key, value); err != nil {
			return fmt.Errorf("end pending run: %w", err)
		}
	}
	thens, err := a.withoutPending(ctx, slices.Collect(maps.Keys(before.groups)))
	if err != nil {
		return fmt.Errorf("look for the runs that await groups: %w", err)
	}
	for key, entry := range thens {
		if entry != before.groups[key] {
			continue
		}
		if err := a.endWithoutPending(ctx, key, entry); err != nil {
			return fmt.Errorf("end run that awaits a group: %w", err)
		}
	}
	return nil
}

// endWithoutGroup ends a pending run whose group is gone.
func (a *audit) endWithoutGroup(ctx context.Context, key, value string) error {
	p, _ := wire.ParsePendingRun(value)
	run := new(broker.TaskRun)
	if err := wire.ParseRun(new(broker.Decoder), []byte(p.Stored), run); err != nil {
		run.ID = strings.TrimPrefix(key, a.q.PendingRun(""))
	}
	if !a.repairs() {
		a.report.LostGroups++
		return nil
	}
	failure := lostFailure(goneGroup, broker.Group{ID: p.Group, Queue: p.Queue})
	over, _, err := a.b.endWaiting(ctx, a.q, key, value, p.Stored, failure)
	if err != nil || !over {
		return err // it has ended in another way
	}
	a.report.LostGroups++
	a.b.noteLost(a.q, key, run, failure)
	return nil
}

// endWithoutPending ends the run that awaits a group of the queue and whose pending key is gone.
// A run that is in its queue is not touched: a failover may have brought its group back. Of a run
// that has ended only the group is forgotten: whoever cancelled the run could not do that.
func (a *audit) endWithoutPending(ctx context.Context, key, entry string) error {
	to, run, err := a.awaitingRun(entry)
	if err != nil {
		return nil // it was read before
	}
	awaited, token := run.Links.OrZero().Awaits, tokenOf(entry[len(wire.GatheringOpens):])
	over, err := a.hasEnded(ctx, to, run)
	if err != nil {
		return err
	}
	if over {
		if a.repairs() {
			a.b.cancelGroup(ctx, awaited, token)
		}
		return nil
	}
	lives, err := a.isIn(ctx, to, run.ID)
	if err != nil || lives {
		return err
	}
	a.report.LostGroups++
	if !a.repairs() {
		return nil
	}
	failure := lostFailure(gonePending, awaited)
	if err := a.b.losePending(ctx, to, token, run, failure); err != nil {
		return err
	}
	out := new(outcome)
	if run.Links.OrZero().Group != "" {
		out.endPlace(a.q, run.GroupQueue(), run.Links.Group, run.Links.Member,
			wire.AppendMember(run.ID, failedRecord(wire.AsMember(run), failure)))
		reply, _, err := a.b.endAt(ctx, a.q, a.q.Outbox, "", out)
		if err != nil {
			return err
		}
		if reply.Sent {
			_ = a.q.mover.move(ctx) // after an error the next recovery does it
		}
	}
	a.b.cancelGroup(ctx, awaited, token)
	a.b.noteLost(to, key, run, failure)
	return nil
}

// hasEnded reports whether the record of a run that awaited a group says that the run has ended, or
// an outer group does. A record that says lost does not count: an audit may have ended only that.
func (a *audit) hasEnded(ctx context.Context, to *queue, run *broker.TaskRun) (bool, error) {
	links := run.Links.OrZero()
	outer := a.q
	if links.Group != "" {
		var err error
		if outer, err = a.b.queue(run.GroupQueue()); err != nil {
			return false, err
		}
	}
	var stored, place conn.Reply[string]
	start := time.Now()
	err := a.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		stored = pipe.Get(ctx, to.Record(run.ID))
		place = pipe.HGet(ctx, outer.Group(links.Group), strconv.Itoa(links.Member))
	})
	if err == nil {
		err = a.pace.after(ctx, a.b.clients, start)
	}
	if err != nil {
		return false, err
	}
	if links.Group != "" && strings.HasPrefix(place.Val(), string(wire.AppendMember(run.ID, nil))) {
		return true, nil
	}
	var r broker.Record
	if run.Keep <= 0 || wire.ParseRecord([]byte(stored.Val()), &r) != nil {
		return false, nil
	}
	return r.State.Ended() && (r.Failure == nil || r.Failure.Kind != broker.FailureLost), nil
}

// isIn reports whether a queue has a run.
func (a *audit) isIn(ctx context.Context, q *queue, id string) (bool, error) {
	of := &audit{b: a.b, q: q, pace: a.pace}
	var err error
	if of.node, err = a.b.nodeOf(ctx, q); err != nil {
		return false, err
	}
	if err = a.b.seeStaged(ctx, q); err != nil {
		return false, err
	}
	for _, step := range []func(context.Context) error{of.scan, of.findBatches} {
		if err := step(ctx); err != nil {
			return false, err
		}
	}
	found := false
	err = of.eachRun(ctx, func(s location, _ bool) {
		h, err := wire.ParseHeader([]byte(s.stored))
		found = found || err == nil && string(h.ID) == id
	})
	return found, err
}
