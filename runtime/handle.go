package runtime

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

// Handle refers to a run that was queued. Queue functions and [Call.Queue] return one, and
// generated Handle functions make one of an id that was kept:
//
//	h, err := QueueReport(ctx, "words")           // store h.ID
//	report, err := HandleReport(ctx, id).Wait(ctx) // in any process
//
// Its methods may be called concurrently. Those of the zero value return an error.
type Handle[R any] struct {
	ID string // of the run

	queue  string
	from   []string // further queues in which it may be, as its task was moved
	keep   bool
	ownID  bool
	after  predecessor // whose success queues the run; nil: it is queued
	byID   bool        // nothing but the id is known of the run
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

// HandleOf returns the handle of a run of a task by its id, which another process may have
// queued. Generated Handle functions call it:
//
//	summary, err := HandleParseFeed(ctx, id).Wait(ctx)
//
// It sends no request. The methods of the handle return [ErrNoRecord] if there is no such run,
// or no record of it is kept. A run that is to follow another, see [Then], is stored once that
// has succeeded, and not before. To wait for such a run by its id alone, have a task return
// the [Call], and keep the id of the task's run.
//
// The option [OnQueue] names the run's queue if it is not the task's, and the others are
// ignored. If ctx has no client, or an option is invalid, the methods return that error.
func HandleOf[P, R any](ctx context.Context, d *Definition[P, R], id string, opts ...QueueOption) *Handle[R] {
	run := new(broker.TaskRun)
	c, err := clientOf(ctx)
	if err == nil {
		err = c.completeRun(run, &d.Spec, time.Now(), nil, opts)
	}
	run.ID, run.Keep, run.OwnID = id, 1, false // a record that may be kept
	moved := run.Queue == d.Spec.Queues()[0]   // or it may be
	if err == nil {
		err = run.Validate()
	}
	if err != nil {
		c = &Client{invalid: err}
	}
	h := newHandle(c, d, run)
	h.byID = true
	if moved {
		h.from = d.Spec.From
	}
	return h
}

// checkUsable returns the error of all methods of the handle, nil if it works.
func (h *Handle[R]) checkUsable() error {
	if h.client == nil {
		return errors.New("the handle is the zero value; make one with the task's generated Handle… function")
	}
	return h.client.invalid
}

// what says of which run an error is.
func (h *Handle[R]) what() string {
	if h.def == nil {
		return "run " + h.ID
	}
	return "run " + h.ID + " of task " + h.def.name()
}

func setHandle[P, R any](h *Handle[R], c *Client, d *Definition[P, R], run *broker.TaskRun) {
	h.ID, h.queue, h.keep, h.ownID, h.client, h.def = run.ID, run.Queue, run.Keep > 0, run.OwnID, c, d
}

func (d *Definition[P, R]) decode(b []byte, result *R) error { return d.decodeResult(b, result) }
func (d *Definition[P, R]) name() string                     { return d.Spec.Name }
func (d *Definition[P, R]) spec() *Spec                      { return &d.Spec }

// Wait returns the result of the run. It blocks until the run has ended or ctx ends, also
// while the broker's server cannot be reached. It returns
//
//   - a [*RunError] if the run ended without success,
//   - [ErrNoRecord], at once, if no record of the run is kept, or the record has expired,
//   - a [*DuplicateError] if the run is a follow-up, see [Then], and was skipped.
//
// If the run returned a [Call], Wait goes on until the last run of that has ended, and returns
// its result, or the error of the first that failed. It may be called concurrently.
func (h *Handle[R]) Wait(ctx context.Context) (R, error) {
	var result R
	record, err := h.ended(ctx)
	for wait := backoff.New(50*time.Millisecond, 2*time.Second); errors.Is(err, broker.ErrUnavailable) && ctx.Err() == nil; {
		wait.Sleep(ctx)
		record, err = h.ended(ctx)
	}
	if err != nil {
		return result, fmt.Errorf("wait for %s: %w", h.what(), h.advise(err))
	}
	if err := skippedError(record); err != nil {
		return result, fmt.Errorf("wait for %s: %w", h.what(), err)
	}
	if record.State != broker.StateSucceeded {
		return result, runError(record)
	}
	return result, h.def.decode(record.Result, &result)
}

// Status returns the state of the run, and blocks until the broker has replied. It returns
// [ErrNoRecord] if no record of the run is kept, or the record has expired. It returns a
// [*DuplicateError] if the run is a follow-up, see [Then], and was skipped.
//
// If the run returned a [Call], the status is that of the run which has its place now: it is
// succeeded once the last run of the call is. The record of a run that returned a call is kept
// for 30 days at least, if any is. Status may be called concurrently.
func (h *Handle[R]) Status(ctx context.Context) (Status, error) {
	s, err := h.status(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("ask for the status of %s: %w", h.what(), h.advise(err))
	}
	return s, nil
}

func (h *Handle[R]) status(ctx context.Context) (Status, error) {
	record, err := h.record(ctx, recorder.Record)
	if h.after != nil && (errors.Is(err, ErrNoRecord) || err == nil && !h.isOwn(record, h.after.id())) {
		var before Status
		if before, err = h.after.Status(ctx); err != nil {
			return Status{}, err
		}
		if before.State != broker.StateSucceeded {
			return h.statusBefore(before), nil
		}
		record, err = h.awaitOwn(ctx, before.ID, 0)
	}
	if err == nil {
		record, err = h.client.follow(ctx, record, false)
	}
	if err == nil {
		err = skippedError(record)
	}
	if err != nil {
		return Status{}, err
	}
	s := Status{ID: record.ID, Task: record.Task, Queue: record.Queue, State: record.State, Attempt: record.Attempt,
		QueuedAt: record.QueuedAt, StartedAt: record.StartedAt, Host: record.Host, EndedAt: record.EndedAt, Attempts: record.Attempts}
	if record.Progress != nil {
		s.Progress = *record.Progress
	}
	if record.Failure != nil && record.State != broker.StateSucceeded {
		s.Err = runError(record)
	}
	return s, nil
}

// Cancel cancels the run. A run that waits ends at once. If the run executes, its context
// is cancelled within a second, with the cause [ErrCancelled], and a CPU-bound run that
// goes on is killed. A success after that still counts; any other end is a failure of kind
// [Cancelled], without a retry. Cancel does not wait for the end of the run. It returns
// [ErrNoRecord] if the run has ended, and an error if the broker cannot cancel. It may be
// called concurrently.
//
// If the run is a follow-up, see [Then], and is not queued yet, Cancel cancels the run
// before it, and so on back to a live one: nothing of the chain is queued then. If that
// run succeeds all the same, its follow-up is queued, and a second Cancel cancels that.
// If the run returned a [Call], Cancel cancels the run which has its place now. If that, or
// the run itself, gathers a [Group], Cancel cancels this run alone, and the members go on.
func (h *Handle[R]) Cancel(ctx context.Context) error {
	err := h.cancelOwn(ctx)
	if errors.Is(err, ErrNoRecord) && h.after != nil {
		err = h.after.Cancel(ctx) // that it may never be queued
		if errors.Is(err, ErrNoRecord) {
			err = h.cancelOwn(ctx) // which it was meanwhile, or it has ended too
		}
	}
	if err != nil {
		return fmt.Errorf("cancel %s: %w", h.what(), err)
	}
	return nil
}

// cancelOwn cancels the run, or the one that has its place now. It does not cancel another
// that has its id, for which it may have been skipped.
func (h *Handle[R]) cancelOwn(ctx context.Context) error {
	if h.after != nil {
		if record, err := h.record(ctx, recorder.Record); err == nil && !h.owns(ctx, record) {
			return ErrNoRecord
		}
	}
	if err := h.checkUsable(); err != nil {
		return err
	}
	err := h.client.cancel(ctx, h.queue, h.ID)
	for _, queue := range h.from {
		if errors.Is(err, ErrNoRecord) {
			err = h.client.cancel(ctx, queue, h.ID)
		}
	}
	for range cancelTries {
		if !errors.Is(err, ErrNoRecord) {
			return err
		}
		record, missing := h.record(ctx, recorder.Record)
		if missing != nil || len(record.Successors) == 0 {
			return err
		}
		if record, missing = h.client.follow(ctx, record, false); missing != nil || record.State.Ended() {
			return err
		}
		err = h.client.cancel(ctx, record.Queue, record.ID)
	}
	return err
}

// cancelTries is how often Cancel looks for the run that has the place of one that returned
// a call: it may end, and another take the place, before it is cancelled.
const cancelTries = 10

// owns is isOwn for the record of a follow-up whose predecessor may have returned a call.
func (h *Handle[R]) owns(ctx context.Context, record *broker.Record) bool {
	if h.isOwn(record, h.after.id()) {
		return true
	}
	before, err := h.after.Status(ctx)
	return err == nil && before.State == broker.StateSucceeded && h.isOwn(record, before.ID)
}

func (h *Handle[R]) record(ctx context.Context, get func(recorder, context.Context, string, string) (*broker.Record, error)) (*broker.Record, error) {
	if err := h.checkUsable(); err != nil {
		return nil, err
	}
	records, ok := h.client.broker.(recorder)
	if !h.keep || !ok {
		return nil, ErrNoRecord
	}
	record, err := get(records, ctx, h.queue, h.ID)
	for _, queue := range h.from {
		if !errors.Is(err, ErrNoRecord) {
			break
		}
		record, err = get(records, ctx, queue, h.ID)
	}
	return record, err
}

// advise adds to ErrNoRecord why the record of a run whose id was kept may be missing.
func (h *Handle[R]) advise(err error) error {
	if !h.byID || !errors.Is(err, ErrNoRecord) {
		return err
	}
	return fmt.Errorf("%w; if the run follows another, it is stored once that has succeeded; if it is not in queue %s, give the Handle function the option OnQueue", err, strings.Join(append([]string{h.queue}, h.from...), " or "))
}

// State is the state of a run: delayed, queued, running, succeeded or failed.
type State = broker.State

// Status is the state of a run at one moment.
type Status struct {
	ID      string
	Task    string
	Queue   string
	State   State
	Attempt int       // attempts that have ended
	Err     *RunError // why the last attempt failed; nil if none did, or the run succeeded

	Progress RunProgress // what the run reported last with [Progress]

	// Times and places for people. A zero one is unknown, or not yet.
	QueuedAt  time.Time
	StartedAt time.Time // of a running run: when its attempt began
	Host      string    // of a running run: host and process of its consumer
	EndedAt   time.Time
	Attempts  []Attempt // that have ended, the last ten, the oldest first
}

// Attempt is an attempt of a run that has ended.
type Attempt = broker.Attempt

// RunProgress is a run's report of its progress: Done of Total, which is 0 if the run does
// not know it, and a Note.
type RunProgress = broker.Progress

// predecessor is the handle of a run that another follows.
type predecessor interface {
	id() string
	// ended blocks until the run has ended, and returns its record.
	ended(ctx context.Context) (*broker.Record, error)
	Status(ctx context.Context) (Status, error)
	Cancel(ctx context.Context) error
}

func (h *Handle[R]) id() string { return h.ID }

const (
	// longestMove is how long a follow-up may take to appear after the success before
	// it: the queues of the two may be on different servers.
	longestMove = 5 * time.Second
	// longestDoubt is the same while the record of another run has the follow-up's id.
	// That run may be live, or may have ended long ago.
	longestDoubt = time.Second
)

func (h *Handle[R]) ended(ctx context.Context) (*broker.Record, error) {
	record, err := h.endedOwn(ctx)
	if err != nil {
		return nil, err
	}
	return h.client.follow(ctx, record, true)
}

// endedOwn is ended for the run itself, and not for those of a call that it returned.
func (h *Handle[R]) endedOwn(ctx context.Context) (*broker.Record, error) {
	if h.after == nil || !h.keep {
		return h.record(ctx, recorder.WaitRecord)
	}
	record, err := h.record(ctx, recorder.Record)
	if errors.Is(err, ErrNoRecord) || err == nil && !h.isOwn(record, h.after.id()) {
		var before *broker.Record
		if before, err = h.after.ended(ctx); err != nil || before.State != broker.StateSucceeded {
			return before, err
		}
		record, err = h.awaitOwn(ctx, before.ID, longestMove)
	}
	if err != nil || record.State.Ended() {
		return record, err
	}
	return h.record(ctx, recorder.WaitRecord)
}

// followUp returns the run as one that is queued once its parent has succeeded.
func (h *Handle[R]) followUp(parent string) followUp {
	return followUp{RunRef: broker.RunRef{Queue: h.queue, ID: h.ID}, task: h.def.name(), parent: parent, ownID: h.ownID}
}

// isOwn reports whether a record with the id of a follow-up is the follow-up's.
func (h *Handle[R]) isOwn(record *broker.Record, parent string) bool {
	f := h.followUp(parent)
	return f.owns(record)
}

// awaitOwn returns the record of a follow-up whose parent has succeeded.
func (h *Handle[R]) awaitOwn(ctx context.Context, parent string, longest time.Duration) (*broker.Record, error) {
	if !h.keep {
		return nil, ErrNoRecord
	}
	return h.client.awaitFollowUp(ctx, h.followUp(parent), longest)
}

// followUp is a run that is queued once another, its parent, has succeeded.
type followUp struct {
	broker.RunRef
	task   string // empty: unknown
	parent string
	ownID  bool // another run can have its id
}

// owns reports whether a record with the run's id is the run's, and not of another run with
// the id. A record without a task is of a run that could not be read.
func (f *followUp) owns(record *broker.Record) bool {
	return !f.ownID || record.ParentID == f.parent || record.Task == ""
}

// awaitFollowUp returns the record of a follow-up whose parent has succeeded. It waits for
// the record until it is clear that there will be none, at most for the time given.
func (c *Client) awaitFollowUp(ctx context.Context, f followUp, longest time.Duration) (*broker.Record, error) {
	records, ok := c.broker.(recorder)
	if !ok {
		return nil, ErrNoRecord
	}
	began := time.Now()
	for wait := backoff.New(10*time.Millisecond, 500*time.Millisecond); ; wait.Sleep(ctx) {
		record, err := records.Record(ctx, f.Queue, f.ID)
		waited := time.Since(began)
		switch {
		case err == nil && f.owns(record):
			return record, nil
		case err == nil && waited >= longestDoubt:
			// The other run is, or was, in the way: the follow-up was skipped.
			return &broker.Record{
				ID: f.ID, Task: f.task, Queue: f.Queue, ParentID: f.parent, State: broker.StateFailed,
				Failure: &broker.Failure{Kind: broker.FailureDuplicate, Message: f.ID},
			}, nil
		case err != nil && (!errors.Is(err, ErrNoRecord) || waited >= longest):
			return nil, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
	}
}

// statusBefore returns the status of a follow-up whose predecessor has not succeeded.
func (h *Handle[R]) statusBefore(before Status) Status {
	s := Status{ID: h.ID, Task: h.def.name(), Queue: h.queue, State: broker.StateDelayed}
	if before.State.Ended() {
		s.State, s.Err = before.State, before.Err
	}
	return s
}
