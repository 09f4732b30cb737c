package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/text"
)

// Why a run's context was cancelled, for context.Cause.
var (
	errLeaseLost = errors.New("lease lost: the run may have started elsewhere")
	errStopping  = errors.New("the consumer stops")
)

const (
	openTimeout = 10 * time.Second // for the broker to answer at the start
	// stopTimeout bounds what follows the end of the grace time: cancelled
	// tasks returning, the last outcomes, the handing back.
	stopTimeout = 2 * time.Second
	// drainTimeout bounds the same after the loss of a lease.
	drainTimeout = time.Minute
)

// session is a consumer's stay with the broker between two losses of its
// lease. It owns the runs it took until their outcomes are applied.
type session struct {
	*Consumer
	lease       broker.Session
	leaseless   bool // the broker has only three methods: what was taken is gone from it
	pool        *subprocess.Pool
	base        context.Context // of all runs
	starting    context.Context // ends when no more runs are to start
	offers      offers          // to all runs
	outcomes    outcomeQueues
	finished    chan struct{} // closed by finishLoop: the last outcome was applied
	handlers    sync.WaitGroup
	returnedMu  sync.Mutex
	returned    map[*broker.TaskRun]bool // which went back as the lease was lost
	reconnected chan struct{}            // closed when the broker has answered again since the lease was lost
	queueLeases queueLeases

	unrecorded int          // outcomes that finishLoop gave up, to be read when it has finished
	recordErr  error        // of the last of these
	unfinished atomic.Int64 // runs that go on although the lease was lost
	unstarted  atomic.Int64 // runs that were taken and went back at the end
	cancelled  atomic.Int64 // runs that were interrupted by the stop, and handed back

	lastOtherKind    time.Time                          // the fetcher's own
	skipAllKindsWait bool                               // the fetcher waited for room for both kinds lately, and there came none
	capacityFreed    chan struct{}                      // has a token when a lane has told of room
	cancelFetch      atomic.Pointer[context.CancelFunc] // ends the fetcher's request for runs

	lose    context.CancelCauseFunc // the lease cannot be trusted any more: ends renewal and the contexts of the runs
	halt    context.CancelCauseFunc // ends the contexts of the runs alone
	abandon context.CancelFunc      // ends the tries to record outcomes
}

