package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
	"github.com/taskgen/taskgen/internal/text"
)

const (
	openTimeout = 10 * time.Second // for the broker to answer at the start
	// MaxPause is how long after the time of a lease the loop of a worker may turn again.
	MaxPause = 2 * openTimeout
	// stopTimeout bounds a stop after the grace time: cancelled tasks return, the last
	// outcomes are recorded, and runs are given back.
	stopTimeout = 2 * time.Second
	// drainTimeout bounds the same after the loss of a lease.
	drainTimeout = time.Minute
)

// session is the worker's side of one [broker.Session], which lasts until the worker stops or
// loses its lease. It owns the runs that it took until their outcomes are recorded.
type session struct {
	*Worker
	membership broker.Session  // the broker's side of the session
	leaseless  bool            // the broker has three methods: it keeps nothing of the runs that were taken
	base       context.Context // of all runs; ends when the lease is lost, or by cancelRuns
	starting   context.Context // ends when no more runs may start

	outcomes         outcomeQueues
	finished         chan struct{}  // closed when the last outcome is recorded, or given up
	executing        sync.WaitGroup // runs
	returnedMu       sync.Mutex
	returned         map[*broker.TaskRun]bool // runs that went back because the lease was lost
	reconnected      chan struct{}            // closed when the broker answers again after the loss of the lease
	queueLeases      queueLeases
	foundOtherKind   bool                               // whether the last request that returned runs returned some of that kind
	lastOtherKind    time.Time                          // when the fetcher last asked for a run of the kind that no task has
	skipAllKindsWait bool                               // the last allKindsWait was for nothing
	capacityFreed    chan struct{}                      // has a value when a pool has notified the fetcher
	cancelFetch      atomic.Pointer[context.CancelFunc] // ends a fetch for one kind

	loseLease  context.CancelCauseFunc // ends renewal and the contexts of the runs
	cancelRuns context.CancelCauseFunc // ends the contexts of the runs
	abandon    context.CancelFunc      // ends the tries to record outcomes

	unrecorded  int          // outcomes that were given up; read when finished is closed
	recordErr   error        // of the last of these
	unfinished  atomic.Int64 // runs that go on although the lease was lost
	unstarted   atomic.Int64 // runs that were given back at the end without having started
	interrupted atomic.Int64 // runs that were given back after the stop had cancelled them
}

// sessions opens a session and takes runs, again after each loss of the lease, until
// ctx ends. Lost sessions are drained in loops.
func (w *Worker) sessions(ctx context.Context, loops *sync.WaitGroup) error {
	stopping := timeOfEnd(ctx)
	limit := time.Now().Add(openTimeout)
	var lost *session
	for {
		membership, opened, err := w.openSession(ctx, limit)
		if lost != nil {
			lost.reportAlive(ctx, w.cfg.Lease/4) // before the new session takes runs
			close(lost.reconnected)
		}
		if err != nil {
			return err
		}
		if membership == nil {
			return nil // ctx ended
		}
		limit = time.Time{}
		s, trusted := w.newSession(ctx, membership)
		loops.Go(func() { s.renewLoop(trusted, opened) })
		loops.Go(s.awaitRecorded)
		loops.Go(func() { s.heartbeatLoop(trusted) })
		s.fetchLoop()
		if ctx.Err() != nil {
			return s.stop(ctx, time.Until(stopping().Add(w.cfg.Grace)))
		}
		w.count.leasesLost.Add(1)
		w.vitals.lose()
		w.logger.Error("lease lost: running tasks were cancelled, joining the broker again", "session", membership.ID(), "error", context.Cause(trusted))
		loops.Go(func() { s.drain(ctx) })
		lost = s
	}
}

// newSession returns a session, and a context that ends when its lease is lost.
func (w *Worker) newSession(ctx context.Context, membership broker.Session) (s *session, trusted context.Context) {
	trusted, loseLease := context.WithCancelCause(context.WithoutCancel(ctx))
	base, cancelRuns := context.WithCancelCause(trusted)
	finishing, abandon := context.WithCancel(context.WithoutCancel(ctx))
	starting, noMore := context.WithCancel(ctx)
	context.AfterFunc(base, noMore)
	s = &session{
		Worker: w, membership: membership, base: base, starting: starting,
		loseLease: loseLease, cancelRuns: cancelRuns, abandon: abandon,
		finished:      make(chan struct{}),
		reconnected:   make(chan struct{}),
		capacityFreed: make(chan struct{}, 1),
		lastOtherKind: time.Now(),
	}
	_, s.leaseless = membership.(leaselessSession)
	limit := 4 * (w.cfg.Slots[broker.IO] + w.cfg.Slots[broker.CPU] + maxPrefetch)
	s.outcomes.init(limit, func(q *queueOutcomes) { s.recordQueue(finishing, q) }, s.refetchNow)
	return s, trusted
}

// timeOfEnd returns a function that returns when ctx ended, or now if it has not.
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

