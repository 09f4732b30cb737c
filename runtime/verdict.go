package runtime

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/text"
)

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
