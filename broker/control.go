package broker

import (
	"fmt"
	"time"
)

// DuplicateError is [ErrDuplicate] with the runs of a call that could not be
// stored, for each the live run that is in its way.
type DuplicateError struct{ Runs []Duplicate }

// Duplicate is one run that could not be stored.
type Duplicate struct {
	Index int    // of the call's runs or ids; of a group's members, -1 being the run that gathers them
	ID    string // of the run that has its key: a live one, or an earlier one of the call
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

// QueueInfo is what a broker knows of a queue.
type QueueInfo struct {
	Queue    string
	Paused   bool
	Disabled []string // tasks, sorted
	Queued   int64    // due, those held back by a limit included
	Delayed  int64    // not yet due, or waiting for a retry
	Running  int64    // held by sessions
	Dead     int64
	Dropped  int64 // dead letters beyond the limit of how many are kept, ever
	Last     map[string]LastRun
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
	Run     *TaskRun // of a run that has ended only ID, Task, Queue and Attempt
	State   State
	Due     time.Time // of StateDelayed
	Session string    // that holds it, of StateRunning
	Failure *Failure  // the last one, where it is known
}

// Report is what a session tells of its runs.
type Report struct {
	Progress []ProgressOf // of runs the session holds that have a record
	Last     []LastRun    // of runs that have ended, at most one of each task and queue
}

// ProgressOf is the progress of one run.
type ProgressOf struct {
	Run *TaskRun
	Progress
}
