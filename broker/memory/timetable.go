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

// entryTicks is where a queue has the last tick of an entry: no task's name has
// a space.
func entryTicks(e *broker.Entry) string { return e.Run.Task + " " + e.ID }

// PutEntry stores a copy of a schedule, as [broker.Timetable] says.
func (b *Broker) PutEntry(ctx context.Context, e *broker.Entry) error {
	if err := e.Validate(); err != nil {
		return fmt.Errorf("put schedule %.64q: %w", e.ID, err)
	}
	kept := copyEntry(e)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("put schedule %s: %w", e.ID, err)
	}
	defer b.mu.Unlock()
	q := b.queue(e.Run.Queue)
	kept.Since = time.Now().Round(0).UTC()
	switch old := q.entries[e.ID]; {
	case old == nil && len(q.entries) >= broker.MaxEntries:
		return fmt.Errorf("put schedule %s: queue %s has %d already: %w", e.ID, e.Run.Queue, broker.MaxEntries, broker.ErrQueueFull)
	case old == nil:
	case old.Run.Task != e.Run.Task:
		return fmt.Errorf("put schedule %s: it is one of task %s: %w", e.ID, old.Run.Task, broker.ErrDuplicate)
	case old.Spec == e.Spec && old.Zone == e.Zone:
		kept.Since = old.Since
	}
	q.used = true
	q.changes++
	kept.Revision = q.changes
	q.entries[e.ID] = kept
	e.Since, e.Last, e.Revision = kept.Since, q.lastTick(e), kept.Revision
	return nil
}

// copyEntry copies an entry for keeping, or for giving away.
func copyEntry(e *broker.Entry) *broker.Entry {
	kept, run := *e, *e.Run
	detach(&run, make([]byte, 0, len(run.Payload)))
	kept.Run = &run
	return &kept
}

// lastTick returns the last claimed tick of an entry, the zero time if there
// was none.
func (q *queue) lastTick(e *broker.Entry) time.Time {
	if at, ok := q.ticks[entryTicks(e)]; ok {
		return time.Unix(0, at).UTC()
	}
	return time.Time{}
}

// DeleteEntry deletes a schedule and what is known of its ticks.
func (b *Broker) DeleteEntry(ctx context.Context, queue, id string) error {
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("delete schedule %.64q: %w", id, err)
	}
	defer b.mu.Unlock()
	q := b.queues[queue]
	if q == nil || q.entries[id] == nil {
		return fmt.Errorf("delete schedule %.64q of queue %.64q: %w", id, queue, broker.ErrNoEntry)
	}
	delete(q.ticks, entryTicks(q.entries[id]))
	delete(q.entries, id)
	q.changes++
	return nil
}

// Entries returns copies of the schedules of the queues, of all when none is
// named.
func (b *Broker) Entries(ctx context.Context, queues ...string) ([]*broker.Entry, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read schedules: %w", err)
	}
	defer b.mu.Unlock()
	if len(queues) == 0 {
		queues = slices.Collect(maps.Keys(b.queues))
	}
	var all []*broker.Entry
	for _, name := range queues {
		q := b.queues[name]
		if q == nil {
			continue
		}
		for _, e := range q.entries {
			e = copyEntry(e)
			e.Last = q.lastTick(e)
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *broker.Entry) int {
		return cmp.Or(cmp.Compare(a.Run.Queue, b.Run.Queue), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// EntryChanges returns how often schedules of each queue were put or deleted.
func (b *Broker) EntryChanges(ctx context.Context) (map[string]int64, error) {
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

// QueueEntry claims a tick of a schedule and queues its run, as
// [broker.Timetable] says.
func (b *Broker) QueueEntry(ctx context.Context, e *broker.Entry, run *broker.TaskRun, tick time.Time) error {
	runs := []*broker.TaskRun{run}
	if err := validate(runs); err != nil {
		return err
	}
	slabs := copyIn(runs)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("queue tick of schedule %s: %w", e.ID, err)
	}
	defer b.mu.Unlock()
	kept := b.queue(run.Queue).entries[e.ID]
	if kept == nil || kept.Revision != e.Revision {
		return fmt.Errorf("queue tick of schedule %s: it was changed or deleted: %w", e.ID, broker.ErrNoEntry)
	}
	return b.claimTick(slabs, entryTicks(kept), tick)
}
