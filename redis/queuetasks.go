package redis

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// QueueTasks stores runs, all of them or none. Small calls for the same queue share
// a command. A large one, of more than some hundred runs, is stored in pages that
// nobody sees, each a short step of the server, and becomes part of the queue in one
// step: its runs come behind those queued before that step, and in the order of the
// call, but what others queue until it returns may stand between them. Where its
// producer dies before that step nothing of it is stored, and the ids and unique keys
// that it reserved are free after ten seconds at most. Small calls of runs
// without OwnID and Unique are not sent again when the reply to them is lost:
// the error then wraps [broker.ErrOutcomeUnknown]. When the server has reached its
// maxmemory, or has fewer replicas than its min-replicas-to-write, the error
// wraps [broker.ErrQueueFull]; when the runs are stored, but not confirmed as
// Config.Acknowledge asks, [broker.ErrNotReplicated].
func (b *Broker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if len(runs) == 0 {
		return nil
	}
	q, err := b.check(runs)
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	err = b.queueTasks(ctx, q, runs)
	if first := err; conn.IsLoading(first) {
		err = b.clients.WhileLoading(ctx, func() error {
			if err := first; err != nil {
				first = nil
				return err
			}
			return b.queueTasks(ctx, q, runs)
		})
	}
	return err
}

func (b *Broker) queueTasks(ctx context.Context, q *queue, runs []*broker.TaskRun) error {
	if err := b.registerQueue(ctx, q); err != nil {
		return err
	}
	list := b.pushableList(runs)
	if large := isLarge(runs); list > 0 && (!large || fitsOnePush(runs)) {
		return b.pushRuns(ctx, q, list, runs)
	} else if large {
		return b.queueStaged(ctx, q, runs, "", "")
	}
	g, err := newEnqueueCall(&q.QueueKeys, runs)
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	if len(g.claims.refused) > 0 {
		return b.refuseTwice(ctx, &g.claims, runs)
	}
	return b.enqueue(ctx, q, g, "queue tasks")
}

// enqueue queues what one call does by a script, with what is queued at the same
// time. What a large call has reserved that is not decided yet it waits for. An error
// opens with what was done, unless it is the result of the group.
func (b *Broker) enqueue(ctx context.Context, q *queue, g *enqueueCall, what string) error {
	for {
		if err := q.enqueue.do(ctx, b.clients, g, g.weight()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if g.verdict != script.Undecided {
			return g.result
		}
		if err := b.awaitStages(ctx, q, g.reserved()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		g.result, g.verdict = nil, 0
	}
}

// storeDecided is store, and waits for what large calls have reserved that are not
// decided yet.
func (b *Broker) storeDecided(ctx context.Context, q *queue, groups []*enqueueCall) error {
	for {
		if err := b.store(ctx, q, groups); err != nil {
			return err
		}
		var undecided []*enqueueCall
		var keys []string
		for _, g := range groups {
			if g.verdict == script.Undecided {
				undecided, keys = append(undecided, g), append(keys, g.reserved()...)
			}
		}
		if len(undecided) == 0 {
			return nil
		}
		if err := b.awaitStages(ctx, q, keys); err != nil {
			return err
		}
		for _, g := range undecided {
			g.result, g.verdict = nil, 0
		}
		groups = undecided
	}
}

// pushRuns queues runs of one ready list that nothing can refuse.
func (b *Broker) pushRuns(ctx context.Context, q *queue, list int, runs []*broker.TaskRun) error {
	scratch, _ := b.scratch.Get().(*scratch)
	if scratch == nil {
		scratch = newScratch()
	}
	defer b.scratch.Put(scratch)
	if err := scratch.encode(q, list, runs); err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	if scratch.batch.weight() > largePush {
		return b.sendPush(ctx, q, &scratch.batch)
	}
	return q.push.add(ctx, &scratch.batch)
}
