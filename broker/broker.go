package broker

import "context"

// Broker stores runs until consumers take them. With no other interface a run that was
// taken is gone from the broker: it is executed at most once.
type Broker interface {
	// QueueTasks stores runs of one queue, all of them or none, and returns once they
	// are as safe as the backend makes them. A call of many runs must not delay other
	// callers for longer than a call of few.
	//
	// It returns an error that wraps [ErrDuplicate] if a run with OwnID has the id of a
	// live run of the queue, [ErrBatchTooLarge] if [CheckBatch] does, and [ErrQueueFull]
	// if the backend has no room. If the Unique of a run is that of a live run of the
	// queue, or of an earlier run of the call, the error is a [DuplicateError].
	QueueTasks(ctx context.Context, runs ...*TaskRun) error

	// GetTaskRuns removes up to max due runs from the queues and returns them. Runs of a
	// higher priority come first, then those queued first; it prefers queues named
	// earlier. If the broker counts deliveries, those of a returned run include this one.
	//
	// It blocks until a run is due or ctx ends. In the second case it returns ctx's error
	// and has removed none.
	GetTaskRuns(ctx context.Context, queues []string, max int) ([]*TaskRun, error)

	// QueueLength returns the number of runs in each queue that are stored and not taken,
	// due or not. A queue that never held a run may be missing. If some queues cannot be
	// read, it returns an error, and beside it the lengths of the others.
	QueueLength(ctx context.Context) (map[string]int64, error)
}
