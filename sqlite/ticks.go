package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// QueueTick claims a tick and queues its run, as [broker.Ticks] says.
func (b *Broker) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	rows, err := encode([]*broker.TaskRun{run})
	if err != nil {
		return err
	}
	queue, task, at := run.Queue, run.Task, tick.UnixNano()
	err = b.writer.call(ctx, func(t *tx) error {
		if last, claimed := t.lastTick(queue, task); claimed && at <= last {
			return fmt.Errorf("tick %s: it or a later one was claimed: %w", tick.UTC().Format(time.RFC3339Nano), broker.ErrDuplicate)
		}
		if err := t.queue(rows); err != nil {
			return err
		}
		t.setTick(queue, task, at)
		return t.err
	})
	if err != nil {
		return fmt.Errorf("queue tick of task %s: %w", task, err)
	}
	return nil
}

const selectTick = "SELECT at FROM taskgen_ticks WHERE queue = ? AND name = ?"

func (t *tx) lastTick(queue, name string) (at int64, claimed bool) {
	claimed = t.row(selectTick, []any{queue, name}, &at)
	return at, claimed
}

func (t *tx) setTick(queue, name string, at int64) {
	t.exec("INSERT OR REPLACE INTO taskgen_ticks VALUES (?, ?, ?)", queue, name, at)
}

// LastTick returns the last claimed tick of a task in UTC, the zero time if there was none. It
// does not wait for those who write.
func (b *Broker) LastTick(ctx context.Context, queue, task string) (time.Time, error) {
	var at int64
	err := b.open()
	if err == nil {
		err = b.db.QueryRowContext(ctx, selectTick, queue, task).Scan(&at)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("read last tick of task %.64q: %w", task, explain(err))
	}
	return time.Unix(0, at).UTC(), nil
}

// BeginTicks returns the last claimed tick of a task. If there was none it claims since.
func (b *Broker) BeginTicks(ctx context.Context, queue, task string, since time.Time) (time.Time, error) {
	if err := (&broker.TaskRun{ID: "-", Queue: queue, Task: task}).Validate(); err != nil {
		return time.Time{}, fmt.Errorf("begin ticks: %w", err)
	}
	var last int64
	err := b.writer.call(ctx, func(t *tx) error {
		var claimed bool
		if last, claimed = t.lastTick(queue, task); !claimed {
			last = since.UnixNano()
			t.setTick(queue, task, last)
		}
		return t.err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("begin ticks of task %s: %w", task, err)
	}
	return time.Unix(0, last).UTC(), nil
}

// Now returns the time of the machine's clock, by which all processes of the file go.
func (b *Broker) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	return time.Now().Round(0), nil
}

// RewindTicks sets the last claimed tick of a task or a schedule to to, if it is from.
func (b *Broker) RewindTicks(ctx context.Context, queue, task, schedule string, from, to time.Time) error {
	name := task
	if schedule != "" {
		name += " " + schedule // no task's name has a space
	}
	err := b.writer.call(ctx, func(t *tx) error {
		if last, claimed := t.lastTick(queue, name); claimed && last == from.UnixNano() {
			t.setTick(queue, name, to.UnixNano())
		}
		return t.err
	})
	if err != nil {
		return fmt.Errorf("rewind ticks of task %.64q: %w", task, err)
	}
	return nil
}
