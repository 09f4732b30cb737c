package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/text"
	"github.com/taskgen/taskgen/internal/worker"
)

// executor executes the runs of one Run of a consumer.
type executor struct {
	*Consumer
	pool    *subprocess.Pool
	offers  offers
	handler Handler // the middleware around the task; nil: there is none
}

// execution is a run on its way through its task.
type execution struct {
	runContext
	worker.Attempt
	executor *executor
	task     *Task
	within   context.Context // which the middleware passed on; nil: there is none
	answer   answer
	err      error

	observers runObservers
}

// Begin implements [worker.Execution].
func (x *execution) Begin(base context.Context, started time.Time) {
	x.base, x.deadline = base, started.Add(x.task.spec.Timeout)
	x.setRun(x.Run())
	x.trace = x.task.spec.Trace
}

// Execute implements [worker.Execution].
func (x *execution) Execute() {
	defer x.end()
	c := x.executor
	c.events.started(x)
	if c.handler == nil {
		x.answer, x.err = x.call(x)
		return
	}
	x.err = c.handler(x, x.asked())
	if x.err == nil && !x.called && x.task.hasResult {
		x.err = errNotCalled
	}
}

// Stop implements [worker.Execution].
func (x *execution) Stop(cause error) { x.stop(cause) }

// Cancel implements [worker.Execution].
func (x *execution) Cancel() { x.stop(fmt.Errorf("%w on request", ErrCancelled)) }

// Progress implements [worker.Execution].
func (x *execution) Progress() *broker.Progress { return x.progress.Load() }

// end decides the outcome of the run and passes it to Finish, also if the task, or other
// code of the application, panicked or called runtime.Goexit.
func (x *execution) end() {
	if v := recover(); v != nil {
		x.err = &panicError{v, debug.Stack()}
	}
	var o broker.Outcome
	var took time.Duration
	decided := false
	defer func() {
		if !decided {
			o = x.executor.worker.DeadOutcome(x.logContext(), x.Run(), broker.Failure{Kind: Failed, Message: errDecisionGoexit.Error()})
			x.runContext.end()
		} else {
			x.NoteEnd(&o, took)
		}
		x.Finish(o)
	}()
	ended := time.Now()
	o = x.outcome(ended)
	decided, took = true, ended.Sub(x.Started())
	x.runContext.end() // before Finish, which may block, but not before outcome, which asks why it ended
	x.logCut()
	x.executor.events.ended(&o, x, took)
}

// outcome returns the outcome of the run. It calls methods of the error, which are the
// application's: if one panics, the panic becomes the error.
func (x *execution) outcome(ended time.Time) (o broker.Outcome) {
	attempt, deliveries := x.Run().Attempt, x.Run().Deliveries
	defer func() {
		if v := recover(); v != nil {
			x.Run().Attempt, x.Run().Deliveries = attempt, deliveries
			o = x.decide(ended, answer{}, newBrokenError(x.err, v))
		}
	}()
	return x.decide(ended, x.answer, x.err)
}

// surrounded returns the handler that the middleware surrounds, nil if there is none. It is
// made once for all runs, so that middleware costs a run nothing but its own work.
func surrounded(middleware []Middleware) (handler Handler, err error) {
	if len(middleware) == 0 {
		return nil, nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("make the middleware: %w", &panicError{v, debug.Stack()})
		}
	}()
	return wrap(middleware, func(ctx context.Context, _ *Run) error {
		c, _ := ctx.Value(progressKey{}).(*runContext)
		if c == nil || c.execution == nil {
			return Permanent(errors.New("a middleware has called next with a context that is not made of that of the run"))
		}
		return c.execution.handle(ctx)
	}), nil
}

// handle calls the task. It makes errors of panics, so that middleware gets them as errors.
func (x *execution) handle(ctx context.Context) (err error) {
	x.called, x.within = true, ctx
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	x.answer, err = x.call(ctx)
	return err
}

// call executes a run, and accepts the call that it returns.
func (x *execution) call(ctx context.Context) (answer, error) {
	a, err := x.execute(ctx)
	if err != nil || a.call == nil {
		return a, err
	}
	return x.accept(ctx, a)
}

