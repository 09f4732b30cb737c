package broker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Errors that callers find with errors.Is.
var (
	ErrDuplicate = errors.New("a live run has this id already")
	ErrLeaseLost = errors.New("lease lost")
	ErrNoRecord  = errors.New("no record of this run is kept")
	ErrQueueFull = errors.New("the broker refuses more runs")
	ErrClosed    = errors.New("the broker is closed")
	ErrDisabled  = errors.New("the task is disabled")

	// ErrNoSchedule: a queue has no schedule with this id, or it was changed since it
	// was read.
	ErrNoSchedule = errors.New("there is no schedule with this id")

	// ErrAfter: the After of a search or a change is not that of a page of the same one.
	ErrAfter = errors.New("it is not where a page of this list ended; begin with an empty After")

	// ErrGroupTooLarge: the results of a group exceed MaxGroupResults. Reading them
	// fails for good.
	ErrGroupTooLarge = errors.New("the results of the group are too large to be gathered; keep them elsewhere, and return where")

	// ErrBatchTooLarge: the runs of one call are too many or too large together. None of
	// them is stored.
	ErrBatchTooLarge = errors.New("the runs of one call are too many or too large together; queue fewer at once")

	// ErrUnavailable: the server of the broker is away, or refuses calls for now. The
	// call may succeed later.
	ErrUnavailable = errors.New("the broker is unavailable for now")

	// ErrNewer: a newer version of this package stored the run. A broker should leave it
	// to consumers that can read it, for some time.
	ErrNewer = errors.New("a newer version of taskgen wrote it")

	// ErrOutcomeUnknown: the runs of a QueueTasks may be stored or not. The request was
	// sent and its reply has not come.
	ErrOutcomeUnknown = errors.New("whether it was stored is unknown")

	// ErrNotReplicated: the runs of a QueueTasks, QueueGroup or QueueTick are stored, but
	// not as safely as the broker was asked to store them. They may run, and may still be lost.
	// Queueing them again may run them twice; with OwnID, and while they live, it returns
	// ErrDuplicate.
	ErrNotReplicated = errors.New("it is stored, but not as safely as asked")
)

// DuplicateError is [ErrDuplicate] with the runs of a call that were refused, and for
// each the live run that has its id or unique key.
type DuplicateError struct{ Runs []Duplicate }

// Duplicate is a run that was refused.
type Duplicate struct {
	Index int    // of the call's runs or ids; of a group's members, or -1 for the run that awaits them
	ID    string // of the live run, or of an earlier run of the call
}

func (e *DuplicateError) Error() string {
	switch len(e.Runs) {
	case 0:
		return ErrDuplicate.Error()
	case 1:
		return fmt.Sprintf("run %s, queued or running, has the same parameters or id", e.Runs[0].ID)
	}
	return fmt.Sprintf("%d runs have the parameters or ids of others that are queued or running, the first those of run %s",
		len(e.Runs), e.Runs[0].ID)
}

// Is makes errors.Is(err, ErrDuplicate) true.
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// QueueErrors is the error of a call that failed for some of several queues, by queue.
type QueueErrors map[string]error

// Error returns the error of the first queue, and the number of the others.
func (e QueueErrors) Error() string {
	names := slices.Sorted(maps.Keys(e))
	switch len(names) {
	case 0:
		return "no queue failed"
	case 1:
		return e[names[0]].Error()
	}
	return fmt.Sprintf("%v; and %d more queues", e[names[0]], len(names)-1)
}

// Unwrap returns the errors of the queues.
func (e QueueErrors) Unwrap() []error {
	return slices.Collect(maps.Values(e))
}
