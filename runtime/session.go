package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// Why a run's context was cancelled, for context.Cause.
var (
	errLeaseLost = errors.New("lease lost: the run may have started elsewhere")
	errStopping  = errors.New("the consumer stops")
)

const (
	joinTimeout = 10 * time.Second // for the broker to answer at the start
	// stopTimeout bounds what follows the end of the grace time: cancelled
	// tasks returning, the last outcomes, the handing back.
	stopTimeout = 2 * time.Second
	// windUpTimeout bounds the same after the loss of a lease.
	windUpTimeout = time.Minute
)

// session is a consumer's stay with the broker between two losses of its
// lease. It owns the runs it took until their outcomes are applied.
type session struct {
	*Consumer
	lease    broker.Session
	pool     *subprocess.Pool
	outcomes chan broker.Outcome
	closed   chan struct{} // by stop: no more outcomes are taken
	finished chan struct{} // by finishLoop: the last outcome was applied
	handlers sync.WaitGroup

	lookedForOther time.Time // the taker's own

	lose    context.CancelCauseFunc // the lease cannot be trusted any more: ends renewal and the contexts of the runs
	halt    context.CancelCauseFunc // ends the contexts of the runs alone
	abandon context.CancelFunc      // ends the tries to record outcomes
}

// sessions joins the broker and takes runs, again after each loss of the
// lease, until ctx ends. What a lost session leaves behind is wound up in
// loops.
func (c *Consumer) sessions(ctx context.Context, pool *subprocess.Pool, loops *sync.WaitGroup) error {
	stopping := timeOfEnd(ctx)
	limit := time.Now().Add(joinTimeout)
	for {
		lease, joined, err := c.join(ctx, limit)
		if err != nil {
			return err
		}
		if lease == nil {
			return nil // ctx ended
		}
		limit = time.Time{}
		trust, lose := context.WithCancelCause(context.WithoutCancel(ctx))
		base, halt := context.WithCancelCause(trust)
		finishing, abandon := context.WithCancel(context.WithoutCancel(ctx))
		s := &session{
			Consumer: c, lease: lease, pool: pool, lose: lose, halt: halt, abandon: abandon,
			outcomes: make(chan broker.Outcome, 4*(c.cfg.Concurrency+c.cfg.Processes)),
			closed:   make(chan struct{}),
			finished: make(chan struct{}),

			lookedForOther: time.Now(),
		}
		loops.Go(func() { s.renewLoop(trust, joined) })
		loops.Go(func() { s.finishLoop(finishing) })
		s.takeLoop(ctx, base)
		if ctx.Err() != nil {
			return s.stop(ctx, time.Until(stopping().Add(c.cfg.Grace)))
		}
		c.logger.Error("lease lost: running tasks were cancelled, joining the broker again", "session", lease.ID(), "error", context.Cause(trust))
		loops.Go(func() { s.windUp(ctx) })
	}
}

// timeOfEnd returns a function that tells when ctx ended, or now if it has not.
func timeOfEnd(ctx context.Context) func() time.Time {
	ended := make(chan time.Time, 1)
	context.AfterFunc(ctx, func() { ended <- time.Now() })
	return func() time.Time {
		select {
		case at := <-ended:
			return at
		default:
			return time.Now()
		}
	}
}

// join opens a session and tells from when on its lease counts. It retries
// until ctx ends, when it returns nil, or until limit, unless that is zero.
func (c *Consumer) join(ctx context.Context, limit time.Time) (broker.Session, time.Time, error) {
	leaser, ok := c.broker.(broker.Leaser)
	if !ok {
		return newCoreSession(c.broker, c.kinds), time.Now(), nil
	}
	for wait := newBackoff(100*time.Millisecond, 5*time.Second); ; {
		attempt, cancel := context.WithTimeout(ctx, joinTimeout)
		joined := time.Now()
		lease, err := leaser.Join(attempt, c.cfg.Lease)
		cancel()
		if err == nil {
			return lease, joined, nil
		}
		if ctx.Err() != nil {
			return nil, time.Time{}, nil
		}
		if !limit.IsZero() && time.Now().After(limit) {
			return nil, time.Time{}, fmt.Errorf("join the broker: %w", err)
		}
		c.logger.Warn("cannot join the broker, trying again", "error", err)
		wait.sleep(ctx)
	}
}