// execute executes a run here or in a child process, by its task's kind.
func (x *execution) execute(ctx context.Context) (answer, error) {
	run := x.Run()
	memory := x.executor.cfg.Codec.memory(run.Payload)
	if run.Links != nil && run.Links.Awaits.ID != "" {
		payload, err := gather(ctx, x.executor.broker, run)
		if err != nil {
			return answer{}, err
		}
		gathered := *run // the stored one keeps its own
		gathered.Payload = payload
		memory = max(memory, codec.MemoryFactor*len(payload)) // broker.MaxGroupResults bounds it
		run = &gathered
		x.secrets = x.task.secretsOf(payload)
	}
	if x.task.spec.Kind == IO || x.task.inProcess {
		return x.task.run(ctx, run.Payload, memory)
	}
	run = withHeaders(run, x.headers())
	response, err := x.executor.pool.Run(ctx, &subprocess.Request{Run: run, Deadline: x.deadline, Memory: x.task.spec.Memory, DecodeMemory: memory, Hide: x.secrets.InChild()})
	if err != nil {
		return answer{}, err
	}
	return answerOf(response)
}

// Admit implements [worker.Executor].
func (e *executor) Admit(run *broker.TaskRun, now time.Time) (worker.Execution, broker.Outcome) {
	task := e.tasks.byName[run.Task]
	if o, refused := e.refuse(task, run, now); refused {
		return nil, o
	}
	x := &execution{executor: e, task: task, err: errGoexit} // unless it returns
	x.offers, x.secrets = &e.offers, task.secretsOf(run.Payload)
	x.runContext.execution = x
	return x, broker.Outcome{}
}

// NotStarted implements [worker.Executor].
func (e *executor) NotStarted(o *broker.Outcome) { e.events.notStarted(o) }

// Skipped implements [worker.Executor]. It does not block.
func (e *executor) Skipped(skipped ...broker.SkippedDuplicate) { e.events.skip(skipped) }

// Replied implements [worker.Executor].
func (e *executor) Replied(outcomes []broker.Outcome, how func(*broker.TaskRun) worker.Reply) {
	e.events.recorded(outcomes, how)
}

// refuse returns the outcome of a run that cannot start here, false if it can.
func (e *executor) refuse(task *Task, run *broker.TaskRun, now time.Time) (broker.Outcome, bool) {
	if task == nil {
		// Another consumer may know the task: a newer one, or one that is still to start.
		e.worker.LogSampled(slog.LevelWarn, "no such task here, leaving the run to a consumer that knows it", run)
		return worker.OthersOutcome(run, otherVersionWait(now.Sub(run.QueuedAt))), true
	}
	if err := e.cfg.Codec.checkSize(run, e.cfg.MaxResult); err != nil {
		return e.worker.DeadOutcome(context.Background(), run, broker.Failure{Kind: Schema, Message: err.Error()}), true
	}
	if err := e.tasks.follow(run); err != nil {
		return e.refuseFollowUps(run, now, err), true
	}
	switch {
	case task.spec.Kind == CPU && run.Kind == IO: // the task was no cpu task when the run was queued
		run.Kind = CPU
		return worker.ReturnOutcome(run, 0), true
	case run.Expire > 0 && run.Attempt == 0 && run.Deliveries <= 1 && now.After(worker.DueTime(run).Add(run.Expire)):
		failure := broker.Failure{Kind: Expired, Message: fmt.Sprintf("not started within %s of being due", run.Expire)}
		e.worker.LogFailure(context.Background(), slog.LevelWarn, "run dropped", run, failure)
		return broker.Outcome{Run: run, Verdict: broker.Dropped, Failure: &failure}, true
	}
	return broker.Outcome{}, false
}

// refuseFollowUps returns the outcome of a run whose follow-ups cannot be made here.
func (e *executor) refuseFollowUps(run *broker.TaskRun, now time.Time, err error) broker.Outcome {
	age := now.Sub(run.QueuedAt)
	if !errors.Is(err, errUnknownFollowUp) && age >= maxOtherVersionAge {
		return e.worker.DeadOutcome(context.Background(), run, broker.Failure{Kind: Schema, Message: text.Truncate(err.Error(), maxMessage)})
	}
	e.worker.LogSampled(slog.LevelWarn, "what follows the run cannot be made here, leaving it to a consumer that knows both tasks; give them to one consumer", run, "error", err)
	return worker.OthersOutcome(run, otherVersionWait(age))
}

