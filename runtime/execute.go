package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/subprocess"
)

const (
	maxMessage = 8 << 10  // bytes kept of an error's text
	maxStack   = 64 << 10 // bytes kept of a stack
)

var (
	errGoexit         = errors.New("the task called runtime.Goexit")
	errDecisionGoexit = errors.New("the application's Retry, or a method of its error, called runtime.Goexit")
)

// execution is one run on its way through its task.
type execution struct {
	runContext
	session *session
	started time.Time
	duty    *duty
	stored  *broker.TaskRun
	result  []byte
	err     error

	spared  int32 // deliveries that count for no crash
	called  bool  // the task itself was reached
	overdue bool  // that it is was said; the attending loop's own

	told atomic.Pointer[broker.Progress] // what the broker knows of its progress
}

// execute runs one run to its outcome. It returns when the task's function has
// really returned.
func (s *session) execute(w *worker, run *broker.TaskRun) {
	if s.starting.Err() != nil { // the lease is lost, or the consumer stops
		s.finish(s.unstart(run))
		return
	}
	now := time.Now()
	d, o := s.admit(run, now)
	if d == nil {
		s.finishUnstarted(o)
		return
	}
	var (
		t      *trial
		spared int
	)
	if run.Deliveries-run.Attempt > 1 {
		var ok bool
		if t, spared, ok = s.comeBack(d, run); !ok {
			return
		}
	}
	if t != nil {
		defer s.try(t)()
	}
	if rules := run.Rules; rules != nil && rules.UntilStart && rules.Unique != "" {
		if other := s.inWay(d, t); other != nil && !s.waitTurn(other) {
			s.finishUnstarted(s.unstart(run)) // with its key
			return
		}
		if o := s.freeKey(run); o != nil {
			s.finishUnstarted(*o)
			return
		}
	}
	x := s.start(w, d, run, t, now)
	if x == nil {
		s.finishUnstarted(s.unstart(run))
		return
	}
	x.spared = int32(spared)
	defer x.end()
	s.tellStart(&x.info)
	if len(s.cfg.Middleware) == 0 {
		x.result, x.err = x.call(x)
		return
	}
	x.err = s.wrap(x.handle)(x, &x.info)
	if x.err == nil && !x.called && d.task.hasResult {
		x.err = Permanent(errors.New("a middleware returned nil without calling the task, which has a result"))
	}
}

// freeKey has the broker free the unique key of a run that starts. It returns what
// becomes of the run if it cannot start.
func (s *session) freeKey(run *broker.TaskRun) *broker.Outcome {
	starter, ok := s.lease.(broker.Starter)
	if !ok {
		return nil
	}
	return s.mayStart(run, starter.Start)
}

// mayStart notes at the broker that a run starts. It returns what becomes of the run
// if that cannot be noted.
func (s *session) mayStart(run *broker.TaskRun, note func(context.Context, *broker.TaskRun) (held bool, err error)) *broker.Outcome {
	ctx, cancel := context.WithTimeout(s.base, finishTimeout)
	defer cancel()
	held, err := note(ctx, run)
	var o broker.Outcome
	switch {
	case err != nil && s.base.Err() == nil:
		s.notices.say(slog.LevelWarn, "cannot note at the broker that a run starts, handing it back", run, "error", err)
		o = handBack(run, time.Second/2+rand.N(time.Second))
	case err != nil:
		o = handBack(run, 0)
	case !held:
		o = handBack(run, 0) // which is fenced, and said to be
	default:
		return nil
	}
	return &o
}

// inWay returns the trial beside which a run must not start; nil: none.
func (s *session) inWay(d *duty, own *trial) *trial {
	if other := s.trials.current.Load(); other != own && d.task.spec.Kind == IO {
		return other
	}
	return nil
}

// unstart hands back a run that was to start here.
func (s *session) unstart(run *broker.TaskRun) broker.Outcome {
	if s.starting.Err() != nil {
		s.unstarted.Add(1)
	}
	return handBack(run, 0)
}

// start makes an execution, which others see from then on. It blocks while a run is
// on trial, but for that of t. It returns nil if the run is to go back instead.
func (s *session) start(w *worker, d *duty, run *broker.TaskRun, t *trial, now time.Time) *execution {
	for ; ; now = time.Now() {
		x := &execution{session: s, duty: d, stored: run, started: now, err: errGoexit} // unless it returns
		x.base, x.deadline, x.offers = s.base, now.Add(d.task.spec.Timeout), &s.offers
		x.secrets = d.task.secretsOf(run.Payload)
		x.info.init(run, x.deadline)
		w.current.Store(x) // before the look at the trial, which looks at what executes
		other := s.inWay(d, t)
		if other == nil {
			return x
		}
		w.current.Store(nil)
		if !s.waitTurn(other) {
			return nil
		}
	}
}

