package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

// Handle refers to a run that was queued.
type Handle[R any] struct {
	ID string // of the run

	queue  string
	keep   bool
	ownID  bool
	after  predecessor // whose success queues the run; nil: it is queued
	client *Client
	def    interface {
		decode(b []byte, result *R) error
		zeroResult() []byte
		name() string
		spec() *Spec
		keyed() bool
	}
}

func newHandle[P, R any](c *Client, d *Definition[P, R], run *broker.TaskRun) *Handle[R] {
	h := new(Handle[R])
	setHandle(h, c, d, run)
	return h
}

func setHandle[P, R any](h *Handle[R], c *Client, d *Definition[P, R], run *broker.TaskRun) {
	h.ID, h.queue, h.keep, h.ownID, h.client, h.def = run.ID, run.Queue, run.Keep > 0, run.OwnID, c, d
}

func (d *Definition[P, R]) decode(b []byte, result *R) error { return d.decodeResult(b, result) }
func (d *Definition[P, R]) name() string                     { return d.Spec.Name }
func (d *Definition[P, R]) spec() *Spec                      { return &d.Spec }

func (h *Handle[R]) run() (id string, spec *Spec) { return h.ID, h.def.spec() }

// Wait blocks until the run has ended or ctx ends, and returns its result. While
// the broker's server is away it goes on waiting. A
// run that ended without success is a [*RunError]. [ErrNoRecord] tells, at
// once, that none is kept of it, or that it has expired, and a [*DuplicateError]
// that it was to follow another, see [Then], and was left out.
func (h *Handle[R]) Wait(ctx context.Context) (R, error) {
	var result R
	record, err := h.ended(ctx)
	for wait := backoff.New(50*time.Millisecond, 2*time.Second); errors.Is(err, broker.ErrUnavailable) && ctx.Err() == nil; {
		wait.Sleep(ctx)
		record, err = h.ended(ctx)
	}
	if err != nil {
		return result, fmt.Errorf("wait for run %s of task %s: %w", h.ID, h.def.name(), err)
	}
	if err := skippedError(record); err != nil {
		return result, fmt.Errorf("wait for run %s of task %s: %w", h.ID, h.def.name(), err)
	}
	if record.State != broker.StateSucceeded {
		return result, runError(record)
	}
	return result, h.def.decode(record.Result, &result)
}

// Status returns what is known of the run now. [ErrNoRecord] tells that no
// record is kept of it, or that it has expired, and a [*DuplicateError] that it
// was to follow another, see [Then], and was left out.
func (h *Handle[R]) Status(ctx context.Context) (Status, error) {
	s, err := h.status(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("ask for the status of run %s of task %s: %w", h.ID, h.def.name(), err)
	}
	return s, nil
}

func (h *Handle[R]) status(ctx context.Context) (Status, error) {
	record, err := h.record(ctx, recorder.Record)
	if h.after != nil && (errors.Is(err, ErrNoRecord) || err == nil && !h.isOwn(record)) {
		var before Status
		if before, err = h.after.Status(ctx); err != nil {
			return Status{}, err
		}
		if before.State != broker.StateSucceeded {
			return h.statusBefore(before), nil
		}
		record, err = h.awaitOwn(ctx, 0)
	}
	if err == nil {
		err = skippedError(record)
	}
	if err != nil {
		return Status{}, err
	}
	s := Status{ID: record.ID, Task: record.Task, Queue: record.Queue, State: record.State, Attempt: record.Attempt}
	if record.Progress != nil {
		s.Progress = *record.Progress
	}
	if record.Failure != nil && record.State != broker.StateSucceeded {
		s.Err = runError(record)
	}
	return s, nil
}

// Cancel asks for the end of the run. One that waits ends at once; the context
// of one that runs is cancelled within a second, with the cause [ErrCancelled],
// and a CPU-bound one is killed if it goes on. What it returns after that is its
// outcome only if it is a success; else it ends as cancelled and is not retried.
// Cancel does not wait for that end. It returns [ErrNoRecord] when the run has
// ended, and an error when the broker cannot cancel.
//
// Of a run that is to follow another with [Then] and is not queued yet, it cancels
// the other, and so on back to the one that is there: with it all that would have
// followed is over. Should that succeed nevertheless, as it was about to, what
// follows is queued; to cancel again then cancels that. Of a run that is to gather
// a [Group] it cancels that run alone: the members go on, and nobody gathers them.
func (h *Handle[R]) Cancel(ctx context.Context) error {
	err := h.cancelOwn(ctx)
	if errors.Is(err, ErrNoRecord) && h.after != nil {
		err = h.after.Cancel(ctx) // that it may never be queued
		if errors.Is(err, ErrNoRecord) {
			err = h.cancelOwn(ctx) // which it was meanwhile, or it has ended too
		}
	}
	if err != nil {
		return fmt.Errorf("cancel run %s of task %s: %w", h.ID, h.def.name(), err)
	}
	return nil
}

