package redis

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// QueueTasks queues runs, all of them or none. It blocks until the server has replied. Small
// calls for the same queue share a command.
//
// A large call, of more than some hundred runs, is stored in pages that nobody sees, and
// becomes part of the queue in one step. Its runs come behind those queued before that
// step, in the order of the call; runs that others queue until the call returns may stand
// between them. If the producer dies before that step, nothing is queued. The ids and unique
// keys that the call reserved are free after ten seconds at most.
//
// Small calls of runs without OwnID and Unique are not repeated if their reply is lost: the
// error then wraps [broker.ErrOutcomeUnknown]. If the server has reached its maxmemory, or
// has fewer replicas than its min-replicas-to-write, the error wraps
// [broker.ErrQueueFull]. If the runs are stored, but not confirmed as Config.Acknowledge
// demands, it wraps [broker.ErrNotReplicated].
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

// enqueue queues the runs of a call by a script, together with other calls. It waits for
// large calls that have reserved some of its keys and are not decided. An error begins
// with what, unless it is the result of the call.
func (b *Broker) enqueue(ctx context.Context, q *queue, call *enqueueCall, what string) error {
	for {
		if err := q.enqueue.do(ctx, b.clients, call, call.weight()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if call.status != script.Undecided {
			return call.result
		}
		if err := b.awaitStages(ctx, q, call.reserved()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		call.result, call.status = nil, 0
	}
}

// storeDecided is store, and waits for large calls that have reserved some of the keys and
// are not decided.
func (b *Broker) storeDecided(ctx context.Context, q *queue, calls []*enqueueCall) error {
	for {
		if err := b.store(ctx, q, calls); err != nil {
			return err
		}
		var undecided []*enqueueCall
		var keys []string
		for _, call := range calls {
			if call.status == script.Undecided {
				undecided, keys = append(undecided, call), append(keys, call.reserved()...)
			}
		}
		if len(undecided) == 0 {
			return nil
		}
		if err := b.awaitStages(ctx, q, keys); err != nil {
			return err
		}
		for _, call := range undecided {
			call.result, call.status = nil, 0
		}
		calls = undecided
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
