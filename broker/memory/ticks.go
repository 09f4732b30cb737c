package memory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// QueueTick claims a tick and queues its run, as [broker.Ticks] says. If the run cannot be
// queued, other than because of its Unique, the tick stays unclaimed.
func (b *Broker) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	runs := []*broker.TaskRun{run}
	if err := validate(runs); err != nil {
		return err
	}
	chunks := copyIn(runs)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("queue tick of task %s: %w", run.Task, err)
	}
	defer b.mu.Unlock()
	return b.claimTick(chunks, run.Task, tick)
}

// claimTick stores the run of a tick unless it is claimed.
func (b *Broker) claimTick(chunks [][]storedRun, ticksOf string, tick time.Time) error {
	run := &chunks[0][0].run
	q := b.queue(run.Queue)
	if q.disabled[run.Task] != nil {
		return fmt.Errorf("queue tick of task %s: %w", run.Task, broker.ErrDisabled)
	}
	at := tick.UnixNano()
	if last, ok := q.ticks[ticksOf]; ok && at <= last {
		return fmt.Errorf("queue tick %s of task %s: it or a later one was claimed: %w",
			tick.UTC().Format(time.RFC3339Nano), run.Task, broker.ErrDuplicate)
	}
	err := b.store(chunks, 1, b.now())
	if _, unique := errors.AsType[*broker.DuplicateError](err); err == nil || unique {
		q.ticks[ticksOf] = at
	}
	return err
}

// LastTick returns the last claimed tick of a task in UTC, the zero time if
// there was none.
func (b *Broker) LastTick(ctx context.Context, queue, task string) (time.Time, error) {
	if err := b.enter(ctx); err != nil {
		return time.Time{}, fmt.Errorf("read last tick of task %.64q: %w", task, err)
	}
	defer b.mu.Unlock()
	if q := b.queues[queue]; q != nil {
		if at, ok := q.ticks[task]; ok {
			return time.Unix(0, at).UTC(), nil
		}
	}
	return time.Time{}, nil
}

// BeginTicks returns the last claimed tick of a task. If there was none it claims since.
func (b *Broker) BeginTicks(ctx context.Context, queue, task string, since time.Time) (time.Time, error) {
	if err := checkNames(queue, task); err != nil {
		return time.Time{}, fmt.Errorf("begin ticks: %w", err)
	}
	if err := b.enter(ctx); err != nil {
		return time.Time{}, fmt.Errorf("begin ticks of task %s: %w", task, err)
	}
	defer b.mu.Unlock()
	q := b.queue(queue)
	at, ok := q.ticks[task]
	if !ok {
		at = since.UnixNano()
		q.ticks[task] = at
	}
	return time.Unix(0, at).UTC(), nil
}

// Now returns the time of the process's clock.
func (b *Broker) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	return b.time().Round(0), nil
}

// RewindTicks sets the last claimed tick of a task or a schedule to to, if it is from.
func (b *Broker) RewindTicks(ctx context.Context, queue, task, schedule string, from, to time.Time) error {
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("rewind ticks of task %.64q: %w", task, err)
	}
	defer b.mu.Unlock()
	name := task
	if schedule != "" {
		name = task + " " + schedule
	}
	if q := b.queues[queue]; q != nil {
		if at, ok := q.ticks[name]; ok && at == from.UnixNano() {
			q.ticks[name] = to.UnixNano()
		}
	}
	return nil
}

// checkNames returns an error if the name of a queue or task is invalid.
func checkNames(queue, task string) error {
	return (&broker.TaskRun{ID: "-", Queue: queue, Task: task}).Validate()
}
