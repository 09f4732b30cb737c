package redis

import (
	"context"
	"fmt"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A run that awaits a group is in two places: its own queue has its pending key, and the group or
// the outbox of the group's queue has the run. If one of the two is gone, because somebody deleted
// it or the server forgot it, the run can never be queued, and ends as lost. It becomes no dead
// letter: with the group the results are gone that it was to gather.

// lostFailure is that of a run that awaited a group.
func lostFailure(gone string, awaited broker.Group) *broker.Failure {
	return &broker.Failure{Kind: broker.FailureLost, Message: fmt.Sprintf(
		"%s is gone, so that the run, which awaited group %s of queue %s, could not be queued; queue the call again", gone, awaited.ID, awaited.Queue)}
}

// goneGroup and gonePending are what can be gone.
const (
	goneGroup   = "the group"
	gonePending = "its entry among the pending runs"
)

// losePending frees what a run whose pending key is gone still holds in its own queue, and ends
// its record. It changes nothing of a run that was queued or has ended.
func (b *Broker) losePending(ctx context.Context, to *queue, token string, run *broker.TaskRun, failure *broker.Failure) error {
	p := &pendingRun{b: b, q: to, id: run.ID, token: token, unique: run.Rules.OrZero().Unique}
	args := &script.PendingArgs{
		Action: "lose", Token: token, ID: run.ID, Keep: max(wire.Millis(run.Keep), 1),
		Record: failedRecord(run, failure),
	}
	if _, err := b.repeat(ctx, b.scripts.Pending, b.clients.Work, p.keys(), args.Append(nil)...); err != nil {
		return b.fail(ctx, "end run "+run.ID, err)
	}
	if run.Keep > 0 {
		b.notifyAll(ctx, to, run.ID)
	}
	return nil
}

// lose ends the run of an entry that awaited a group and is pending no more. If it was cancelled,
// it has ended before, and this changes nothing.
func (m *moving) lose(ctx context.Context, s *sending, i int) {
	run, entry := s.runs[i], s.entries[i]
	awaited := run.Links.OrZero().Awaits
	failure := lostFailure(gonePending, awaited)
	if err := m.b.losePending(ctx, s.to, tokenOf(entry[len(wire.GatheringOpens):]), run, failure); err != nil {
		m.stay(1, err)
		return
	}
	out := new(outcome)
	m.endMember(out, entry, run, failure)
	if m.apply(ctx, entry, out) { // else another process has moved it
		m.b.forgetGroup(ctx, awaited)
	}
}

// noteLost has people learn which run was lost.
func (b *Broker) noteLost(q *queue, key string, run *broker.TaskRun, failure *broker.Failure) {
	b.damage.add(maintenance.Damage{Queue: q.Name, Key: key, Why: fmt.Sprintf("run %s of task %s is lost: %s", run.ID, run.Task, failure.Message)})
}

// notifyAll notifies the processes that wait for the end of a run. After an error they poll.
func (b *Broker) notifyAll(ctx context.Context, q *queue, id string) {
	names, err := b.clients.Work.HGet(ctx, q.Waiters, id)
	if err != nil {
		return
	}
	var waiters []script.Waiter
	for _, name := range strings.Fields(names) {
		waiters = append(waiters, script.Waiter{Name: name, RunID: id})
	}
	b.notifyWaiters(ctx, q, waiters)
}
