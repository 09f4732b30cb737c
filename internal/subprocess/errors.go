package subprocess

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// Sentinels for errors.Is.
var (
	// ErrClosed is what Run returns once Close was called.
	ErrClosed = errors.New("the pool of child processes is closed")
	// ErrTooLarge is what a run, a call or a reply ends with when it is larger
	// than Config.MaxFrame. The child is not harmed.
	ErrTooLarge = errors.New("larger than a frame to or from a child process may be")

	errRunOver = errors.New("the run is over")
)

// Kinds of [ExitError].
const (
	Crashed   = "crashed"   // it ended by itself
	Timeout   = "timeout"   // killed: the run's deadline passed
	Cancelled = "cancelled" // killed: the run's context was cancelled, or the pool closed
	OOM       = "oom"       // killed: it grew beyond Request.Memory
	Protocol  = "protocol"  // killed: it said what no child says
)

// ExitError is a run that ended without an answer, because its child process
// ended or was killed. The process is gone when it is returned.
type ExitError struct {
	Kind   string // Crashed, Timeout, Cancelled, OOM or Protocol
	PID    int
	Code   int    // the exit code, -1 when a signal ended it
	Signal string // the signal that ended it, as "killed"; empty when none did
	Stderr string // the last lines of the run's standard error, 20 and 8 KiB at most
	Err    error  // the context's cause, or what was wrong with the protocol; nil for Crashed
}

func (e *ExitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "child process %d ", e.PID)
	switch e.Kind {
	case Crashed:
		b.WriteString("crashed: " + e.status())
	case Protocol:
		fmt.Fprintf(&b, "broke the protocol and was killed: %v", e.Err)
	default:
		fmt.Fprintf(&b, "was killed: %s: %v", e.Kind, e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

func (e *ExitError) status() string {
	if e.Signal != "" {
		return "signal: " + e.Signal
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

func newExitError(pid int, state *os.ProcessState, kind string, cause error, stderr string) *ExitError {
	e := &ExitError{Kind: kind, PID: pid, Code: -1, Stderr: stderr, Err: cause}
	if e.Kind == "" {
		e.Kind = Crashed
	}
	if state != nil {
		e.Code, e.Signal = state.ExitCode(), signalOf(state)
	}
	return e
}

// StartError is a run that never started, because a child process for it could
// not be started or did not say hello.
type StartError struct {
	Stderr string // the child's last lines of standard error
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
	return fmt.Errorf("child process did not reach taskrt.Main or taskrt.ServeChild within %v: %s", after, startHint)
}
