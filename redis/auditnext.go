package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// Times of audits that nobody asked for. One process at a time audits a queue. After each
// command it pauses a hundred times as long as the command took.
const (
	auditTurn  = 10 * time.Second // between two turns of a process
	auditEvery = time.Minute      // between two audits of a queue
	auditQuiet = 10 * time.Minute // the same, if no run is in it
	auditClaim = 10 * time.Minute // how long a process that dies meanwhile keeps others from the queue
	auditMost  = 100_000          // runs of a queue that is audited

	auditIdleShare = 10 * time.Second
	auditRefused   = 24 * time.Hour
)

// AuditNext audits and repairs the next of the queues. It skips a queue that another process
// has audited in the last minute, or in the last ten if the queue has no runs. Its
// commands take at most a hundredth of the time; to queues without runs it sends one every
// ten seconds on average. It skips queues of more than 100,000 runs. It does not count at
// limits if more than a MiB, 1,000 batches or some thousand runs are in flight.
func (b *Broker) AuditNext(ctx context.Context, queues []string) (queueName string, report maintenance.Report, err error) {
	turn, ok := b.audits.begin(len(queues))
	if !ok {
		return "", maintenance.Report{}, nil
	}
	after := auditTurn
	defer func() { b.audits.end(after) }()
	q, err := b.queue(queues[turn])
	if err != nil {
		return "", maintenance.Report{}, fmt.Errorf("audit queue: %w", err)
	}
	runs, every, err := b.claimAudit(ctx, q)
	if err != nil || every == 0 {
		return "", maintenance.Report{}, err
	}
	a := &audit{b: b, q: q, report: maintenance.Report{Repaired: true}, pace: pace{slow: true}}
	if runs <= auditMost {
		err = a.run(ctx)
	}
	if runs == 0 {
		after = max(after, time.Duration(a.pace.commands)*auditIdleShare)
	}
	if conn.IsRefusal(err, "NOPERM") {
		after = auditRefused // the server logs each refusal
	}
	if err == nil {
		_, err = b.clients.Work.PExpire(ctx, q.Audited, every)
	}
	if err != nil {
		return q.Name, a.report, b.fail(ctx, "audit queue "+q.Name, err)
	}
	return q.Name, a.report, nil
}

// claimAudit returns how many runs are in a queue, at least, and how often to audit it; 0
// if it was audited of late.
func (b *Broker) claimAudit(ctx context.Context, q *queue) (runs int64, every time.Duration, err error) {
	claimed, err := b.clients.Work.SetNX(ctx, q.Audited, b.id, auditClaim)
	if err != nil {
		return 0, 0, b.fail(ctx, "claim audit of queue "+q.Name, err)
	}
	if !claimed {
		return 0, 0, nil
	}
	if runs, err = b.atLeast(ctx, q); err != nil {
		return 0, 0, b.fail(ctx, "read size of queue "+q.Name, err)
	}
	if runs == 0 {
		return 0, auditQuiet, nil
	}
	return runs, auditEvery, nil
}

// atLeast returns how many runs are in a queue, at least: all that are in flight count as one.
func (b *Broker) atLeast(ctx context.Context, q *queue) (runs int64, err error) {
	pipe := b.clients.Work.Pipeline()
	sizes := []conn.Reply[int64]{pipe.ZCard(ctx, q.Delayed), pipe.ZCard(ctx, q.Backlogs), pipe.Exists(ctx, q.InFlight)}
	for _, list := range q.Ready {
		sizes = append(sizes, pipe.LLen(ctx, list))
	}
	if err := b.clients.ReadAll(ctx, pipe); err != nil {
		return 0, err
	}
	for _, size := range sizes {
		runs += size.Val()
	}
	return runs, nil
}
