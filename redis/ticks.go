package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// QueueTick queues run as the tick of its task, in one command with what is
// queued at the same time. Ticks before 1970 are refused. It can be called again
// when an error leaves open whether it was stored.
func (b *Broker) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	text, err := tickText(tick)
	if err != nil {
		return fmt.Errorf("queue tick of %s: %w", run.Task, err)
	}
	return b.queueTick(ctx, run, run.Task, text)
}

// queueTick queues the run of a tick, as the enqueue script takes it.
func (b *Broker) queueTick(ctx context.Context, run *broker.TaskRun, ticksOf, tick string) error {
	runs := []*broker.TaskRun{run}
	q, err := b.check(runs)
	if err != nil {
		return fmt.Errorf("queue tick of %s: %w", run.Task, err)
	}
	g, err := newGroup(q, runs)
	if err != nil {
		return fmt.Errorf("queue tick of %s: %w", run.Task, err)
	}
	g.task, g.tick, g.canRetry = ticksOf, tick, true
	if err := b.announce(ctx, q); err != nil {
		return err
	}
	return b.queueGroup(ctx, q, g, "queue tick of "+run.Task)
}

// LastTick returns the last claimed tick of a task, the zero time if there was
// none.
func (b *Broker) LastTick(ctx context.Context, queueName, task string) (time.Time, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return time.Time{}, fmt.Errorf("read last tick of %s: %w", task, err)
	}
	values, err := promptly(ctx, b, func(ctx context.Context) ([]any, error) {
		return b.clients.work.HMGet(ctx, q.ticks, task).Result()
	})
	if err != nil {
		return time.Time{}, b.fail(ctx, "read last tick of "+task, b.blame(ctx, err, q.ticks))
	}
	text, ok := values[0].(string)
	if !ok {
		return time.Time{}, nil
	}
	ns, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read last tick of %s: %w", task, err)
	}
	return time.Unix(0, ns).UTC(), nil
}

// BeginTicks returns the last claimed tick of a task, and claims since where
// there was none.
func (b *Broker) BeginTicks(ctx context.Context, queueName, task string, since time.Time) (time.Time, error) {
	text, err := tickText(since)
	if err == nil {
		err = (&broker.TaskRun{ID: "-", Queue: queueName, Task: task}).Validate()
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("begin ticks of %.64q: %w", task, err)
	}
	q, err := b.queue(queueName)
	if err != nil {
		return time.Time{}, fmt.Errorf("begin ticks of %s: %w", task, err)
	}
	began, err := promptly(ctx, b, func(ctx context.Context) (bool, error) {
		return b.clients.work.HSetNX(ctx, q.ticks, task, text).Result()
	})
	switch {
	case err != nil:
		return time.Time{}, b.fail(ctx, "begin ticks of "+task, b.blame(ctx, err, q.ticks))
	case began:
		return since.UTC().Round(0), nil
	}
	return b.LastTick(ctx, queueName, task)
}

// tickText is a tick as scripts compare it.
func tickText(tick time.Time) (string, error) {
	ns := tick.UnixNano()
	if ns < 0 || tick.Year() > 2200 {
		return "", fmt.Errorf("the year %d is outside 1970 to 2200", tick.Year())
	}
	return fmt.Sprintf("%020d", ns), nil
}
