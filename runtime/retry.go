package runtime

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// maxDelay keeps due times inside what clocks and brokers can represent.
const maxDelay = 100 * 365 * 24 * time.Hour

// RetryPolicy says how often a task is attempted and how long to wait between
// attempts. The wait is drawn evenly from zero to Min × Factor^(n-1), at most
// Max, after the nth attempt ("full jitter",
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
type RetryPolicy struct {
	Attempts int           // the first one included. Defaults to 4
	Min      time.Duration // Defaults to 1s
	Max      time.Duration // Defaults to 10m
	Factor   float64       // Defaults to 2
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	if p.Attempts == 0 {
		p.Attempts = 4
	}
	if p.Min == 0 {
		p.Min = time.Second
	}
	if p.Max == 0 {
		p.Max = 10 * time.Minute
	}
	if p.Factor == 0 {
		p.Factor = 2
	}
	return p
}

// ceiling is the longest wait after the nth attempt, from 1.
func (p RetryPolicy) ceiling(n int) time.Duration {
	d := float64(p.Min) * math.Pow(p.Factor, float64(n-1))
	if d >= float64(p.Max) {
		return p.Max
	}
	return time.Duration(d)
}

// wait draws the wait after the nth attempt. It is never zero, so that a retry
// does not overtake what waits already.
func (p RetryPolicy) wait(n int) time.Duration {
	return 1 + rand.N(max(p.ceiling(n), time.Millisecond))
}

// Permanent wraps an error that a task returns so that it is not retried.
// Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// RetryAfter wraps an error that a task returns so that the next attempt, if
// the policy leaves one, starts after d instead of the policy's wait. It starts
// no sooner than that, and at most half of d or a minute later, whichever is less:
// runs that one overloaded service sends away together come back spread out.
// RetryAfter of a nil error is nil; a negative d counts as zero, and one of more
// than 100 years as these.
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

// spread draws a wait that is no shorter than d, and longer by at most half of it
// or a minute.
func spread(d time.Duration) time.Duration {
	if d >= maxDelay {
		return d
	}
	return d + rand.N(min(d/2, time.Minute)+1)
}

// Snooze returns an error by which a task puts its run off: not yet, again after
// d. The run spends no attempt, and no failure is recorded of it; a policy of
// [ConsumerConfig] for retries is not asked. A d below a millisecond counts as
// one, one of more than 100 years as these. The time that a run is put off counts
// for //task:expire. Wrapped by [Permanent] it is an error like any other.
func Snooze(d time.Duration) error {
	return &snoozeError{min(max(d, time.Millisecond), maxDelay)}
}

type snoozeError struct{ after time.Duration }

func (e *snoozeError) Error() string {
	return fmt.Sprintf("snoozed for %s", e.after)
}

// snoozed returns for how long a task's error puts its run off, 0 if it does not.
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

// newBrokenError is what stands for an error one of whose methods panicked with
// v: the function that recovered calls it. What [Permanent] or [RetryAfter] said
// of the error holds of it too.
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

// canSay reports whether an error's text can be had.
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

// schemaError marks bytes that do not fit the task's types: running them again
// would not help.
type schemaError struct{ err error }

func (e *schemaError) Error() string { return e.err.Error() }
func (e *schemaError) Unwrap() error { return e.err }
