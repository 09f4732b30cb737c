package runtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/relay"
	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/subprocess"
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

// Permanent wraps an error of a task so that the run is not retried. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// RetryAfter wraps an error of a task so that the next attempt, if the policy leaves one,
// starts after d instead of the policy's wait. The wait is drawn evenly from d to 1.5 × d,
// but to d + 1 minute at most, so that runs that an overloaded service refused together
// come back spread out. RetryAfter of a nil error is nil. A negative d counts as zero, and
// more than 100 years as 100 years.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{max(d, 0), err}
}

type retryAfterError struct {
	after time.Duration
	err   error
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// Snooze returns an error with which a task postpones its run: the run starts again after
// d. It spends no attempt, records no failure, and does not call Retry of
// [ConsumerConfig]. The time counts for //task:expire. A d below a millisecond counts as a
// millisecond, and more than 100 years as 100 years. Wrapped by [Permanent] it is an error
// like any other.
func Snooze(d time.Duration) error {
	return &snoozeError{min(max(d, time.Millisecond), maxDelay)}
}

type snoozeError struct{ after time.Duration }

func (e *snoozeError) Error() string {
	return fmt.Sprintf("snoozed for %s", e.after)
}

// snoozed returns for how long a task's error snoozes its run, 0 if it does not.
func snoozed(err error) time.Duration {
	if child := (*childError)(nil); errors.As(err, &child) {
		return child.Snooze
	}
	if s := (*snoozeError)(nil); errors.As(err, &s) && !isPermanent(err) {
		return s.after
	}
	return 0
}

// panicError is a panic, or a call of runtime.Goexit, made into an error.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// newBrokenError returns an error that replaces err, a method of which panicked with v. The
// function that recovered calls it. Marks of [Permanent] and [RetryAfter] stay.
func newBrokenError(err error, v any) error {
	switch marked := err.(type) {
	case *permanentError:
		return Permanent(newBrokenError(marked.err, v))
	case *retryAfterError:
		return RetryAfter(marked.after, newBrokenError(marked.err, v))
	}
	method := "Error method"
	if canSay(err) {
		method = "Unwrap, Is or As method"
	}
	return &brokenError{fmt.Sprintf("the %s of type %T panicked: %v", method, err, v), debug.Stack()}
}

// canSay reports whether an error's Error method returns.
func canSay(err error) (ok bool) {
	defer func() { ok = recover() == nil }()
	_ = err.Error()
	return
}

type brokenError struct {
	message string
	stack   []byte
}

func (e *brokenError) Error() string { return e.message }

// isPermanent reports whether trying again cannot help.
func isPermanent(err error) bool {
	var p *permanentError
	var s *schemaError
	return errors.As(err, &p) || errors.As(err, &s)
}

// childError is what a task returned in a child process.
type childError struct{ *subprocess.Response }

func (e *childError) Error() string { return e.Failure.Message }

// schemaError is the error of bytes that do not fit the task's types, so that a retry would
// not help.
type schemaError struct{ err error }

func (e *schemaError) Error() string { return e.err.Error() }
func (e *schemaError) Unwrap() error { return e.err }

const (
	maxMessage = 8 << 10  // bytes kept of an error's text
	maxStack   = 64 << 10 // bytes kept of a stack
)

// retryAdvice returns whether a task's error forbids a retry, and the wait before the retry
// that the error asks for, 0 for none.
func retryAdvice(err error) (permanent bool, after time.Duration) {
	if child := (*childError)(nil); errors.As(err, &child) {
		return child.Permanent, child.RetryAfter
	}
	if r := (*retryAfterError)(nil); errors.As(err, &r) {
		after = max(r.after, 1)
	}
	return isPermanent(err) || errors.Is(err, subprocess.ErrTooLarge), after
}

// failureOf returns the failure for an error, bounded in size and without the run's
// secrets.
func failureOf(ctx context.Context, secrets *secret.Run, err error) broker.Failure {
	f := broker.Failure{Kind: Failed, Message: err.Error()}
	var (
		child  *childError
		exit   *subprocess.ExitError
		schema *schemaError
		caught *panicError
		broken *brokenError
	)
	switch {
	case errors.As(err, &child):
		f = *child.Failure
	case errors.As(err, &exit):
		f.Kind, f.Stack = exitKind(exit), exit.Detail()
	case errors.As(err, &schema):
		f.Kind = Schema
	case errors.As(err, &caught):
		f.Stack = string(caught.stack)
	case errors.As(err, &broken):
		f.Stack = string(broken.stack)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.Kind = Timeout
	}
	secrets.Values().HideFailure(&f)
	f.Message, f.Stack = text.Truncate(f.Message, maxMessage), text.Truncate(f.Stack, maxStack)
	return f
}

// exitKind returns the kind of failure for the exit of a child process. A process whose
// answers cannot be understood counts as crashed.
func exitKind(exit *subprocess.ExitError) FailureKind {
	if exit.Kind == subprocess.Protocol {
		return Crashed
	}
	return exit.Kind
}

var (
	errGoexit         = errors.New("the task called runtime.Goexit")
	errDecisionGoexit = errors.New("the application's Retry, or a method of its error, called runtime.Goexit")
)

// errNotCalled is the error of a middleware that skips a task with a result and returns
// nil.
var errNotCalled = Permanent(errors.New("a middleware returned nil without calling the task, which has a result"))

// gatherError is the error of asking a broker for the results of a group. The run has not
// started, and is not the reason.
type gatherError struct{ err error }

func (e *gatherError) Error() string { return e.err.Error() }

func (e *gatherError) Unwrap() error { return e.err }
