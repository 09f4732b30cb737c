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

// This file has the entries of an outbox that end there and are not queued.

// cancel ends the run of an entry that was cancelled.
func (m *moving) cancel(ctx context.Context, entry string) {
	failure, stored, err := wire.ParseCancelled(entry)
	if err != nil {
		m.bury(ctx, entry, err)
		return
	}
	if _, _, err = m.b.endWaiting(ctx, m.from, m.from.Outbox, entry, stored, failure); err != nil {
		m.stay(1, err)
	}
}

// bury makes a dead letter of an entry that is no run.
func (m *moving) bury(ctx context.Context, entry string, why error) {
	failure := &broker.Failure{Kind: broker.FailureSchema, Message: why.Error()}
	if m.endMember(new(outcome), entry, new(broker.TaskRun), failure) {
		m.dead(ctx, entry, new(broker.TaskRun), failure)
		return
	}
	a := &audit{b: m.b, q: m.from, report: maintenance.Report{Repaired: true}}
	if _, err := a.buryAt(ctx, m.from.Outbox, 0, entry); err != nil {
		m.stay(1, err)
	}
}

// leaveNewer leaves entries of newer versions to others, and makes dead letters of them
// after newerPatience.
func (m *moving) leaveNewer(ctx context.Context, entries []unread) {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i], _ = wire.NewerID([]byte(wire.StoredRunIn(string(e.stored))), e.why)
	}
	// After an error each counts as seen for the first time.
	ages, _ := m.b.newerFor(ctx, m.from, ids)
	for i, e := range entries {
		if ages[ids[i]] < newerPatience {
			m.stay(1, nil)
			continue
		}
		m.dead(ctx, string(e.stored), new(broker.TaskRun), &broker.Failure{Kind: broker.FailureSchema, Message: nobodyCame(e.why).Error()})
	}
}

// dead makes a dead letter of the run of an entry, in the queue of the outbox. From there
// people can requeue it in its own queue. If the run is a member of a group, it has ended.
func (m *moving) dead(ctx context.Context, entry string, run *broker.TaskRun, failure *broker.Failure) bool {
	out := new(outcome)
	out.add(script.OpBury, "", append(wire.AppendFailure(nil, failure), wire.StoredRunIn(entry)...))
	m.endMember(out, entry, run, failure)
	return m.apply(ctx, entry, out)
}

// endMember adds the operation that ends the run of an entry as the member of a group, if it
// is one. It reports whether it is.
func (m *moving) endMember(out *outcome, entry string, run *broker.TaskRun, failure *broker.Failure) bool {
	stored := []byte(wire.StoredRunIn(entry))
	h, err := wire.ParseHeader(stored)
	return err == nil && out.endMember(m.from, h, stored, failedRecord(run, failure))
}

// apply applies operations, and removes the entry in the same step. It reports whether the
// entry was there.
func (m *moving) apply(ctx context.Context, entry string, out *outcome) bool {
	reply, _, err := m.b.endAt(ctx, m.from, m.from.Outbox, entry, out)
	if err != nil {
		m.stay(1, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.added = m.added || reply.Sent
	return reply.Ended
}

// giveUp makes a dead letter of a run that can never be queued, and sets its record. A run
// whose group has ended stays, because its pending run is stored elsewhere. It reports whether
// there is a dead letter.
func (m *moving) giveUp(ctx context.Context, to *queue, entry string, run *broker.TaskRun, why error) bool {
	if strings.HasPrefix(entry, wire.GatheringOpens) {
		m.stay(1, why)
		return false
	}
	failure := &broker.Failure{Kind: broker.FailureFailed, Message: fmt.Sprintf(
		"it was to follow run %s, and queue %s cannot take it: %v; correct that, then queue it again (dead retry)", run.ParentID, to.Name, why)}
	if !m.dead(ctx, entry, run, failure) {
		return false
	}
	m.b.recordUnqueued(ctx, to, run, failure)
	return true
}

// recordUnqueued sets the record of a run that was never queued. After an error there is none,
// and a wait for it returns that.
func (b *Broker) recordUnqueued(ctx context.Context, to *queue, run *broker.TaskRun, failure *broker.Failure) {
	if run.Keep <= 0 {
		return
	}
	record := failedRecord(run, failure)
	_, _ = b.clients.Work.SetNX(ctx, to.Record(run.ID), record, run.Keep)
}

// skipMember ends a duplicate as the member of its group, and removes its entry in the same
// step.
func (m *moving) skipMember(ctx context.Context, s *sending, i int) {
	run := s.runs[i]
	failure := &broker.Failure{Kind: broker.FailureDuplicate, Message: inTheWay(run, s.calls[i].result)}
	out := new(outcome)
	m.endMember(out, s.entries[i], run, failure)
	if m.apply(ctx, s.entries[i], out) {
		m.b.skipped.note(run, s.calls[i].result)
	}
}