// openSession opens a session with the broker, and returns from when on its lease
// counts. It retries until ctx ends, when it returns nil, or until limit. A zero limit
// is none.
func (w *Worker) openSession(ctx context.Context, limit time.Time) (broker.Session, time.Time, error) {
	leaser, ok := w.broker.(broker.Leaser)
	if !ok {
		w.vitals.turn()
		w.vitals.answer(leaselessSession{}.ID(), time.Now())
		return leaselessSession{w.broker, w.kinds}, time.Now(), nil
	}
	for wait := backoff.New(100*time.Millisecond, 5*time.Second); ; {
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
		opened := time.Now()
		membership, err := leaser.OpenSession(attempt, w.cfg.Lease)
		cancel()
		w.count.operations[opOpen].observe(opened, err)
		w.vitals.turn()
		if err == nil {
			w.vitals.answer(membership.ID(), opened)
			return membership, opened, nil
		}
		if ctx.Err() != nil {
			return nil, time.Time{}, nil
		}
		if !limit.IsZero() && time.Now().After(limit) {
			return nil, time.Time{}, fmt.Errorf("join the broker: %w", err)
		}
		w.logger.Warn("cannot join the broker, trying again", "error", err)
		wait.Sleep(ctx)
	}
}

// stop waits up to grace for the running tasks, cancels those left, has the outcomes
// recorded, gives the rest back and ends the session's loops.
func (s *session) stop(ctx context.Context, grace time.Duration) error {
	defer s.loseLease(ErrStopping)
	defer s.abandon()
	idle := s.idle()
	var err error
	level := s.logStop(grace)
	if !within(idle, grace) {
		s.logger.Warn("grace time over, cancelling the running tasks", "running", s.busy())
		s.cancelRuns(ErrStopping)
		if !within(idle, stopTimeout*5/8) {
			err = fmt.Errorf("tasks that ignored the end of their contexts go on unsupervised: %s", text.Count(s.busy(), "run"))
		}
	}
	s.outcomes.close()
	if !within(s.finished, stopTimeout/8) {
		s.abandon()
		<-s.finished
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancel()
	s.sendLastRuns(closing)
	closeErr := s.close(closing)
	switch {
	case s.openRuns() > 0:
		err = errors.Join(err, s.openRunsError())
	case closeErr == nil || errors.Is(closeErr, broker.ErrLeaseLost):
	case err == nil: // the session knows of no run that it holds
		s.logger.Warn("cannot close the session at the broker; runs that it may still hold there start elsewhere when the lease ends", "error", closeErr)
	default:
		err = errors.Join(err, fmt.Errorf("give back what was not finished: %w; it starts elsewhere when the lease ends", closeErr))
	}
	if err == nil {
		s.logger.Log(closing, level, "stopped executing tasks", "given_back_unstarted", s.unstarted.Load(), "given_back_interrupted", s.interrupted.Load())
	}
	return err
}

// logStop logs what a stop waits for. It returns the level at which the stop is logged:
// debug if there was nothing to do any more.
func (s *session) logStop(grace time.Duration) slog.Level {
	n := s.busy()
	if n == 0 && s.unstarted.Load() == 0 {
		return slog.LevelDebug
	}
	message := "stopping: no task is running"
	if n > 0 {
		grace = max(grace, 0)
		message = fmt.Sprintf("stopping: waiting up to %s for %s", roundDuration(grace), text.Count(n, "running task"))
		if s.cfg.StopHint != nil {
			message += s.cfg.StopHint()
		}
	}
	s.logger.Info(message, "given_back_unstarted", s.unstarted.Load())
	return slog.LevelInfo
}

// roundDuration rounds a time to two digits: 3s of 2.998s, 160ms of 158ms.
func roundDuration(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 100 {
		unit *= 10
	}
	return d.Round(min(unit, time.Second))
}

// openRuns returns, when all loops have ended, how many runs have started and have no
// recorded outcome.
func (s *session) openRuns() int { return s.unrecorded + int(s.unfinished.Load()) }

func (s *session) openRunsError() error {
	why, next := s.recordErr, "they may start again when the lease ends"
	if why == nil {
		why = ErrLeaseLost
	}
	if s.leaseless {
		next = "this broker has no leases, so those that were to start again are lost"
	}
	return fmt.Errorf("record what became of %s: %w; %s", text.Count(s.openRuns(), "run"), why, next)
}

// close gives back the runs that the session holds. It does nothing if runs are open: to
// give these back would take their delivery back. When the lease ends, another consumer
// gets them, and the delivery counts.
func (s *session) close(ctx context.Context) error {
	if s.openRuns() > 0 {
		return nil
	}
	return s.membership.Close(ctx)
}

// idle returns a channel that is closed once no run executes.
func (s *session) idle() <-chan struct{} {
	done := make(chan struct{})
	go func() { // a task that never returns keeps the goroutine
		s.executing.Wait()
		close(done)
	}()
	return done
}

// within reports whether done is closed within d.
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
