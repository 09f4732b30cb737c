package runtime

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
)

// Handle refers to a run that was queued.
type Handle[R any] struct {
	ID string // of the run

	queue  string
	keep   bool
	client *Client
	def    interface {
		decode(b []byte, result *R) error
		name() string
	}
}

func newHandle[P, R any](c *Client, d *Definition[P, R], run *broker.TaskRun) *Handle[R] {
	h := new(Handle[R])
	setHandle(h, c, d, run)
	return h
}

func setHandle[P, R any](h *Handle[R], c *Client, d *Definition[P, R], run *broker.TaskRun) {
	h.ID, h.queue, h.keep, h.client, h.def = run.ID, run.Queue, run.Keep > 0, c, d
}

func (d *Definition[P, R]) decode(b []byte, result *R) error { return d.decodeResult(b, result) }
func (d *Definition[P, R]) name() string                     { return d.Spec.Name }

// Wait blocks until the run has ended or ctx ends, and returns its result. A
// run that ended without success is a [*RunError]. [ErrNoRecord] tells, at
// once, that none is kept of it, or that it has expired.
func (h *Handle[R]) Wait(ctx context.Context) (R, error) {
	var result R
	record, err := h.record(ctx, broker.Records.WaitRecord)
	if err != nil {
		return result, fmt.Errorf("wait for run %s of task %s: %w", h.ID, h.def.name(), err)
	}
	if record.State != broker.StateSucceeded {
		return result, runError(record)
	}
	return result, h.def.decode(record.Result, &result)
}

// Status returns what is known of the run now. [ErrNoRecord] tells that no
// record is kept of it, or that it has expired.
func (h *Handle[R]) Status(ctx context.Context) (Status, error) {
	record, err := h.record(ctx, broker.Records.Record)
	if err != nil {
		return Status{}, fmt.Errorf("ask for the status of run %s of task %s: %w", h.ID, h.def.name(), err)
	}
	s := Status{ID: record.ID, Task: record.Task, Queue: record.Queue, State: record.State, Attempt: record.Attempt}
	if record.Failure != nil && record.State != broker.StateSucceeded {
		s.Err = runError(record)
	}
	return s, nil
}

func (h *Handle[R]) record(ctx context.Context, get func(broker.Records, context.Context, string, string) (*broker.Record, error)) (*broker.Record, error) {
	records, ok := h.client.broker.(broker.Records)
	if !h.keep || !ok {
		return nil, ErrNoRecord
	}
	return get(records, ctx, h.queue, h.ID)
}

// State is where a run is in its life: delayed, queued, running, succeeded or
// failed.
type State = broker.State

// Status is what is known of a run.
type Status struct {
	ID      string
	Task    string
	Queue   string
	State   State
	Attempt int       // attempts that have ended
	Err     *RunError // why the last attempt failed; nil if none did, or the run succeeded
}

// FailureKind tells how a run failed.
type FailureKind string

// How a run can fail.
const (
	Failed    FailureKind = "failed"    // the task returned an error or panicked
	Timeout   FailureKind = "timeout"   // an attempt took longer than it may
	Crashed   FailureKind = "crashed"   // its process ended under it
	OOM       FailureKind = "oom"       // it went beyond its memory
	Cancelled FailureKind = "cancelled" // someone asked for its end
	Expired   FailureKind = "expired"   // it was not started in time
	Schema    FailureKind = "schema"    // its parameters do not fit the task
)

// RunError is how a run ended that did not succeed.
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
		after = " after " + count(e.Attempt, "attempt")
	}
	return fmt.Sprintf("run %s of task %s: %s%s: %s", e.ID, e.Task, e.Kind, after, e.Message)
}

// Is makes errors.Is(err, ErrCancelled) true of a cancelled run.
func (e *RunError) Is(target error) bool { return target == ErrCancelled && e.Kind == Cancelled }

func runError(record *broker.Record) *RunError {
	e := &RunError{Task: record.Task, ID: record.ID, Attempt: record.Attempt, Kind: Failed}
	if f := record.Failure; f != nil {
		e.Kind, e.Message, e.Stack = FailureKind(f.Kind), f.Message, f.Stack
	}
	return e
}
