package broker

import (
	"context"
	"time"
)

// Ticks is a broker that claims and queues a schedule's tick in one step, so that any
// number of schedulers queue it once.
type Ticks interface {
	// QueueTick claims the tick of run's task at the given instant, and queues run.
	//
	// It returns [ErrDuplicate] if that tick or a later one was claimed before, and
	// [ErrDisabled] if the task is disabled; then it neither claims nor queues. If the
	// run's Unique is that of a live run, it claims the tick, queues nothing and returns
	// a [DuplicateError].
	QueueTick(ctx context.Context, run *TaskRun, tick time.Time) error

	// LastTick returns the last claimed tick of a task, the zero time if there was none.
	LastTick(ctx context.Context, queue, task string) (time.Time, error)

	// BeginTicks returns what LastTick does. If that is the zero time it claims the tick
	// since, without a run, and returns it: the schedule is known to begin there, even if
	// its first tick is missed.
	BeginTicks(ctx context.Context, queue, task string, since time.Time) (time.Time, error)
}

// Clock is a [Ticks] by which schedulers find out that their own clock is wrong.
type Clock interface {
	// Now returns the broker's time.
	Now(ctx context.Context) (time.Time, error)

	// RewindTicks takes back a claim that a clock ahead of time had made: it sets the last
	// claimed tick from the one instant to the other, and does nothing if that is not from.
	// The ticks are those of the task, or of its schedule with the given id unless that is
	// empty. Repeating it is safe.
	RewindTicks(ctx context.Context, queue, task, schedule string, from, to time.Time) error
}
