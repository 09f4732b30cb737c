package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// refuseTwice makes the error of a call that has a unique key twice. It also reads which
// live runs have the keys.
func (b *Broker) refuseTwice(ctx context.Context, c *claims, runs []*broker.TaskRun) error {
	owners, err := b.clients.Work.MGet(ctx, c.keys...)
	if err != nil {
		return b.fail(ctx, "queue tasks: read unique keys", err)
	}
	refused := new(broker.DuplicateError)
	live := map[string]string{}
	for i, index := range c.runs {
		if id := wire.OwnerOf(owners[i]); id != "" {
			live[runs[index].Rules.OrZero().Unique] = id
		}
	}
	for i, run := range runs {
		key := run.Rules.OrZero().Unique
		if key == "" {
			continue
		}
		if id := live[key]; id != "" {
			refused.Runs = append(refused.Runs, broker.Duplicate{Index: i, ID: id})
		} else if first := c.first[key]; first != i {
			refused.Runs = append(refused.Runs, broker.Duplicate{Index: i, ID: runs[first].ID})
		}
	}
	return refused
}

// notQueued makes the error of a call that queues from err; nil stays nil.
func (b *Broker) notQueued(ctx context.Context, err error, doubtful bool) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrNotReplicated):
		return fmt.Errorf("queue tasks: %w", err)
	case doubtful:
		return fmt.Errorf("%w: %w", broker.ErrOutcomeUnknown, b.fail(ctx, "queue tasks", err))
	case conn.IsRefusal(err, "NOREPLICAS"):
		return fmt.Errorf("queue tasks: %w: the server has fewer replicas than its min-replicas-to-write: start one, or lower that", broker.ErrQueueFull)
	}
	return b.fail(ctx, "queue tasks", err)
}

// check refuses runs that cannot be stored together. It returns their queue.
func (b *Broker) check(runs []*broker.TaskRun) (*queue, error) {
	if err := broker.CheckBatch(runs); err != nil {
		return nil, err
	}
	q, err := b.queue(runs[0].Queue)
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		if err := run.Validate(); err != nil {
			return nil, err
		}
		if run.Links != nil && len(run.Links.Members) > 0 {
			return nil, fmt.Errorf("run %s has the members of its group with it: QueueGroup queues them", run.ID)
		}
		if run.Queue != q.Name {
			return nil, fmt.Errorf("runs of the queues %q and %q in one call", q.Name, run.Queue)
		}
	}
	return q, nil
}

// sendCalls stores calls of one queue in one command, and sets the result of each.
func (b *Broker) sendCalls(ctx context.Context, q *queue, calls []*enqueueCall) {
	sent := calls
	merged := new(enqueueCall)
	if len(calls) > 1 {
		sent = make([]*enqueueCall, 1, 4)
		sent[0] = merged
		for _, call := range calls {
			if call.isPlain() {
				merged.merge(call)
			} else {
				sent = append(sent, call)
			}
		}
	}
	err := b.store(ctx, q, sent)
	for _, call := range calls {
		switch {
		case err != nil:
			call.result = err
		case len(calls) > 1 && call.isPlain():
			call.result = merged.result
		}
	}
}

// store sends calls until it is known whether they are stored, or they cannot be sent
// again. The refusal of one call is its result. Calls with a source fail as a whole if the
// value of a key stops the script: the key is quarantined if it is the queue's.
func (b *Broker) store(ctx context.Context, q *queue, calls []*enqueueCall) error {
	start := time.Now()
	err := b.storeOnce(ctx, q, calls)
	if len(calls[0].source) > 0 && conn.IsDamage(err) && b.repair(ctx, start, q.Keys()...) {
		return b.storeOnce(ctx, q, calls)
	}
	return err
}

func (b *Broker) storeOnce(ctx context.Context, q *queue, calls []*enqueueCall) error {
	token := b.id + "." + strconv.FormatUint(b.calls.Add(1), 36)
	keys := script.EnqueueKeys(&q.QueueKeys)
	args := (&script.EnqueueArgs{Token: token, Calls: len(calls)}).Append(make([]any, 0, 64))
	canRetry := true
	for _, call := range calls {
		keys = slices.Concat(keys, call.owners, call.claims.keys, call.records)
		args = call.appendArgs(args)
		canRetry = canRetry && call.canRetry
	}
	again := conn.IsTransient
	limited := ctx
	if canRetry {
		again = conn.MayRepeat
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, repeatFor)
		defer cancel()
	}
	start := time.Now()
	v, then, replyLost, err := b.repeatConfirmed(limited, b.scripts.Enqueue, q, again, keys, args)
	if err != nil {
		return b.notQueued(ctx, b.blame(ctx, err, keys...), replyLost)
	}
	if err := setResults(v, calls, then.Result()); err != nil {
		return err
	}
	return b.storeAgain(ctx, q, calls, start)
}

// storeAgain stores calls again that could not be stored because of the value of a key, if
// the key could be repaired. It does not repeat ticks, nor calls with a source.
func (b *Broker) storeAgain(ctx context.Context, q *queue, calls []*enqueueCall, since time.Time) error {
	var failed []*enqueueCall
	keys, repair := q.Keys(), false
	for _, call := range calls {
		if !conn.IsDamage(call.result) {
			continue
		}
		repair = true
		owners := call.owners
		if len(call.source) > 0 {
			if call.source[0] != 'b' {
				continue
			}
			owners = owners[1:] // without its group there is nothing to store
		}
		keys = slices.Concat(keys, owners, call.claims.keys, call.records)
		if call.task == "" {
			failed = append(failed, call)
		}
	}
	if !repair || !b.repair(ctx, since, keys...) || len(failed) == 0 {
		return nil
	}
	for _, call := range failed {
		call.result = nil
	}
	return b.store(ctx, q, failed)
}

// repeatFor is how long a call of runs with own ids is repeated after its reply was lost.
// It is less than the time for which the server remembers, by the call's token, that such
// a run has ended: a repeated call must not queue it again.
const repeatFor = 8 * time.Second
