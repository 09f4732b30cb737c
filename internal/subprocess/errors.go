package subprocess

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Run returns these; use errors.Is.
var (
	// ErrClosed is returned by Run after Close was called.
	ErrClosed = errors.New("the pool of child processes is closed")
	// ErrTooLarge is returned for a run, call or reply larger than Config.MaxFrame.
	// The child stays usable.
	ErrTooLarge = errors.New("larger than a frame to or from a child process may be")

	errRunOver = errors.New("the run is over")
)

// Kinds of [ExitError].
const (
	Crashed   = broker.FailureCrashed          // it ended by itself
	Timeout   = broker.FailureTimeout          // killed: the run's deadline passed
	Cancelled = broker.FailureCancelled        // killed: the run's context was cancelled, or the pool closed
	OOM       = broker.FailureOOM              // killed, or ended by itself: it grew beyond Request.Memory or what the system has
	Protocol  = broker.FailureKind("protocol") // killed: it broke the protocol
)

// ExitError is returned for a run without an answer, because its child process ended
// or was killed. The process is gone when it is returned.
type ExitError struct {
	Kind   broker.FailureKind // Crashed, Timeout, Cancelled, OOM or Protocol
	PID    int
	Code   int    // the exit code, -1 when a signal ended it
	Signal string // the signal that ended it, such as "killed"; empty if none did
	Stderr string // the last lines of standard error, at most 20 and 8 KiB; they may follow the start of their crash report, at most 10 KiB
	Stack  string // the stacks of the child's goroutines if it did not stop in time, at most 32 KiB
	Err    error  // the context's cause, or the violation; nil for Crashed

	// Usage over the life of the process, which may have executed other runs before:
	// peak memory in bytes, and processor time. They are 0 if unknown.
	PeakMemory int64
	UserTime   time.Duration
	SystemTime time.Duration
}

func (e *ExitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "child process %d ", e.PID)
	switch e.Kind {
	case Crashed:
		b.WriteString("crashed: " + e.status())
	case Protocol:
		fmt.Fprintf(&b, "broke the protocol and was killed: %v", e.Err)
	case OOM:
		fmt.Fprintf(&b, "ran out of memory: %v (%s)", e.Err, e.status())
	default:
		fmt.Fprintf(&b, "was killed: %s: %v", e.Kind, e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// Detail returns a report in parts: exit status and usage, then the stacks if there
// are any, then the last lines of standard error.
func (e *ExitError) Detail() string {
	parts := []string{fmt.Sprintf("%s, user %v, system %v", e.status(),
		e.UserTime.Round(time.Millisecond), e.SystemTime.Round(time.Millisecond))}
	if e.PeakMemory > 0 {
		parts[0] += fmt.Sprintf(", at most %d MiB", e.PeakMemory>>20)
	}
	if e.Stack != "" {
		parts = append(parts, e.Stack)
	}
	if e.Stderr != "" {
		parts = append(parts, "last lines of standard error:\n"+e.Stderr)
	}
	return strings.Join(parts, "\n\n")
}

func (e *ExitError) status() string {
	if e.Signal != "" {
		return "signal: " + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// exitError describes how the child ended. The caller holds its lock.
func (c *child) exitError() *ExitError {
	e := &ExitError{Kind: c.kind, PID: c.pid, Code: -1, Stderr: c.stderr.last(), Err: c.cause, PeakMemory: c.peak}
	if e.Kind == "" {
		e.Kind = Crashed
	}
	if c.state != nil {
		e.Code, e.Signal = c.state.ExitCode(), signalOf(c.state)
		e.UserTime, e.SystemTime = c.state.UserTime(), c.state.SystemTime()
		// The system counts the parent's memory at the start too, if that was more.
		if peak := peakOf(c.state); e.PeakMemory == 0 && peak > c.parentPeak {
			e.PeakMemory = peak
		}
	}
	return e
}

// detectOOM changes the kind of a crash to OOM if the cause was memory.
func (e *ExitError) detectOOM(c *child, limit int64) {
	if e.Kind != Crashed {
		return
	}
	switch {
	case e.Code > 0 && c.stderr.memoryRefused(limit > 0):
		e.Err = outOfMemory("it was refused memory", limit)
	case e.Signal == killedSignal && c.group.OOMKilled():
		e.Err = outOfMemory("its control group killed it for memory", limit)
	case e.Signal == killedSignal && oomKills() > c.oomKills:
		e.Err = errors.New("the system killed it for lack of memory")
	default:
		return
	}
	e.Kind = OOM
}

func outOfMemory(what string, limit int64) error {
	if limit == 0 {
		return errors.New(what)
	}
	return fmt.Errorf("%s beyond the cap of %d MiB", what, limit>>20)
}

// StartError is returned for a run that never started, because no child process could
// be started or the child sent no hello.
type StartError struct {
	Stderr string // the last lines of the child's standard error
	Err    error
}

func (e *StartError) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("start child process: %v", e.Err)
	}
	return fmt.Sprintf("start child process: %v; its last lines: %s", e.Err, e.Stderr)
}

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

const startHint = "call it first in main, before opening ports or connections"

func startTimeoutError(after time.Duration) error {
	return fmt.Errorf("child process did not reach taskapp.Main or taskrt.ServeChild within %v: %s", after, startHint)
}