// sessions joins the broker and takes runs, again after each loss of the
// lease, until ctx ends. What a lost session leaves behind is wound up in
// loops.
func (c *Consumer) sessions(ctx context.Context, pool *subprocess.Pool, loops *sync.WaitGroup) error {
	stopping := timeOfEnd(ctx)
	limit := time.Now().Add(openTimeout)
	var lost *session
	for {
		lease, joined, err := c.openSession(ctx, limit)
		if lost != nil {
			lost.reportAlive(ctx, c.cfg.Lease/4) // before it is asked for runs
			close(lost.reconnected)
		}
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
		starting, noMore := context.WithCancel(ctx)
		context.AfterFunc(base, noMore)
		s := &session{
			Consumer: c, lease: lease, pool: pool, base: base, starting: starting, offers: offers{client: c.client, logger: c.logger, bounded: true}, lose: lose, halt: halt, abandon: abandon,
			finished:      make(chan struct{}),
			reconnected:   make(chan struct{}),
			capacityFreed: make(chan struct{}, 1),

			lastOtherKind: time.Now(),
		}
		_, s.leaseless = lease.(leaselessSession)
		s.outcomes.init(4*(c.cfg.Concurrency+c.cfg.Processes+maxPrefetch), func(q *queueOutcomes) { s.finishQueue(finishing, q) }, s.refetchNow)
		loops.Go(func() { s.renewLoop(trust, joined) })
		loops.Go(s.finishLoop)
		loops.Go(func() { s.heartbeatLoop(trust) })
		s.fetchLoop()
		if ctx.Err() != nil {
			return s.stop(ctx, time.Until(stopping().Add(c.cfg.Grace)))
		}
		c.logger.Error("lease lost: running tasks were cancelled, joining the broker again", "session", lease.ID(), "error", context.Cause(trust))
		loops.Go(func() { s.drain(ctx) })
		lost = s
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

// openSession opens a session and tells from when on its lease counts. It retries
// until ctx ends, when it returns nil, or until limit, unless that is zero.
func (c *Consumer) openSession(ctx context.Context, limit time.Time) (broker.Session, time.Time, error) {
	leaser, ok := c.broker.(broker.Leaser)
	if !ok {
		return newLeaselessSession(c.broker, c.kinds, func(left broker.LeftOut) { c.tellOf(left) }), time.Now(), nil
	}
	for wait := backoff.New(100*time.Millisecond, 5*time.Second); ; {
		attempt, cancel := context.WithTimeout(ctx, openTimeout)
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
		wait.Sleep(ctx)
	}
}

// stop waits up to grace for the running tasks, cancels those left, applies
// the outcomes, gives the rest back and ends the session's loops.
func (s *session) stop(ctx context.Context, grace time.Duration) error {
	defer s.lose(errStopping)
	defer s.abandon()
	done := s.idle()
	var err error
	level := s.logStop(grace)
	if !within(done, grace) {
		s.logger.Warn("grace time over, cancelling the running tasks", "running", s.busy())
		s.halt(errStopping)
		if !within(done, stopTimeout*5/8) {
			err = fmt.Errorf("tasks that ignored the end of their contexts go on unsupervised: %s", text.Count(s.busy(), "run"))
		}
	}
	s.outcomes.close()
	if !within(s.finished, stopTimeout/8) {
		s.abandon()
		<-s.finished
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancel()
	s.sendLastRuns(leaving)
	leaveErr := s.close(leaving)
	switch {
	case s.openRuns() > 0:
		err = errors.Join(err, s.openRunsError())
	case leaveErr == nil || errors.Is(leaveErr, broker.ErrLeaseLost):
	case err == nil: // nothing is held that is known of
		s.logger.Warn("cannot tell the broker that the consumer stops; what it may have handed out unheard starts elsewhere when the lease ends", "error", leaveErr)
	default:
		err = errors.Join(err, fmt.Errorf("give back what was not finished: %w; it starts elsewhere when the lease ends", leaveErr))
	}
	if err == nil {
		s.logger.Log(leaving, level, "stopped executing tasks", "given_back_unstarted", s.unstarted.Load(), "given_back_interrupted", s.cancelled.Load())
	}
	return err
}

// logStop logs what a stop waits for, and returns how much that is of interest:
// not to an application that has nothing left to do.
func (s *session) logStop(grace time.Duration) slog.Level {
	n := s.busy()
	if n == 0 && s.unstarted.Load() == 0 {
		return slog.LevelDebug
	}
	message := "stopping: no task is running"
	if n > 0 {
		grace = max(grace, 0)
		message = fmt.Sprintf("stopping: waiting up to %s for %s", roundForPeople(grace), text.Count(n, "running task"))
		if s.stopHint != nil {
			message += s.stopHint()
		}
	}
	s.logger.Info(message, "given_back_unstarted", s.unstarted.Load())
	return slog.LevelInfo
}

// roundForPeople rounds a time to two digits: 3s of 2.998s, 160ms of 158ms.
func roundForPeople(d time.Duration) time.Duration {
	unit := time.Duration(1)
	for d/unit >= 100 {
		unit *= 10
	}
	return d.Round(min(unit, time.Second))
}

// openRuns is how many runs have started and are not known to the broker to have
// ended, when all loops have.
func (s *session) openRuns() int { return s.unrecorded + int(s.unfinished.Load()) }

// openRunsError says what becomes of them.
func (s *session) openRunsError() error {
	why, next := s.recordErr, "they may start again when the lease ends"
	if why == nil {
		why = errLeaseLost
	}
	if s.leaseless {
		next = "this broker has no leases, so those that were to start again are lost"
	}
	return fmt.Errorf("record what became of %s: %w; %s", text.Count(s.openRuns(), "run"), why, next)
}

// close gives back what is held, unless runs are open: to give these back would
// take their delivery back. The end of the lease gives them to another consumer
// and counts it.
func (s *session) close(ctx context.Context) error {
	if s.openRuns() > 0 {
		return nil
	}
	return s.lease.Leave(ctx)
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

// fetchLoop asks for runs as long as there is room and has them executed, until no
// more are to start. Those that have not started then go back.
func (s *session) fetchLoop() {
	ctx := s.starting
	for wait := backoff.New(100*time.Millisecond, 5*time.Second); ctx.Err() == nil; {
		runs, err := s.fetch(ctx)
		s.dispatch(runs)
		goruntime.Gosched() // the runs first, then the request for more
		switch {
		case err == nil:
			wait.Reset()
		case ctx.Err() == nil:
			s.logger.Warn("cannot take runs from the broker, trying again", "error", err)
			wait.Sleep(ctx)
		}
	}
	for _, l := range s.slots {
		runs := l.withdraw(s)
		s.unstarted.Add(int64(len(runs)))
		s.giveBack(runs)
	}
}

// dispatch has the runs executed that were taken.
func (s *session) dispatch(runs []*broker.TaskRun) {
	var queued [2][]queuedRun
	for _, run := range runs {
		if run.Kind != IO && run.Kind != CPU { // not of a broker that keeps the contract
			s.finish(s.dead(run, broker.Failure{Kind: string(Schema), Message: fmt.Sprintf("the run is of kind %d, which there is not", run.Kind)}))
			continue
		}
		if queued[run.Kind] == nil {
			queued[run.Kind] = make([]queuedRun, 0, len(runs))
		}
		queued[run.Kind] = append(queued[run.Kind], queuedRun{run, s})
	}
	for kind, l := range s.slots {
		if len(queued[kind]) > 0 {
			l.put(queued[kind])
		}
	}
}

// otherKindEvery is how often a consumer whose tasks are all of one kind looks
// for runs of the other: those queued before a task's kind was changed.
const otherKindEvery = 10 * time.Second

// fetch waits for room and then for runs. While only one kind has room it asks
// for that kind, until there is room for the other.
func (s *session) fetch(ctx context.Context) ([]*broker.TaskRun, error) {
	want, ok := s.awaitCapacity(ctx)
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.kinds[IO] || !s.kinds[CPU] {
		ctx, cancel = context.WithTimeout(ctx, otherKindEvery)
		defer cancel()
		s.limitOtherKind(&want)
	}
	slotless := func(kind Kind, n, ahead int) bool {
		return s.kinds[kind] && (n == 0 || s.limited[kind] && n == ahead)
	}
	if slotless(IO, want.IO, want.AheadIO) || slotless(CPU, want.CPU, want.AheadCPU) {
		s.cancelFetch.Store(&cancel)
		defer s.cancelFetch.Store(nil)
		select {
		case <-s.capacityFreed: // it came between looking and asking
			cancel()
		default:
		}
	}
	queues := s.queues.order()
	known := len(queues)
	want.Queues = s.outcomes.recordable(queues)
	if len(s.queues.patterns) > 0 || len(want.Queues) < known {
		var forget context.CancelFunc
		ctx, forget = context.WithCancel(ctx)
		defer forget()
		s.refetch.Store(&forget)
		if len(want.Queues) < known { // one may have got better before it could say so
			want.Queues = s.outcomes.recordable(s.queues.order())
		}
	}
	if len(want.Queues) == 0 {
		<-ctx.Done() // until there is a queue that matches, or can be taken from again
		return nil, nil
	}
	runs, err := s.lease.Take(ctx, want)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // there is something else to ask for, or nothing any more
	}
	return runs, err
}

// allKindsWait is how long the fetcher waits for room for one kind before it asks for
// runs of the other alone: short runs make room in that time, and one request
// then serves both kinds. Once that was in vain it does not wait again until
// there has been room for all: io tasks are not to wait at each CPU-bound run
// that takes long.
const allKindsWait = 20 * time.Millisecond

// awaitCapacity blocks until there is room, for all kinds of the consumer's tasks if
// that does not take long. It reports false when ctx ends first.
func (s *session) awaitCapacity(ctx context.Context) (want broker.Want, ok bool) {
	var settled <-chan time.Time
	for patient := !s.skipAllKindsWait; ; {
		if s.leaseless && !s.awaitAllStarted(ctx) {
			return want, false
		}
		now := time.Now()
		want.IO, want.AheadIO = s.slots[IO].demand(now, s.limited[IO], s.notifyCapacity)
		want.CPU, want.AheadCPU = s.slots[CPU].demand(now, s.limited[CPU], s.notifyCapacity)
		io, cpu := want.IO > 0, want.CPU > 0
		all := (io || !s.kinds[IO]) && (cpu || !s.kinds[CPU])
		some := io && s.kinds[IO] || cpu && s.kinds[CPU]
		if some && (all || !patient) {
			s.skipAllKindsWait = !all
			return want, true
		}
		if some && settled == nil {
			timer := time.NewTimer(allKindsWait)
			defer timer.Stop()
			settled = timer.C
		}
		select {
		case <-s.capacityFreed:
		case <-settled:
			patient = false
		case <-ctx.Done():
			return want, false
		}
	}
}

// awaitAllStarted waits until every run that was taken has started: what a broker of
// three methods handed out is lost with this process. It reports false when ctx
// ends first.
func (s *session) awaitAllStarted(ctx context.Context) bool {
	for s.slots[IO].countReady(s.notifyCapacity)+s.slots[CPU].countReady(s.notifyCapacity) > 0 {
		select {
		case <-s.capacityFreed:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// notifyCapacity wakes the fetcher, whether it waits for room or for runs of a kind.
func (s *session) notifyCapacity() {
	select {
	case s.capacityFreed <- struct{}{}:
	default:
	}
	if cancel := s.cancelFetch.Load(); cancel != nil {
		(*cancel)()
	}
}

// limitOtherKind leaves out the kind that none of the tasks has, but for one run now
// and then.
func (s *session) limitOtherKind(want *broker.Want) {
	other := 0
	if time.Since(s.lastOtherKind) >= otherKindEvery {
		s.lastOtherKind = time.Now()
		other = 1
	}
	if !s.kinds[IO] {
		want.IO, want.AheadIO = min(want.IO-want.AheadIO, other), 0
	}
	if !s.kinds[CPU] {
		want.CPU, want.AheadCPU = min(want.CPU-want.AheadCPU, other), 0
	}
}

// logFenced reports outcomes that came too late to count. After a try whose
// reply was lost they may be those that the try applied.
func (s *session) logFenced(fenced []*broker.TaskRun, again bool) {
	level, message := slog.LevelWarn, "outcome of the run was not applied: its lease was lost, or the broker had it from a try whose reply was lost"
	if again {
		level, message = slog.LevelDebug, "outcome of the run was recorded by an earlier try, or its lease was lost"
	}
	s.noteRecovered(fenced)
	for _, run := range fenced {
		s.sampled.Log(level, message, run)
	}
}
