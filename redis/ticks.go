package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// QueueTick queues run as the tick of its task. Concurrent calls share a command. It
// refuses ticks before 1970. If an error leaves open whether the run was stored, QueueTick
// can be called again.
func (b *Broker) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	text, err := wire.FormatTick(tick)
	if err != nil {
		return fmt.Errorf("queue tick of %s: %w", run.Task, err)
	}
	return b.queueTick(ctx, run, "", text)
}

// queueTick queues the run of a tick, of a schedule with this id or of the task. tick is
// as the enqueue script takes it.
func (b *Broker) queueTick(ctx context.Context, run *broker.TaskRun, entry, tick string) error {
	runs := []*broker.TaskRun{run}
	q, err := b.check(runs)
	if err != nil {
		return fmt.Errorf("queue tick of %s: %w", run.Task, err)
	}
	if err := b.registerQueue(ctx, q); err != nil {
		return err
	}
	for again := false; ; again = true {
		g, err := newEnqueueCall(&q.QueueKeys, runs)
		if err != nil {
			return fmt.Errorf("queue tick of %s: %w", run.Task, err)
		}
		g.task, g.tick, g.canRetry = wire.TicksField(run.Task, entry), tick, true
		err = b.enqueue(ctx, q, g, "queue tick of "+run.Task)
		if g.status != script.ScheduleGone || again && entry != "" {
			return err
		}
		if again {
			return fmt.Errorf("queue tick of %s: its last claimed tick cannot be read", run.Task)
		}
		if there, failed := b.goOn(ctx, q, run.Task, entry, tick); !there {
			return cmp.Or(failed, err)
		}
	}
}

// goOn stores a last claimed tick of a schedule if the enqueue script found none. If that
// was lost, nobody knows which ticks were queued. So that none is queued twice, the
// schedule goes on behind the present and behind the tick given. goOn returns false if the
// schedule was deleted or changed.
func (b *Broker) goOn(ctx context.Context, q *queue, task, entry, tick string) (there bool, err error) {
	v, err := b.repeat(ctx, b.scripts.RestoreTick, b.clients.Work, script.RestoreTickKeys(&q.QueueKeys),
		(&script.RestoreTickArgs{Field: wire.TicksField(task, entry), Tick: tick, Schedule: entry}).Append(nil)...)
	var reply script.RestoreTickReply
	if err == nil {
		reply, err = script.ParseRestoreTick(v)
	}
	if err != nil {
		return false, b.fail(ctx, "read last tick of "+task, err)
	}
	if reply.Lost {
		b.logLostTick(ctx, q, task, entry, reply.Found)
	}
	return !reply.Gone, nil
}

// logLostTick logs that a schedule goes on although its last claimed tick cannot be read.
func (b *Broker) logLostTick(ctx context.Context, q *queue, task, entry, found string) {
	b.cfg.Logger.WarnContext(ctx, "the last claimed tick of a schedule is lost: the schedule goes on from now, without ticks before that may not have been queued",
		"queue", q.Name, "task", task, "schedule", entry, "key", q.Ticks, "found", fmt.Sprintf("%.64q", found))
}

// LastTick returns the last claimed tick of a task, the zero time if there is none.
func (b *Broker) LastTick(ctx context.Context, queueName, task string) (time.Time, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return time.Time{}, fmt.Errorf("read last tick of %s: %w", task, err)
	}
	values, err := b.clients.Work.HMGet(ctx, q.Ticks, task)
	if err != nil {
		return time.Time{}, b.fail(ctx, "read last tick of "+task, b.blame(ctx, err, q.Ticks))
	}
	text, ok := values[0].(string)
	if !ok {
		return time.Time{}, nil
	}
	last, ok := parseTick(text)
	if !ok {
		return last, fmt.Errorf("read last tick of %s: %.64q of %s is %w", task, text, q.Ticks, errNoTick)
	}
	return last, nil
}

func parseTick(text string) (tick time.Time, ok bool) {
	ns, err := strconv.ParseInt(text, 10, 64)
	if err != nil || !wire.IsTick(text) {
		return tick, false
	}
	return time.Unix(0, ns).UTC(), true
}

// errNoTick is the error of a last tick that cannot be read.
var errNoTick = errors.New("no tick")

// BeginTicks returns the last claimed tick of a task. If there is none, it claims since.
func (b *Broker) BeginTicks(ctx context.Context, queueName, task string, since time.Time) (time.Time, error) {
	text, err := wire.FormatTick(since)
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
	began, err := repaired(ctx, b, q.Ticks, func() (bool, error) { return b.clients.Work.HSetNX(ctx, q.Ticks, task, text) })
	switch {
	case err != nil:
		return time.Time{}, b.fail(ctx, "begin ticks of "+task, b.blame(ctx, err, q.Ticks))
	case began:
		return since.UTC().Round(0), nil
	}
	last, err := b.LastTick(ctx, queueName, task)
	if errors.Is(err, errNoTick) {
		if _, err := b.goOn(ctx, q, task, "", text); err != nil {
			return time.Time{}, err
		}
		return b.LastTick(ctx, queueName, task)
	}
	return last, err
}