// end hands over what became of the run, also when its task panicked or called
// runtime.Goexit, or what of the application is asked and told here did.
func (x *execution) end() {
	if v := recover(); v != nil {
		x.err = &panicError{v, debug.Stack()}
	}
	var o broker.Outcome
	decided := false
	defer func() {
		if !decided {
			o = x.session.dead(x.stored, broker.Failure{Kind: Failed, Message: errDecisionGoexit.Error()})
			x.runContext.end()
		}
		x.session.finish(o)
	}()
	ended := time.Now()
	o = x.outcome(ended)
	decided = true
	x.runContext.end() // before finish, which may block, but not before outcome, which asks why it ended
	x.tellProgress()
	x.tellCut()
	took := ended.Sub(x.started)
	x.noteLast(&o, took)
	x.session.tellEnd(&o, &x.info, took)
}

// outcome decides what became of the run. The decision asks the error, whose
// methods are the application's: when one panics, that is the error.
func (x *execution) outcome(ended time.Time) (o broker.Outcome) {
	attempt, deliveries := x.stored.Attempt, x.stored.Deliveries
	defer func() {
		if v := recover(); v != nil {
			x.stored.Attempt, x.stored.Deliveries = attempt, deliveries
			o = x.decide(ended, nil, newBrokenError(x.err, v))
		}
	}()
	return x.decide(ended, x.result, x.err)
}

// handle is the innermost handler. It makes errors of panics already, so that
// middleware sees them as such.
func (x *execution) handle(ctx context.Context, _ *Run) (err error) {
	x.called = true
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	x.result, err = x.call(ctx)
	return err
}

// wrap puts the consumer's middleware around the handler, the first outermost.
func (s *session) wrap(handler Handler) Handler {
	for i := len(s.cfg.Middleware) - 1; i >= 0; i-- {
		handler = s.cfg.Middleware[i](handler)
	}
	return handler
}

// call executes a run where its task's kind says.
func (x *execution) call(ctx context.Context) ([]byte, error) {
	run := x.stored
	memory := x.session.cfg.Codec.memory(run.Payload)
	if run.Links != nil && run.Links.Awaits.ID != "" {
		payload, err := x.session.gather(ctx, run)
		if err != nil {
			return nil, err
		}
		gathered := *run // the stored one keeps its own
		gathered.Payload = payload
		memory = max(memory, codec.MemoryFactor*len(payload)) // broker.MaxGroupResults bounds it
		run = &gathered
		x.secrets = x.duty.task.secretsOf(payload)
	}
	if x.duty.task.spec.Kind == IO {
		return x.duty.task.run(ctx, run.Payload, memory)
	}
	response, err := x.session.pool.Run(ctx, &subprocess.Request{Run: run, Deadline: x.deadline, Memory: x.duty.task.spec.Memory, DecodeMemory: memory, Hide: x.secrets.inChild()})
	if err != nil {
		return nil, err
	}
	if response.Failure != nil {
		return nil, &childError{response}
	}
	return response.Result, nil
}

// childError is what a task returned in a child process.
type childError struct{ *subprocess.Response }

func (e *childError) Error() string { return e.Failure.Message }

