package worker

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Why an execution is stopped: the causes of [Execution].Stop.
var (
	ErrLeaseLost = errors.New("lease lost: the run may have started elsewhere")
	ErrStopping  = errors.New("the consumer stops")
)

// Executor executes runs by calling the application. Its methods may be called
// concurrently, and end the goroutine that calls them.
type Executor interface {
	// Admit returns the execution of a run. If the run cannot start here, Admit returns
	// nil and the run's outcome.
	Admit(run *broker.TaskRun, now time.Time) (Execution, broker.Outcome)
	// NotStarted is called with the outcome of each run that did not start here.
	NotStarted(o *broker.Outcome)
	// Skipped is called with follow-ups that were skipped as duplicates.
	Skipped(skipped ...broker.SkippedDuplicate)
	// Replied is called with outcomes once the broker has replied, or will not. It must
	// neither block nor end the goroutine.
	Replied(outcomes []broker.Outcome, how func(*broker.TaskRun) Reply)
}

// Reply is what the broker has done with an outcome.
type Reply int8

// The replies.
const (
	Recorded Reply = iota
	Fenced         // refused: the session did not hold the run, or had reported it before
	Unknown        // the outcome was given up
)

func unknown(*broker.TaskRun) Reply { return Unknown }

// Execution is a run on its way through its task. It embeds an [Attempt]. Its methods
// may be called concurrently, but for Begin and Execute.
type Execution interface {
	// Begin is called before all other methods: the run starts, in a context that
	// ends with base.
	Begin(base context.Context, started time.Time)
	// Deadline returns when the task's context ends at the latest.
	Deadline() (time.Time, bool)
	// Execute calls the task, decides the outcome and passes it to [Attempt.Finish],
	// also if the task panics or ends its goroutine. It returns when the task has
	// really returned.
	Execute()
	// Stop cancels the task's context with a cause.
	Stop(cause error)
	// Cancel cancels the task's context because somebody asked for the run's end.
	Cancel()
	// Progress returns what the run reported last, nil if it reported nothing.
	Progress() *broker.Progress

	attempt() *Attempt
}

// Attempt is the worker's part of an [Execution].
type Attempt struct {
	execution Execution
	session   *session
	task      *taskState
	run       *broker.TaskRun
	started   time.Time

	spared  int16 // deliveries that are not counted as crashes
	lost    int16 // deliveries that did not end, and are not in the run's history yet
	overdue bool  // logged already; the heartbeat's own

	sentProgress atomic.Pointer[broker.Progress] // the latest that the broker has
}

var _ interface{ attempt() *Attempt } = (*Attempt)(nil)

// attempt makes an embedded Attempt a part of an [Execution].
func (a *Attempt) attempt() *Attempt { return a }

// Run returns the run, once Begin is called.
func (a *Attempt) Run() *broker.TaskRun { return a.run }

// Crashes returns how many deliveries of the run have ended with a dead process.
func (a *Attempt) Crashes() int { return a.run.Deliveries - a.run.Attempt - int(a.spared) }

// Started returns when the attempt began.
func (a *Attempt) Started() time.Time { return a.started }

// Waited returns from when the run was due to the start of the attempt. Call it before NoteEnd,
// which sets when the run is due again.
func (a *Attempt) Waited() time.Duration {
	due := DueTime(a.run)
	if h := a.run.History; h != nil && h.Due.After(due) {
		due = h.Due
	}
	return max(a.started.Sub(due), 0)
}

// DueTime returns from when a run could start first, by its producer's clock.
func DueTime(run *broker.TaskRun) time.Time {
	if !run.Due.IsZero() {
		return run.Due
	}
	return run.QueuedAt.Add(run.Delay)
}

// NoteEnd notes the outcome of the attempt in the run's history, and for the next heartbeat
// after it has sent the run's last progress. It blocks until the broker has replied to that.
// Call it before Finish.
func (a *Attempt) NoteEnd(o *broker.Outcome, took time.Duration) {
	a.sendProgress()
	a.noteLast(o, took)
	a.addHistory(o, took)
}

// Finish has the outcome recorded. It blocks while the broker is behind: so the slot
// stays in use, and fewer runs are taken.
func (a *Attempt) Finish(o broker.Outcome) { a.session.putOutcome(o) }

// LostOutcome returns the outcome of a run that ended after [ErrLeaseLost]: if nobody
// has recovered the run yet, it starts again after wait, and this delivery is not
// counted.
func (a *Attempt) LostOutcome(wait time.Duration) broker.Outcome {
	a.session.noteReturned(a.run)
	return broker.Outcome{Run: a.run, Verdict: broker.Retry, Delay: wait}
}

// InterruptedOutcome returns the outcome of a run that ended after [ErrStopping].
func (a *Attempt) InterruptedOutcome() broker.Outcome {
	a.session.interrupted.Add(1)
	a.session.LogSampled(slog.LevelWarn, "run interrupted by the stop, handing it back", a.run)
	return ReturnOutcome(a.run, 0)
}

