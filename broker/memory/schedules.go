package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// ticksOf is the key of a schedule's last tick among those of tasks. No task's name has a
// space.
func ticksOf(schedule *broker.Schedule) string { return schedule.Run.Task + " " + schedule.ID }

// PutSchedule stores a copy of a schedule, as [broker.ScheduleStore] says.
func (b *Broker) PutSchedule(ctx context.Context, schedule *broker.Schedule) error {
	if err := schedule.Validate(); err != nil {
		return fmt.Errorf("put schedule %.64q: %w", schedule.ID, err)
	}
	kept := copySchedule(schedule)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("put schedule %s: %w", schedule.ID, err)
	}
	defer b.mu.Unlock()
	q := b.queue(schedule.Run.Queue)
	kept.Since = b.time().Round(0).UTC()
	switch old := q.schedules[schedule.ID]; {
	case old == nil && len(q.schedules) >= broker.MaxSchedules:
		return fmt.Errorf("put schedule %s: queue %s has %d already: %w", schedule.ID, schedule.Run.Queue, broker.MaxSchedules, broker.ErrQueueFull)
	case old == nil:
	case old.Run.Task != schedule.Run.Task:
		return fmt.Errorf("put schedule %s: it is one of task %s: %w", schedule.ID, old.Run.Task, broker.ErrDuplicate)
	case old.Spec == schedule.Spec && old.Zone == schedule.Zone:
		kept.Since = old.Since
	}
	q.used = true
	q.changes++
	kept.Revision = q.changes
	q.schedules[schedule.ID] = kept
	schedule.Since, schedule.Last, schedule.Revision = kept.Since, q.lastTick(schedule), kept.Revision
	return nil
}

// copySchedule returns a copy of a schedule that shares no memory with it.
func copySchedule(schedule *broker.Schedule) *broker.Schedule {
	kept, run := *schedule, *schedule.Run
	detach(&run, make([]byte, 0, len(run.Payload)))
	kept.Run = &run
	return &kept
}

// lastTick returns the last claimed tick of a schedule, the zero time if there
// was none.
func (q *queue) lastTick(schedule *broker.Schedule) time.Time {
	if at, ok := q.ticks[ticksOf(schedule)]; ok {
		return time.Unix(0, at).UTC()
	}
	return time.Time{}
}

// DeleteSchedule deletes a schedule and its last tick.
func (b *Broker) DeleteSchedule(ctx context.Context, queue, id string) error {
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("delete schedule %.64q: %w", id, err)
	}
	defer b.mu.Unlock()
	q := b.queues[queue]
	if q == nil || q.schedules[id] == nil {
		return fmt.Errorf("delete schedule %.64q of queue %.64q: %w", id, queue, broker.ErrNoSchedule)
	}
	delete(q.ticks, ticksOf(q.schedules[id]))
	delete(q.schedules, id)
	q.changes++
	return nil
}

// Schedules returns copies of the schedules of the queues, or of all queues if none is
// named.
func (b *Broker) Schedules(ctx context.Context, queues ...string) ([]*broker.Schedule, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read schedules: %w", err)
	}
	defer b.mu.Unlock()
	if len(queues) == 0 {
		queues = slices.Collect(maps.Keys(b.queues))
	}
	var all []*broker.Schedule
	for _, name := range queues {
		q := b.queues[name]
		if q == nil {
			continue
		}
		for _, schedule := range q.schedules {
			schedule = copySchedule(schedule)
			schedule.Last = q.lastTick(schedule)
			all = append(all, schedule)
		}
	}
	slices.SortFunc(all, func(a, b *broker.Schedule) int {
		return cmp.Or(cmp.Compare(a.Run.Queue, b.Run.Queue), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// ScheduleChanges returns how often schedules of each queue were put or deleted.
func (b *Broker) ScheduleChanges(ctx context.Context) (map[string]int64, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("ask for changes of schedules: %w", err)
	}
	defer b.mu.Unlock()
	changes := make(map[string]int64)
	for name, q := range b.queues {
		if q.changes > 0 {
			changes[name] = q.changes
		}
	}
	return changes, nil
}

// QueueScheduleTick claims a tick of a schedule and queues its run, as
// [broker.ScheduleStore] says.
func (b *Broker) QueueScheduleTick(ctx context.Context, schedule *broker.Schedule, run *broker.TaskRun, tick time.Time) error {
	runs := []*broker.TaskRun{run}
	if err := validate(runs); err != nil {
		return err
	}
	chunks := copyIn(runs)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("queue tick of schedule %s: %w", schedule.ID, err)
	}
	defer b.mu.Unlock()
	kept := b.queue(run.Queue).schedules[schedule.ID]
	if kept == nil || kept.Revision != schedule.Revision {
		return fmt.Errorf("queue tick of schedule %s: it was changed or deleted: %w", schedule.ID, broker.ErrNoSchedule)
	}
	return b.claimTick(chunks, ticksOf(kept), tick)
}
