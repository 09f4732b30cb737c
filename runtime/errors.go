package runtime

import (
	"errors"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/relay"
	"github.com/taskgen/taskgen/internal/text"
)

// Errors that callers decide on with errors.Is.
var (
	ErrNoClient        = errors.New("no client: pass a context from taskrt.WithClient, or call taskrt.SetDefault once at start")
	ErrUnknownTask     = errors.New("unknown task")
	ErrPayloadTooLarge = relay.ErrPayloadTooLarge // of a run, or of one call's runs together
	ErrCancelled       = errors.New("run cancelled")

	// ErrDuplicate: a live run has the same ID, or the same unique key (//task:unique).
	// In the second case the error is a *DuplicateError too.
	ErrDuplicate = broker.ErrDuplicate
	// ErrNotReplicated: the run is queued, but fewer replicas, or disks, have confirmed
	// it than the broker's URL or configuration asks for. The run executes unless the
	// server loses it, so queueing it again may execute it twice. If the run has an ID
	// of its own, a second one is refused as ErrDuplicate until the first has ended.
	ErrNotReplicated = broker.ErrNotReplicated
	// ErrOutcomeUnknown: the request was sent and its reply has not come, so the run may
	// be queued or not. A run with an ID of its own can safely be queued again.
	ErrOutcomeUnknown = broker.ErrOutcomeUnknown
	ErrQueueFull      = broker.ErrQueueFull
	ErrNoRecord       = broker.ErrNoRecord
)

// DuplicateError is [ErrDuplicate] with the runs of a call whose unique keys were taken,
// and for each the live run that has its key.
type DuplicateError = broker.DuplicateError

// FailureKind is how a run failed.
type FailureKind = broker.FailureKind

// The kinds of failure.
const (
	Failed    = broker.FailureFailed    // the task returned an error or panicked
	Timeout   = broker.FailureTimeout   // an attempt took longer than its time limit
	Crashed   = broker.FailureCrashed   // the process ended while it executed the run
	OOM       = broker.FailureOOM       // the run exceeded its memory limit
	Cancelled = broker.FailureCancelled // a person or program cancelled the run
	Expired   = broker.FailureExpired   // the run was not started in time
	Schema    = broker.FailureSchema    // the parameters do not fit the task
	Duplicate = broker.FailureDuplicate // the run followed another, and one with its ID or //task:unique key lived
	Lost      = broker.FailureLost      // an audit found a record without a run
)

// RunError is the failure of a run.
type RunError struct {
	Task    string
	ID      string
	Kind    FailureKind
	Attempt int // attempts that came to an end; one whose process died did not
	Message string
	Stack   string // of a panic, or of a process that was stopped; often empty
}

func (e *RunError) Error() string {
	after := ""
	if e.Attempt > 0 {
		after = " after " + text.Count(e.Attempt, "attempt")
	}
	return fmt.Sprintf("run %s of task %s: %s%s: %s", e.ID, e.Task, e.Kind, after, e.Message)
}

// Is makes errors.Is(err, ErrCancelled) true of a cancelled run, and
// errors.Is(err, ErrDuplicate) of one that was skipped.
func (e *RunError) Is(target error) bool {
	return target == ErrCancelled && e.Kind == Cancelled || target == ErrDuplicate && e.Kind == Duplicate
}

func runError(record *broker.Record) *RunError {
	e := &RunError{Task: record.Task, ID: record.ID, Attempt: record.Attempt, Kind: Failed}
	if f := record.Failure; f != nil {
		e.Kind, e.Message, e.Stack = f.Kind, f.Message, f.Stack
	}
	return e
}

// skippedError returns the error of a follow-up that was skipped as a duplicate, nil for
// any other record.
func skippedError(record *broker.Record) error {
	if f := record.Failure; record.State == broker.StateFailed && f != nil && f.Kind == broker.FailureDuplicate {
		return fmt.Errorf("run %s was left out when run %s had succeeded: %w", record.ID, record.ParentID,
			&DuplicateError{Runs: []broker.Duplicate{{ID: f.Message}}})
	}
	return nil
}