// ReturnOutcome returns the outcome of a run that goes back to its queue, its deliveries as
// before.
func ReturnOutcome(run *broker.TaskRun, delay time.Duration) broker.Outcome {
	run.Deliveries = max(run.Deliveries-1, 0)
	return broker.Outcome{Run: run, Verdict: broker.Retry, Delay: delay}
}

// OthersOutcome returns the outcome of a run that goes back because this consumer cannot
// execute it.
func OthersOutcome(run *broker.TaskRun, delay time.Duration) broker.Outcome {
	o := ReturnOutcome(run, delay)
	o.ForOthers = true
	return o
}

// DeadOutcome returns the outcome of a run that becomes a dead letter. It logs the failure,
// as LogFailure does.
func (w *Worker) DeadOutcome(ctx context.Context, run *broker.TaskRun, failure broker.Failure, attrs ...any) broker.Outcome {
	w.LogFailure(ctx, slog.LevelError, "run failed for good", run, failure, attrs...)
	return broker.Outcome{Run: run, Verdict: broker.Dead, Failure: &failure}
}

// execute executes one run. It returns when the task has really returned.
func (s *session) execute(sl *slot, run *broker.TaskRun) {
	if s.starting.Err() != nil { // the lease is lost, or the consumer stops
		s.putOutcome(s.unstartedOutcome(run))
		return
	}
	now := time.Now()
	x, o := s.exec.Admit(run, now)
	if x == nil {
		s.putUnstarted(o)
		return
	}
	a := s.bind(x, run)
	var t *trial
	if run.Deliveries-run.Attempt > 1 {
		var ok bool
		if t, ok = s.startAgain(a); !ok {
			return
		}
	}
	if t != nil {
		defer s.watchTrial(t)()
	}
	if rules := run.Rules; rules != nil && rules.UntilStart && rules.Unique != "" {
		if !s.freeKey(a, t) {
			return
		}
	}
	if x := s.begin(sl, a, t, now); x != nil {
		x.Execute()
	}
}

// bind connects an execution with the session.
func (s *session) bind(x Execution, run *broker.TaskRun) *Attempt {
	a := x.attempt()
	a.execution, a.session, a.task, a.run = x, s, s.byName[run.Task], run
	return a
}

// begin begins an execution. From then on others see it. begin blocks while another
// run is on trial. If the run cannot start, begin puts its outcome and returns nil.
func (s *session) begin(sl *slot, a *Attempt, own *trial, now time.Time) Execution {
	for {
		a.started = now
		a.execution.Begin(s.base, now)
		sl.current.Store(a) // before inWay: a trial checks which attempts execute
		other := s.inWay(a.task, own)
		if other == nil {
			return a.execution
		}
		sl.current.Store(nil)
		if !s.waitTurn(other) {
			s.putUnstarted(s.unstartedOutcome(a.run))
			return nil
		}
		now = time.Now()
		x, o := s.exec.Admit(a.run, now) // others may have seen the first one
		if x == nil {
			s.putUnstarted(o)
			return nil
		}
		spared, lost := a.spared, a.lost
		a = s.bind(x, a.run)
		a.spared, a.lost = spared, lost
	}
}

// freeKey has the broker free the unique key of a run that starts. If the run cannot start,
// freeKey puts its outcome and returns false.
func (s *session) freeKey(a *Attempt, own *trial) bool {
	if other := s.inWay(a.task, own); other != nil && !s.waitTurn(other) {
		s.putUnstarted(s.unstartedOutcome(a.run)) // with its key
		return false
	}
	starter, ok := s.membership.(broker.Starter)
	if !ok {
		return true
	}
	o := s.noteStart(a.run, starter.Start)
	if o != nil {
		s.putUnstarted(*o)
	}
	return o == nil
}

// noteStart notes at the broker that a run starts. If that fails, it returns the run's
// outcome.
func (s *session) noteStart(run *broker.TaskRun, note func(context.Context, *broker.TaskRun) (held bool, err error)) *broker.Outcome {
	ctx, cancel := context.WithTimeout(s.base, finishTimeout)
	defer cancel()
	held, err := note(ctx, run)
	var o broker.Outcome
	switch {
	case err != nil && s.base.Err() == nil:
		s.LogSampled(slog.LevelWarn, "cannot note at the broker that a run starts, handing it back", run, "error", err)
		o = ReturnOutcome(run, time.Second/2+rand.N(time.Second))
	case err != nil:
		o = ReturnOutcome(run, 0)
	case !held:
		o = ReturnOutcome(run, 0) // the outcome will be fenced, and logged as that
	default:
		return nil
	}
	return &o
}

// unstartedOutcome returns the outcome of a run that was to start here, and counts the run
// if the session stops.
func (s *session) unstartedOutcome(run *broker.TaskRun) broker.Outcome {
	if s.starting.Err() != nil {
		s.unstarted.Add(1)
	}
	return ReturnOutcome(run, 0)
}

// putUnstarted puts the outcome of a run that did not start.
func (s *session) putUnstarted(o broker.Outcome) {
	defer s.putOutcome(o) // also if the application ends the goroutine
	if o.Verdict != broker.Retry {
		s.countUnstarted(o.Run, o.Verdict)
	}
	s.exec.NotStarted(&o)
}