// admit decides whether a run can start here. If not, the duty is nil and the
// outcome says what is to become of the run.
func (s *session) admit(run *broker.TaskRun, now time.Time) (*duty, broker.Outcome) {
	d := s.duties[run.Task]
	if err := s.cfg.Codec.checkSize(run, s.cfg.MaxResult); err != nil && d != nil {
		return nil, s.dead(run, broker.Failure{Kind: Schema, Message: err.Error()})
	}
	follow := s.tasks.follow(run)
	switch {
	case d == nil:
		// Another consumer may know it: a newer one, or one that is to come.
		s.notices.say(slog.LevelWarn, "no such task here, leaving the run to a consumer that knows it", run)
		return nil, leaveToOthers(run, parkingTime(now.Sub(run.QueuedAt)))
	case follow != nil && (errors.Is(follow, errStranger) || now.Sub(run.QueuedAt) < longestPark):
		s.notices.say(slog.LevelWarn, "what follows the run cannot be made here, leaving it to a consumer that knows both tasks; give them to one consumer", run, "error", follow)
		return nil, leaveToOthers(run, parkingTime(now.Sub(run.QueuedAt)))
	case follow != nil:
		return nil, s.dead(run, broker.Failure{Kind: Schema, Message: truncate(follow.Error(), maxMessage)})
	case d.task.spec.Kind == CPU && run.Kind == IO:
		// It was queued before the task became CPU-bound.
		run.Kind = CPU
		return nil, handBack(run, 0)
	case run.Expire > 0 && run.Attempt == 0 && run.Deliveries <= 1 && now.After(dueTime(run).Add(run.Expire)):
		failure := broker.Failure{Kind: Expired, Message: fmt.Sprintf("not started within %s of being due", run.Expire)}
		s.log(slog.LevelWarn, "run dropped", run, failure)
		return nil, broker.Outcome{Run: run, Verdict: broker.Dropped, Failure: &failure}
	}
	return d, broker.Outcome{}
}

// longestPark is for how long after its queueing a run of another version of its
// task is left to others before it becomes a dead letter.
const longestPark = time.Hour

// parkingTime is after how long a run that nobody here knows is handed out
// again: soon at first, for a consumer that knows it may be there, and ever
// more seldom, for one may have to come first.
func parkingTime(age time.Duration) time.Duration {
	most := min(max(age, 200*time.Millisecond), 10*time.Second)
	return most/2 + rand.N(most/2)
}

// dueTime is when a run could have started first, by its producer's clock.
func dueTime(run *broker.TaskRun) time.Time {
	if !run.Due.IsZero() {
		return run.Due
	}
	return run.QueuedAt.Add(run.Delay)
}

// handBack gives a run back as if it had not been handed out.
func handBack(run *broker.TaskRun, delay time.Duration) broker.Outcome {
	run.Deliveries = max(run.Deliveries-1, 0)
	return broker.Outcome{Run: run, Verdict: broker.Retry, Delay: delay}
}

// leaveToOthers hands a run back that cannot be executed here.
func leaveToOthers(run *broker.TaskRun, delay time.Duration) broker.Outcome {
	o := handBack(run, delay)
	o.ForOthers = true
	return o
}

// decide decides what becomes of a run that was executed.
func (x *execution) decide(ended time.Time, result []byte, err error) broker.Outcome {
	s, run := x.session, x.stored
	if err == nil && len(result) > s.cfg.MaxResult {
		err = Permanent(fmt.Errorf("the result takes %d bytes, at most %d are kept", len(result), s.cfg.MaxResult))
	}
	var next []*broker.TaskRun
	if err == nil {
		if next, err = s.tasks.next(run, result); err != nil {
			err = Permanent(err)
		}
	}
	if err == nil {
		if late := ended.Sub(x.deadline); late > 0 {
			s.logger.Warn("run succeeded after its timeout, which it ignored", "task", run.Task, "run", run.ID, "late", late.Round(time.Millisecond))
		}
		run.Attempt++
		return broker.Outcome{Run: run, Verdict: broker.Succeeded, Result: result, Next: next}
	}
	wait := snoozed(err)
	if x.Err() != nil {
		switch cause := context.Cause(x); {
		case errors.Is(cause, errLeaseLost):
			// The error may come from that alone. If nobody has recovered the run yet,
			// it goes back, and is spared this delivery.
			s.goesBack(run)
			return broker.Outcome{Run: run, Verdict: broker.Retry, Delay: wait}
		case errors.Is(cause, errStopping) && wait > 0:
		case errors.Is(cause, errStopping):
			s.cancelled.Add(1)
			s.notices.say(slog.LevelWarn, "run interrupted by the stop, handing it back", run)
			return handBack(run, 0)
		case errors.Is(cause, ErrCancelled):
			failure := failureOf(x, x.secrets, err)
			failure.Kind = Cancelled
			if errors.Is(err, context.Canceled) || failure.Message == cause.Error() {
				failure.Message = onRequest
			}
			run.Attempt++
			s.log(slog.LevelWarn, "run cancelled", run, failure)
			return broker.Outcome{Run: run, Verdict: broker.Dropped, Failure: &failure}
		}
	}
	if wait > 0 {
		s.logger.Debug("run snoozed", "task", run.Task, "run", run.ID, "in", wait)
		return handBack(run, wait)
	}
	return s.failed(x, run, err)
}

