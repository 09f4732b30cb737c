package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// recoverPage is how many batches one command checks.
const recoverPage = 100

// Recover does for the queues what dead processes have left undone:
//   - It gives back what sessions hold whose leases have ended.
//   - It queues what outcomes have left in outboxes.
//   - It moves the runs of committed large calls.
//   - It decides about pending runs whose producers died.
//
// It sends one command if nothing is in flight. Otherwise it sends one for each queue, one
// for each 100 batches in flight and two for each that it gives back.
func (b *Broker) Recover(ctx context.Context, queues []string) (broker.Recovered, error) {
	var failed error
	all := make([]*queue, 0, len(queues))
	for _, name := range queues {
		q, err := b.queue(name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		all = append(all, q)
	}
	var (
		mu    sync.Mutex
		total int
	)
	each(b.byNode(ctx, all), func(_ int, group []int) {
		n, err := b.recoverOn(ctx, pick(all, group))
		mu.Lock()
		defer mu.Unlock()
		total += n
		failed = errors.Join(failed, err)
	})
	recovered := broker.Recovered{Runs: total, Skipped: b.skipped.take()}
	if failed != nil {
		return recovered, fmt.Errorf("recover: %w", failed)
	}
	return recovered, nil
}

// recoverOn is Recover for queues of one node.
func (b *Broker) recoverOn(ctx context.Context, queues []*queue) (int, error) {
	if len(queues) == 0 {
		return 0, nil
	}
	start := time.Now()
	some, err := b.inFlight(ctx, queues)
	if err != nil {
		for _, q := range queues {
			if !conn.IsDamage(err) { // a key of a wrong type is no outage
				q.outage.fail()
			}
		}
		return 0, err
	}
	took := time.Since(start)
	counts := make([]int, len(some))
	errs := b.eachQueue(ctx, some, func(i int, q *queue) (err error) {
		counts[i], err = b.recoverQueue(ctx, q, took)
		return err
	})
	total := 0
	var failed failures
	for i, n := range counts {
		total += n
		failed.note(some[i], errs[i])
	}
	return total, failed.only()
}

// recoverQueue recovers what is in flight in a queue. took is the time that it took to
// learn that something is.
func (b *Broker) recoverQueue(ctx context.Context, q *queue, took time.Duration) (int, error) {
	total, cursor, wait, start := 0, "0", false, time.Now()
	var failed error // of one batch, which must not stop the others
	for {
		v, err := b.repeat(ctx, b.scripts.Expired, b.clients.Work,
			script.ExpiredKeys(&q.QueueKeys), (&script.ExpiredArgs{Cursor: cursor, Page: recoverPage}).Append(nil)...)
		if err != nil {
			if conn.MayRepeat(err) { // a script that failed is no outage
				q.outage.fail()
			}
			return total, errors.Join(failed, b.fail(ctx, "find ended leases of queue "+q.Name, err))
		}
		reply, err := script.ParseExpired(v)
		if err != nil {
			return total, fmt.Errorf("find ended leases of queue %s: %w", q.Name, err)
		}
		if cursor == "0" {
			wait = q.outage.answered(took+time.Since(start), time.Duration(b.lease.Load()))
		}
		if !wait {
			n, err := b.recoverBatches(ctx, q, reply.Batches)
			total += n
			failed = errors.Join(failed, err)
			if len(reply.Batches) > 0 && ctx.Err() != nil {
				return total, failed
			}
		}
		if cursor = reply.Cursor; cursor == "" {
			return total, errors.Join(failed, b.recoverRest(ctx, q, reply))
		}
	}
}

// recoverBatches gives back batches whose leases have ended. It returns the number of their
// runs.
func (b *Broker) recoverBatches(ctx context.Context, q *queue, batchNames []string) (total int, failed error) {
	for _, name := range batchNames {
		session, _, _ := strings.Cut(name, ":")
		n, err := b.giveBack(ctx, q, session, name, script.GivebackRecover)
		total += max(n, 0)
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return total, failed
}

// recoverRest decides large calls, empties the outbox and decides pending runs, as far as the
// reply says that there are any.
func (b *Broker) recoverRest(ctx context.Context, q *queue, reply script.ExpiredReply) (failed error) {
	if reply.Stages > 0 { // before the runs that wait for these calls
		failed = b.sweepStages(ctx, q)
	}
	if reply.Outbox > 0 {
		_, err := b.moveWholeOutbox(ctx, q)
		failed = errors.Join(failed, err)
	}
	if reply.Pending > 0 {
		failed = errors.Join(failed, b.decideAllPending(ctx, q))
	}
	return failed
}
