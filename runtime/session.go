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

	lose context.CancelCauseFunc // ends everything: the lease cannot be trusted any more
	halt context.CancelCauseFunc // ends the contexts of the runs alone
}

// sessions joins the broker and takes runs, again after each loss of the
// lease, until ctx ends. What a lost session leaves behind is wound up in
// loops.
func (c *Consumer) sessions(ctx context.Context, pool *subprocess.Pool, loops *sync.WaitGroup) error {
	limit := time.Now().Add(joinTimeout)
	for {
		joined := time.Now()
		lease, err := c.join(ctx, limit)
		if err != nil {
			return err
		}
		if lease == nil {
			return nil // ctx ended
		}
		limit = time.Time{}
		trust, lose := context.WithCancelCause(context.WithoutCancel(ctx))
		base, halt := context.WithCancelCause(trust)
		s := &session{
			Consumer: c, lease: lease, pool: pool, lose: lose, halt: halt,
			outcomes: make(chan broker.Outcome, 4*(c.cfg.Concurrency+c.cfg.Processes)),
			closed:   make(chan struct{}),
			finished: make(chan struct{}),
		}
		loops.Go(func() { s.renewLoop(trust, joined) })
		loops.Go(func() { s.finishLoop(trust) })
		s.takeLoop(ctx, base)
		if ctx.Err() != nil {
			return s.stop(ctx, c.cfg.Grace)
		}
		c.logger.Error("lease lost: running tasks were cancelled, joining the broker again", "session", lease.ID(), "error", context.Cause(trust))
		loops.Go(func() { _ = s.stop(ctx, 0) }) // what it cannot hand back was lost already
	}
}

// join opens a session, retrying until ctx ends, when it returns nil, or until
// limit, unless that is zero.
func (c *Consumer) join(ctx context.Context, limit time.Time) (broker.Session, error) {
	leaser, ok := c.broker.(broker.Leaser)
	if !ok {
		return newCoreSession(c.broker), nil
	}
	for wait := newBackoff(100*time.Millisecond, 5*time.Second); ; {
		attempt, cancel := context.WithTimeout(ctx, joinTimeout)
		lease, err := leaser.Join(attempt, c.cfg.Lease)
		cancel()
		if err == nil {
			return lease, nil
		}
		if ctx.Err() != nil {
			return nil, nil
		}
		if !limit.IsZero() && time.Now().After(limit) {
			return nil, fmt.Errorf("join the broker: %w", err)
		}
		c.logger.Warn("cannot join the broker, trying again", "error", err)
		wait.sleep(ctx)
	}
}

// stop waits up to grace for the running tasks, cancels those left, applies
// the outcomes, gives the rest back and ends the session's loops.
func (s *session) stop(ctx context.Context, grace time.Duration) error {
	defer s.lose(errStopping)
	done := make(chan struct{})
	go func() { // ends with the last handler; a task that never returns keeps it
		s.handlers.Wait()
		close(done)
	}()
	var err error
	if !within(done, grace) {
		s.logger.Warn("grace time over, cancelling the running tasks", "running", s.slots.busy())
		s.halt(errStopping)
		if !within(done, stopTimeout/2) {
			err = fmt.Errorf("%d runs ignored the end of their contexts and go on unsupervised", s.slots.busy())
		}
	}
	close(s.closed)
	if !within(s.finished, stopTimeout/4) {
		s.lose(errStopping)
		<-s.finished
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancel()
	if leaveErr := s.lease.Leave(leaving); leaveErr != nil && !errors.Is(leaveErr, broker.ErrLeaseLost) {
		err = errors.Join(err, fmt.Errorf("give back what was not finished: %w; it starts elsewhere when the lease ends", leaveErr))
	}
	return err
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
			s.slots.take(run.Kind)
			s.handlers.Add(1)
			go s.execute(base, run)
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

// logFenced reports outcomes that came too late to count.
func logFenced(logger *slog.Logger, fenced []*broker.TaskRun) {
	for _, run := range fenced {
		logger.Info("outcome not applied: the run was finished or given to another consumer before", "task", run.Task, "run", run.ID)
	}
}