// failed decides what becomes of a run whose attempt failed by its own doing.
func (s *session) failed(x *execution, run *broker.TaskRun, err error) broker.Outcome {
	task := x.duty.task
	failure := failureOf(x, x.secrets, err)
	age := time.Since(run.QueuedAt)
	if failure.Kind == Schema && run.Schema != 0 && run.Schema != task.spec.schema() && age < longestPark {
		// While versions are deployed side by side another consumer can read it.
		s.notices.say(slog.LevelWarn, "run was queued by another version of its task, leaving it to a consumer that can read it", run, "error", failure.Message)
		return leaveToOthers(run, parkingTime(age))
	}
	if unread := (*gatherError)(nil); errors.As(err, &unread) {
		s.notices.say(slog.LevelWarn, "run cannot start, handing it back", run, "error", failure.Message)
		return handBack(run, 5*time.Second+rand.N(5*time.Second))
	}
	if start := (*subprocess.StartError)(nil); errors.As(err, &start) || errors.Is(err, subprocess.ErrClosed) {
		// It never started, and the reason is not in the run.
		level := slog.LevelError
		if errors.Is(err, subprocess.ErrBreaker) {
			level = slog.LevelDebug // said once for all of them
		}
		s.notices.say(level, "run cannot start, leaving it to another consumer", run, "error", failure.Message)
		return leaveToOthers(run, 5*time.Second+rand.N(5*time.Second))
	}
	var wait time.Duration
	if exit := (*subprocess.ExitError)(nil); errors.As(err, &exit) && failure.Kind == Crashed {
		// The delivery is spent, not the attempt.
		crashes := run.Deliveries - run.Attempt - int(x.spared)
		if crashes >= s.cfg.MaxCrashes {
			failure.Message += fmt.Sprintf(" (the last of %s)", count(crashes, "time"))
			return s.dead(run, failure)
		}
		wait = task.spec.Retry.wait(crashes)
	} else {
		run.Attempt++
		var again bool
		if wait, again = s.again(x, task, run, err); !again {
			return s.dead(run, failure)
		}
	}
	wait = min(wait, maxDelay)
	s.log(slog.LevelWarn, "run failed, it will be tried again", run, failure, "in", wait.Round(time.Millisecond))
	return broker.Outcome{Run: run, Verdict: broker.Retry, Delay: wait, Failure: &failure}
}

// again decides whether there is another attempt, and after which wait.
func (s *session) again(x *execution, task *Task, run *broker.TaskRun, err error) (wait time.Duration, again bool) {
	permanent, after := verdict(err)
	if permanent {
		return 0, false
	}
	if after == 0 {
		if wait, again, asked := s.ask(x, err); asked {
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

func (s *session) dead(run *broker.TaskRun, failure broker.Failure) broker.Outcome {
	s.log(slog.LevelError, "run failed for good", run, failure)
	return broker.Outcome{Run: run, Verdict: broker.Dead, Failure: &failure}
}

func (s *session) log(level slog.Level, message string, run *broker.TaskRun, failure broker.Failure, attrs ...any) {
	attrs = append(attrs, "task", run.Task, "run", run.ID, "attempt", run.Attempt, "kind", failure.Kind, "error", failure.Message)
	if failure.Stack != "" {
		attrs = append(attrs, "stack", failure.Stack)
	}
	s.logger.Log(context.Background(), level, message, attrs...)
}

// verdict returns what the task's error says of a next attempt: that there is
// none, or the wait before it if that is more than zero.
func verdict(err error) (permanent bool, after time.Duration) {
	if child := (*childError)(nil); errors.As(err, &child) {
		return child.Permanent, child.RetryAfter
	}
	if r := (*retryAfterError)(nil); errors.As(err, &r) {
		after = max(r.after, 1)
	}
	return isPermanent(err) || errors.Is(err, subprocess.ErrTooLarge), after
}

// failureOf describes an error for the run's record, bounded in size, the run's
// secrets hidden.
func failureOf(ctx context.Context, secrets *runSecrets, err error) broker.Failure {
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
	secrets.get().hideFailure(&f)
	f.Message, f.Stack = truncate(f.Message, maxMessage), truncate(f.Stack, maxStack)
	return f
}

// exitKind maps how a child process ended to how its run failed. A process
// whose answers cannot be understood is as good as crashed.
func exitKind(exit *subprocess.ExitError) FailureKind {
	if exit.Kind == subprocess.Protocol {
		return Crashed
	}
	return exit.Kind
}

func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "… (truncated)"
}