// maxOtherVersionAge is the age up to which a run of another version of its task is left
// to others. An older one becomes a dead letter.
const maxOtherVersionAge = time.Hour

// otherVersionWait draws the wait before a run that this consumer cannot execute is
// delivered again. A consumer that can may be there already, or may have to be started
// first, so the wait grows with the run's age.
func otherVersionWait(age time.Duration) time.Duration {
	most := min(max(age, 200*time.Millisecond), 10*time.Second)
	return most/2 + rand.N(most/2)
}

// decide returns the outcome of a run that was executed.
func (x *execution) decide(ended time.Time, a answer, err error) broker.Outcome {
	c, run := x.executor, x.Run()
	var success broker.Outcome
	if err == nil {
		success, err = c.succeed(x, a)
	}
	if err == nil {
		if late := ended.Sub(x.deadline); late > 0 {
			c.logger.WarnContext(x.logContext(), "run succeeded after its timeout, which it ignored", "task", run.Task, "run", run.ID, "late", late.Round(time.Millisecond))
		}
		run.Attempt++
		if ctx := x.logContext(); c.logger.Enabled(ctx, slog.LevelDebug) {
			c.logger.DebugContext(ctx, "run succeeded", append(x.took(ended), "task", run.Task, "run", run.ID, "queue", run.Queue, "attempt", run.Attempt)...)
		}
		return success
	}
	wait := snoozed(err)
	if x.Err() != nil {
		if o, stopped := x.stopped(ended, err, wait); stopped {
			return o
		}
	}
	if wait > 0 {
		c.logger.DebugContext(x.logContext(), "run snoozed", append(x.took(ended), "task", run.Task, "run", run.ID, "queue", run.Queue, "attempt", run.Attempt+1, "in", wait)...)
		return worker.ReturnOutcome(run, wait)
	}
	return c.failed(x, ended, run, err)
}

// logContext returns the context with which the end of the attempt is logged: the one that
// the middleware passed to the task, such as with a span, but it does not end.
func (x *execution) logContext() context.Context {
	if x.within == nil {
		return context.Background()
	}
	return context.WithoutCancel(x.within)
}

// took returns how long the attempt took, as attributes of a line.
func (x *execution) took(ended time.Time) []any {
	return []any{"took", max(ended.Sub(x.Started()), 0).Round(time.Microsecond)}
}

// succeed returns the outcome of a run that returned this, or an error if it cannot be
// stored.
func (c *Consumer) succeed(x *execution, a answer) (broker.Outcome, error) {
	run := x.Run()
	o := broker.Outcome{Run: run, Verdict: broker.Succeeded}
	if a.call != nil {
		if run.Keep > 0 {
			run.Keep = max(run.Keep, returnedKept)
		}
		o.Next, o.Call = []*broker.TaskRun{a.call.first}, &broker.ReturnedCall{Successors: a.call.successors}
		return o, nil
	}
	if len(a.result) > c.cfg.MaxResult {
		return o, Permanent(fmt.Errorf("the result takes %d bytes, at most %d are kept", len(a.result), c.cfg.MaxResult))
	}
	next, err := c.tasks.next(run, a.result, x.nextHeaders())
	o.Result, o.Next = a.result, next
	return o, Permanent(err)
}

// stopped returns the outcome of a run that failed after its context was cancelled, false
// if the cancelling does not matter.
func (x *execution) stopped(ended time.Time, err error, wait time.Duration) (broker.Outcome, bool) {
	switch cause := context.Cause(x); {
	case errors.Is(cause, worker.ErrLeaseLost):
		return x.LostOutcome(wait), true // the loss may be the only reason for the error
	case errors.Is(cause, worker.ErrStopping) && wait == 0:
		return x.InterruptedOutcome(), true
	case errors.Is(cause, ErrCancelled):
		failure := failureOf(x, x.secrets, err)
		failure.Kind = Cancelled
		if errors.Is(err, context.Canceled) || failure.Message == cause.Error() {
			failure.Message = onRequest
		}
		x.Run().Attempt++
		x.executor.worker.LogFailure(x.logContext(), slog.LevelWarn, "run cancelled", x.Run(), failure, x.took(ended)...)
		return broker.Outcome{Run: x.Run(), Verdict: broker.Dropped, Failure: &failure}, true
	}
	return broker.Outcome{}, false
}