// stop waits up to grace for the running tasks, cancels those left, applies
// the outcomes, gives the rest back and ends the session's loops.
func (s *session) stop(ctx context.Context, grace time.Duration) error {
	defer s.lose(errStopping)
	defer s.abandon()
	done := s.idle()
	var err error
	if !within(done, grace) {
		s.logger.Warn("grace time over, cancelling the running tasks", "running", s.slots.busy())
		s.halt(errStopping)
		if !within(done, stopTimeout*5/8) {
			err = fmt.Errorf("tasks that ignored the end of their contexts go on unsupervised: %s", count(s.slots.busy(), "run"))
		}
	}
	close(s.closed)
	if !within(s.finished, stopTimeout/8) {
		s.abandon()
		<-s.finished
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancel()
	if leaveErr := s.lease.Leave(leaving); leaveErr != nil && !errors.Is(leaveErr, broker.ErrLeaseLost) {
		err = errors.Join(err, fmt.Errorf("give back what was not finished: %w; it starts elsewhere when the lease ends", leaveErr))
	}
	return err
}

// windUp ends a session whose lease was lost. Its outcomes are still offered to
// the broker, which knows best whether they count: after an outage of its own
// nobody else can have taken the runs.
func (s *session) windUp(ctx context.Context) {
	patience, cancel := context.WithTimeout(ctx, windUpTimeout)
	defer cancel()
	done := s.idle()
	select {
	case <-done:
	case <-patience.Done():
	}
	close(s.closed)
	stop := context.AfterFunc(patience, s.abandon)
	<-s.finished
	stop()
	s.abandon()
	leaving, cancelLeave := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancelLeave()
	_ = s.lease.Leave(leaving) // what it cannot give back starts elsewhere, as it had to be expected
}

// idle returns a channel that is closed once no handler runs.
func (s *session) idle() <-chan struct{} {
	done := make(chan struct{})
	go func() { // a task that never returns keeps it
		s.handlers.Wait()
		close(done)
	}()
	return done
}

// count writes a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func within(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// takeLoop asks for runs as long as there is room and starts them, until ctx
// ends or the lease is lost.
func (s *session) takeLoop(ctx, base context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(base, cancel)()
	for wait := newBackoff(100*time.Millisecond, 5*time.Second); ctx.Err() == nil; {
		runs, err := s.take(ctx)
		for _, run := range runs {
			s.begin(ctx, base, run)
		}
		switch {
		case err == nil:
			wait.reset()
		case ctx.Err() == nil:
			s.logger.Warn("cannot take runs from the broker, trying again", "error", err)
			wait.sleep(ctx)
		}
	}
}

// begin starts a run that was taken once it has a slot.
func (s *session) begin(ctx, base context.Context, run *broker.TaskRun) {
	switch {
	case run.Kind != IO && run.Kind != CPU: // not of a broker that keeps the contract
		s.finish(s.dead(run, broker.Failure{Kind: string(Schema), Message: fmt.Sprintf("the run is of kind %d, which there is not", run.Kind)}))
	case !s.slots.acquire(ctx, run.Kind): // the consumer stops
		s.finish(handBack(run, 0))
	default:
		s.handlers.Add(1)
		go s.execute(base, run)
	}
}

// otherKindEvery is how often a consumer whose tasks are all of one kind looks
// for runs of the other: those queued before a task's kind was changed.
const otherKindEvery = 10 * time.Second

// take waits for room and then for runs. While only one kind has room it asks
// for that kind, until a slot of the other is free.
func (s *session) take(ctx context.Context) ([]*broker.TaskRun, error) {
	io, cpu := s.slots.wait(ctx, s.kinds)
	if io+cpu == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.kinds[IO] || !s.kinds[CPU] {
		ctx, cancel = context.WithTimeout(ctx, otherKindEvery)
		defer cancel()
		io, cpu = s.otherKind(io, cpu)
	}
	if io == 0 && s.kinds[IO] {
		defer s.slots.notify(IO, cancel)()
	}
	if cpu == 0 && s.kinds[CPU] {
		defer s.slots.notify(CPU, cancel)()
	}
	runs, err := s.lease.Take(ctx, broker.Want{Queues: s.order(), IO: io, CPU: cpu})
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // there is something else to ask for, or nothing any more
	}
	return runs, err
}

// otherKind leaves out the kind that none of the tasks has, but for one run now
// and then.
func (s *session) otherKind(io, cpu int) (int, int) {
	other := 0
	if time.Since(s.lookedForOther) >= otherKindEvery {
		s.lookedForOther = time.Now()
		other = 1
	}
	if !s.kinds[IO] {
		return min(io, other), cpu
	}
	return io, min(cpu, other)
}

// backoff is an exponential wait with jitter between tries at the broker.
type backoff struct{ min, max, next time.Duration }

func newBackoff(minimum, maximum time.Duration) *backoff {
	return &backoff{min: minimum, max: maximum, next: minimum}
}

func (b *backoff) reset() { b.next = b.min }

// sleep waits between half and the whole of the current wait, less if ctx ends.
func (b *backoff) sleep(ctx context.Context) {
	timer := time.NewTimer(b.next/2 + rand.N(b.next/2+1))
	defer timer.Stop()
	b.next = min(2*b.next, b.max)
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// logFenced reports outcomes that came too late to count. After a try whose
// reply was lost they may be those that the try applied.
func logFenced(logger *slog.Logger, fenced []*broker.TaskRun, again bool) {
	level, message := slog.LevelWarn, "run finished after its lease was lost: its outcome does not count"
	if again {
		level, message = slog.LevelDebug, "outcome of the run was recorded by an earlier try, or its lease was lost"
	}
	for _, run := range fenced {
		logger.Log(context.Background(), level, message, "task", run.Task, "run", run.ID)
	}
}