// cancelOwn cancels the run, but not another that has its id, in whose favour it
// may be left out.
func (h *Handle[R]) cancelOwn(ctx context.Context) error {
	if h.after != nil {
		if record, err := h.record(ctx, recorder.Record); err == nil && !h.isOwn(record) {
			return ErrNoRecord
		}
	}
	return h.client.cancel(ctx, h.queue, h.ID)
}

func (h *Handle[R]) record(ctx context.Context, get func(recorder, context.Context, string, string) (*broker.Record, error)) (*broker.Record, error) {
	records, ok := h.client.broker.(recorder)
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

	Progress RunProgress // what the run told last with [Progress]
}

// RunProgress is how far a run says it is: Done of Total, which is 0 if it does
// not know, and a Note.
type RunProgress = broker.Progress

// predecessor is the handle of a run that another follows.
type predecessor interface {
	id() string
	// ended waits until the run has ended and returns its record.
	ended(ctx context.Context) (*broker.Record, error)
	Status(ctx context.Context) (Status, error)
	Cancel(ctx context.Context) error
}

func (h *Handle[R]) id() string { return h.ID }

const (
	// longestMove is how long the first's success and the second's being queued
	// can lie apart for one who asks: they may be on different servers.
	longestMove = 5 * time.Second
	// longestDoubt is that where a run with the second's own id is known, which
	// may be in its way, or have ended long before.
	longestDoubt = time.Second
)

func (h *Handle[R]) ended(ctx context.Context) (*broker.Record, error) {
	if h.after == nil || !h.keep {
		return h.record(ctx, recorder.WaitRecord)
	}
	record, err := h.record(ctx, recorder.Record)
	if errors.Is(err, ErrNoRecord) || err == nil && !h.isOwn(record) {
		var before *broker.Record
		if before, err = h.after.ended(ctx); err != nil || before.State != broker.StateSucceeded {
			return before, err
		}
		record, err = h.awaitOwn(ctx, longestMove)
	}
	if err != nil || record.State.Ended() {
		return record, err
	}
	return h.record(ctx, recorder.WaitRecord)
}

// isOwn reports whether a record with the id of a run that follows another is
// that run's, and not of one that has, or had, its id too. Of a run that nobody
// could read it says neither task nor parent.
func (h *Handle[R]) isOwn(record *broker.Record) bool {
	return !h.ownID || record.ParentID == h.after.id() || record.Task == ""
}

// awaitOwn returns the record of a run whose predecessor has succeeded. It waits
// for one until it is clear that there will be none, at most for the time given.
func (h *Handle[R]) awaitOwn(ctx context.Context, longest time.Duration) (*broker.Record, error) {
	began := time.Now()
	for wait := backoff.New(10*time.Millisecond, 500*time.Millisecond); ; wait.Sleep(ctx) {
		record, err := h.record(ctx, recorder.Record)
		waited := time.Since(began)
		switch {
		case err == nil && h.isOwn(record):
			return record, nil
		case err == nil && waited >= longestDoubt:
			// It is, or was, in the way. Of what has no record of its own this is it.
			return &broker.Record{
				ID: h.ID, Task: h.def.name(), Queue: h.queue, ParentID: h.after.id(), State: broker.StateFailed,
				Failure: &broker.Failure{Kind: broker.FailureDuplicate, Message: h.ID},
			}, nil
		case err != nil && (!errors.Is(err, ErrNoRecord) || waited >= longest):
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}

// statusBefore is the status of a run that is to follow another, which has not
// succeeded.
func (h *Handle[R]) statusBefore(before Status) Status {
	s := Status{ID: h.ID, Task: h.def.name(), Queue: h.queue, State: broker.StateDelayed}
	if before.State == broker.StateFailed {
		s.State, s.Err = broker.StateFailed, before.Err
	}
	return s
}