// failed returns the outcome of a run whose attempt failed, and not because of a stop.
func (c *Consumer) failed(x *execution, ended time.Time, run *broker.TaskRun, err error) broker.Outcome {
	task := x.task
	failure := failureOf(x, x.secrets, err)
	age := time.Since(run.QueuedAt)
	if failure.Kind == Schema && run.Schema != 0 && run.Schema != task.spec.schema() && age < maxOtherVersionAge {
		// While versions are deployed side by side another consumer can read it.
		c.worker.LogSampled(slog.LevelWarn, "run was queued by another version of its task, leaving it to a consumer that can read it", run, "error", failure.Message)
		return worker.OthersOutcome(run, otherVersionWait(age))
	}
	if unread := (*gatherError)(nil); errors.As(err, &unread) {
		c.worker.LogSampled(slog.LevelWarn, "run cannot start, handing it back", run, "error", failure.Message)
		return worker.ReturnOutcome(run, 5*time.Second+rand.N(5*time.Second))
	}
	if start := (*subprocess.StartError)(nil); errors.As(err, &start) || errors.Is(err, subprocess.ErrClosed) {
		// It never started, and the reason is not in the run.
		level := slog.LevelError
		if errors.Is(err, subprocess.ErrBreaker) {
			level = slog.LevelDebug // said once for all of them
		}
		c.worker.LogSampled(level, "run cannot start, leaving it to another consumer", run, "error", failure.Message)
		return worker.OthersOutcome(run, 5*time.Second+rand.N(5*time.Second))
	}
	var wait time.Duration
	if exit := (*subprocess.ExitError)(nil); errors.As(err, &exit) && failure.Kind == Crashed {
		// The delivery is spent, not the attempt.
		crashes := x.Crashes()
		if crashes >= c.cfg.MaxCrashes {
			failure.Message += fmt.Sprintf(" (the last of %s)", text.Count(crashes, "time"))
			return c.worker.DeadOutcome(x.logContext(), run, failure, x.took(ended)...)
		}
		wait = task.spec.Retry.wait(crashes)
	} else {
		run.Attempt++
		var again bool
		if wait, again = c.again(x, task, run, err); !again {
			return c.worker.DeadOutcome(x.logContext(), run, failure, x.took(ended)...)
		}
	}
	wait = min(wait, maxDelay)
	c.worker.LogFailure(x.logContext(), slog.LevelWarn, "run failed, it will be tried again", run, failure, append(x.took(ended), "in", wait.Round(time.Millisecond))...)
	return broker.Outcome{Run: run, Verdict: broker.Retry, Delay: wait, Failure: &failure}
}

// again decides whether there is another attempt, and after which wait.
func (c *Consumer) again(x *execution, task *Task, run *broker.TaskRun, err error) (wait time.Duration, again bool) {
	permanent, after := retryAdvice(err)
	if permanent {
		return 0, false
	}
	if after == 0 {
		if wait, again, asked := c.ask(x, err); asked {
			return max(wait, 1), again
		}
	}
	if run.Attempt >= task.spec.Retry.Attempts {
		return 0, false
	}
	if after > 0 {
		return spread(after), true
	}
	return task.spec.Retry.wait(run.Attempt), true
}

// logCut logs how much of what the run logged was not kept.
func (x *execution) logCut() {
	l := x.runContext.log.Load()
	if l == nil {
		return
	}
	l.mu.Lock()
	cut, size := l.budget.Cut()
	l.mu.Unlock()
	if cut > 0 {
		x.executor.logger.WarnContext(x.logContext(), subprocess.TooManyRecords, "run", x.stored.ID, "task", x.stored.Task, "records_cut", cut, "bytes_cut", size)
	}
}

// ask calls Retry. It returns asked as false if there is no Retry, or if that panics: then
// the task's own policy decides.
func (c *Consumer) ask(x *execution, err error) (wait time.Duration, again, asked bool) {
	if c.cfg.Retry == nil {
		return 0, false, false
	}
	defer func() {
		if v := recover(); v != nil {
			f := failureOf(x, x.secrets, &panicError{v, debug.Stack()})
			c.logger.ErrorContext(x.logContext(), "Retry panicked", "run", x.stored.ID, "panic", f.Message, "stack", f.Stack)
			asked = false
		}
	}()
	wait, again = c.cfg.Retry(x.asked(), err)
	return wait, again, true
}
