package broker

import (
	"context"
	"time"
)

// Controls is a broker that people inspect and operate while it is in use. It has
// [Records], and its sessions are [Heartbeater].
type Controls interface {
	// Pause sets whether the delivery of a queue's runs is stopped. Runs that were taken
	// before go on.
	Pause(ctx context.Context, queue string, paused bool) error

	// Disable sets whether the delivery of a task's runs, and the claiming of its ticks,
	// are stopped. Its runs can still be queued, and wait in their order.
	Disable(ctx context.Context, queue, task string, disabled bool) error

	// Cancel ends a run with the given failure, as [Dropped]. A run that waits ends at
	// once. The session of a run in flight learns of it by [Heartbeater.Heartbeat]; the
	// run ends when it is given back, retried or recovered, if the session does not finish
	// it otherwise. Cancel returns [ErrNoRecord] if no live run has the id.
	Cancel(ctx context.Context, queue, id string, failure Failure) error

	// Queue describes a queue. If a part of it cannot be read it returns an error, and
	// beside it the rest.
	Queue(ctx context.Context, queue string) (*QueueInfo, error)

	// Runs returns up to max runs of the queue in a state. Those that have ended are
	// listed if they have a record. The order is
	//   - of queued runs, that in which they will be taken, but those that a policy
	//     keeps back can stand anywhere;
	//   - of delayed runs, that in which they are due;
	//   - of running ones, by the id of the session that holds them, and the runs of a
	//     session in the order in which it took them;
	//   - of those that have ended, the latest first; a broker may list only some thousands.
	//
	// Another state is an error. If a part of the queue cannot be read, Runs returns an
	// error, and beside it the runs of the rest.
	Runs(ctx context.Context, queue string, state State, max int) ([]*RunInfo, error)

	// RequeueDead queues the dead letters with these ids again, each as a new run
	// that is due at once, with no attempts and no deliveries, and returns how many
	// it queued. The History stays, as it says why the run failed before. It ignores ids
	// without a dead letter; without ids it does nothing. A dead letter whose Unique or own
	// id is that of a live run stays. RequeueDead then queues the others and returns a
	// [DuplicateError] whose Index is one of ids.
	RequeueDead(ctx context.Context, queue string, ids ...string) (int, error)

	// DeleteDead deletes the dead letters with these ids and returns how many it
	// deleted. It ignores ids without a dead letter; without ids it does nothing.
	DeleteDead(ctx context.Context, queue string, ids ...string) (int, error)
}

// QueueInfo describes a queue.
type QueueInfo struct {
	Queue    string
	Paused   bool
	Disabled []string // tasks, sorted
	Queued   int64    // due; runs that wait for a limit count
	Delayed  int64    // not yet due, or waiting for a retry
	Running  int64    // held by sessions
	Dead     int64
	Trimmed  int64 // dead letters that were ever removed because there were too many
	Last     map[string]LastRun

	Oldest time.Time // since when the run is due that waits the longest; zero: none waits, or it is unknown
	Held   int64     // of Queued: those that a limit or their turn keeps back
	// DelayedDue is how many of Queued were delayed, and that nobody has moved to those that are
	// ready since they are due. Consumers do that when they take; a broker that does it by itself
	// has none.
	DelayedDue int64
	Limits     []LimitInfo // those that keep runs back, the most runs first, at most MaxLimitInfos
}

// MaxLimitInfos is how many limits [QueueInfo] has at most.
const MaxLimitInfos = 100

// LimitInfo is a limit that keeps runs back.
type LimitInfo struct {
	Limit
	Used    int      // runs with it that are in flight; with Per: that started within that time
	Waiting int64    // runs that it keeps back; a run with several limits counts for one
	Run     *TaskRun // one of these; nil: unknown, as if it is large
}

// LastRun is how the latest run of a task ended.
type LastRun struct {
	Queue   string
	Task    string
	ID      string
	Started time.Time
	Took    time.Duration
	Failure FailureKind // empty: it succeeded
}

// RunInfo is one run and where it is.
type RunInfo struct {
	Run     *TaskRun // of a run that has ended only ID, Task, Queue, Attempt, QueuedAt and History
	State   State
	Due     time.Time // of StateDelayed
	Session string    // that holds it, of StateRunning
	Failure *Failure  // the last one, if it is known
	Started time.Time // of the attempt that goes on, or was the last; zero: unknown
	Ended   time.Time // of a run that has ended; zero: unknown
}
