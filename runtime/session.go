package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	goruntime "runtime"
	"sync"
	"sync/atomic"
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
	core     bool // the broker has only three methods: what was taken is gone from it
	pool     *subprocess.Pool
	base     context.Context // of all runs
	starting context.Context // ends when no more runs are to start
	offers   offers          // to all runs
	outcomes outbox
	finished chan struct{} // closed by finishLoop: the last outcome was applied
	handlers sync.WaitGroup
	backMu   sync.Mutex
	back     map[*broker.TaskRun]bool // which went back as the lease was lost
	answered chan struct{}            // closed when the broker has answered again since the lease was lost
	trust    trust

	unrecorded int          // outcomes that finishLoop gave up, to be read when it has finished
	why        error        // of the last of these
	unfinished atomic.Int64 // runs that go on although the lease was lost
	unstarted  atomic.Int64 // runs that were taken and went back at the end
	cancelled  atomic.Int64 // runs that were interrupted by the stop, and handed back

	lookedForOther time.Time                          // the taker's own
	settledInVain  bool                               // the taker waited for room for both kinds lately, and there came none
	roomy          chan struct{}                      // has a token when a lane has told of room
	onRoom         atomic.Pointer[context.CancelFunc] // ends the taker's request for runs

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
	var lost *session
	for {
		lease, joined, err := c.join(ctx, limit)
		if lost != nil {
			lost.tellSurvived(ctx, c.cfg.Lease/4) // before it is asked for runs
			close(lost.answered)
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
			finished: make(chan struct{}),
			answered: make(chan struct{}),
			roomy:    make(chan struct{}, 1),

			lookedForOther: time.Now(),
		}
		_, s.core = lease.(coreSession)
		s.outcomes.init(4*(c.cfg.Concurrency+c.cfg.Processes+longestAhead), func(q *outgoing) { s.finishQueue(finishing, q) }, s.askAgain)
		loops.Go(func() { s.renewLoop(trust, joined) })
		loops.Go(s.finishLoop)
		loops.Go(func() { s.attendLoop(trust) })
		s.takeLoop()
		if ctx.Err() != nil {
			return s.stop(ctx, time.Until(stopping().Add(c.cfg.Grace)))
		}
		c.logger.Error("lease lost: running tasks were cancelled, joining the broker again", "session", lease.ID(), "error", context.Cause(trust))
		loops.Go(func() { s.windUp(ctx) })
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

// join opens a session and tells from when on its lease counts. It retries
// until ctx ends, when it returns nil, or until limit, unless that is zero.
func (c *Consumer) join(ctx context.Context, limit time.Time) (broker.Session, time.Time, error) {
	leaser, ok := c.broker.(broker.Leaser)
	if !ok {
		return coreSession{c.broker, c.kinds}, time.Now(), nil
	}
	for wait := newBackoff(100*time.Millisecond, 5*time.Second); ; {
		attempt, cancel := context.WithTimeout(ctx, joinTimeout)
		joined := time.Now()
		lease, err := leaser.OpenSession(attempt, c.cfg.Lease)
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
	level := s.tellStop(grace)
	if !within(done, grace) {
		s.logger.Warn("grace time over, cancelling the running tasks", "running", s.busy())
		s.halt(errStopping)
		if !within(done, stopTimeout*5/8) {
			err = fmt.Errorf("tasks that ignored the end of their contexts go on unsupervised: %s", count(s.busy(), "run"))
		}
	}
	s.outcomes.close()
	if !within(s.finished, stopTimeout/8) {
		s.abandon()
		<-s.finished
	}
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/4)
	defer cancel()
	s.tellLast(leaving)
	leaveErr := s.leave(leaving)
	switch {
	case s.open() > 0:
		err = errors.Join(err, s.errOpen())
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

// tellStop logs what a stop waits for, and returns how much that is of interest:
// not to an application that has nothing left to do.
func (s *session) tellStop(grace time.Duration) slog.Level {
	n := s.busy()
	if n == 0 && s.unstarted.Load() == 0 {
		return slog.LevelDebug
	}
	message := "stopping: no task is running"
	if n > 0 {
		grace = max(grace, 0)
		message = fmt.Sprintf("stopping: waiting up to %s for %s", roundForPeople(grace), count(n, "running task"))
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

// open is how many runs have started and are not known to the broker to have
// ended, when all loops have.
func (s *session) open() int { return s.unrecorded + int(s.unfinished.Load()) }

// errOpen says what becomes of them.
func (s *session) errOpen() error {
	why, next := s.why, "they may start again when the lease ends"
	if why == nil {
		why = errLeaseLost
	}
	if s.core {
		next = "this broker has no leases, so those that were to start again are lost"
	}
	return fmt.Errorf("record what became of %s: %w; %s", count(s.open(), "run"), why, next)
}

// leave gives back what is held, unless runs are open: to give these back would
// take their delivery back. The end of the lease gives them to another consumer
// and counts it.
func (s *session) leave(ctx context.Context) error {
	if s.open() > 0 {
		return nil
	}
	return s.lease.Close(ctx)
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

// takeLoop asks for runs as long as there is room and has them executed, until no
// more are to start. Those that have not started then go back.
func (s *session) takeLoop() {
	ctx := s.starting
	for wait := newBackoff(100*time.Millisecond, 5*time.Second); ctx.Err() == nil; {
		runs, err := s.take(ctx)
		s.begin(runs)
		goruntime.Gosched() // the runs first, then the request for more
		switch {
		case err == nil:
			wait.reset()
		case ctx.Err() == nil:
			s.logger.Warn("cannot take runs from the broker, trying again", "error", err)
			wait.sleep(ctx)
		}
	}
	for _, l := range s.lanes {
		runs := l.takeBack(s)
		s.unstarted.Add(int64(len(runs)))
		s.giveBack(runs)
	}
}

// begin has the runs executed that were taken.
func (s *session) begin(runs []*broker.TaskRun) {
	var jobs [2][]job
	for _, run := range runs {
		if run.Kind != IO && run.Kind != CPU { // not of a broker that keeps the contract
			s.finish(s.dead(run, broker.Failure{Kind: Schema, Message: fmt.Sprintf("the run is of kind %d, which there is not", run.Kind)}))
			continue
		}
		if jobs[run.Kind] == nil {
			jobs[run.Kind] = make([]job, 0, len(runs))
		}
		jobs[run.Kind] = append(jobs[run.Kind], job{run, s})
	}
	for kind, l := range s.lanes {
		if len(jobs[kind]) > 0 {
			l.put(jobs[kind])
		}
	}
}

// otherKindEvery is how often a consumer whose tasks are all of one kind looks
// for runs of the other: those queued before a task's kind was changed.
const otherKindEvery = 10 * time.Second

// take waits for room and then for runs. While only one kind has room it asks
// for that kind, until there is room for the other.
func (s *session) take(ctx context.Context) ([]*broker.TaskRun, error) {
	want, ok := s.room(ctx)
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !s.kinds[IO] || !s.kinds[CPU] {
		ctx, cancel = context.WithTimeout(ctx, otherKindEvery)
		defer cancel()
		s.otherKind(&want)
	}
	slotless := func(kind Kind, n, ahead int) bool {
		return s.kinds[kind] && (n == 0 || s.limited[kind] && n == ahead)
	}
	if slotless(IO, want.IO, want.PrefetchIO) || slotless(CPU, want.CPU, want.PrefetchCPU) {
		s.onRoom.Store(&cancel)
		defer s.onRoom.Store(nil)
		select {
		case <-s.roomy: // it came between looking and asking
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
		s.retake.Store(&forget)
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

// settle is how long the taker waits for room for one kind before it asks for
// runs of the other alone: short runs make room in that time, and one request
// then serves both kinds. Once that was in vain it does not wait again until
// there has been room for all: io tasks are not to wait at each CPU-bound run
// that takes long.
const settle = 20 * time.Millisecond

// room blocks until there is room, for all kinds of the consumer's tasks if
// that does not take long. It reports false when ctx ends first.
func (s *session) room(ctx context.Context) (want broker.Want, ok bool) {
	var settled <-chan time.Time
	for patient := !s.settledInVain; ; {
		if s.core && !s.startedAll(ctx) {
			return want, false
		}
		now := time.Now()
		want.IO, want.PrefetchIO = s.lanes[IO].wanted(now, s.limited[IO], s.noteRoom)
		want.CPU, want.PrefetchCPU = s.lanes[CPU].wanted(now, s.limited[CPU], s.noteRoom)
		io, cpu := want.IO > 0, want.CPU > 0
		all := (io || !s.kinds[IO]) && (cpu || !s.kinds[CPU])
		some := io && s.kinds[IO] || cpu && s.kinds[CPU]
		if some && (all || !patient) {
			s.settledInVain = !all
			return want, true
		}
		if some && settled == nil {
			timer := time.NewTimer(settle)
			defer timer.Stop()
			settled = timer.C
		}
		select {
		case <-s.roomy:
		case <-settled:
			patient = false
		case <-ctx.Done():
			return want, false
		}
	}
}

// startedAll waits until every run that was taken has started: what a broker of
// three methods handed out is lost with this process. It reports false when ctx
// ends first.
func (s *session) startedAll(ctx context.Context) bool {
	for s.lanes[IO].unstarted(s.noteRoom)+s.lanes[CPU].unstarted(s.noteRoom) > 0 {
		select {
		case <-s.roomy:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// noteRoom wakes the taker, whether it waits for room or for runs of a kind.
func (s *session) noteRoom() {
	select {
	case s.roomy <- struct{}{}:
	default:
	}
	if cancel := s.onRoom.Load(); cancel != nil {
		(*cancel)()
	}
}

// otherKind leaves out the kind that none of the tasks has, but for one run now
// and then.
func (s *session) otherKind(want *broker.Want) {
	other := 0
	if time.Since(s.lookedForOther) >= otherKindEvery {
		s.lookedForOther = time.Now()
		other = 1
	}
	if !s.kinds[IO] {
		want.IO, want.PrefetchIO = min(want.IO-want.PrefetchIO, other), 0
	}
	if !s.kinds[CPU] {
		want.CPU, want.PrefetchCPU = min(want.CPU-want.PrefetchCPU, other), 0
	}
}

// backoff is an exponential wait with jitter between tries at the broker.
type backoff struct{ min, max, next time.Duration }

func newBackoff(minimum, maximum time.Duration) *backoff {
	return &backoff{min: minimum, max: maximum, next: minimum}
}

func (b *backoff) reset() { b.next = b.min }

// draw returns between half and the whole of the current wait; the next one is
// twice as long.
func (b *backoff) draw() time.Duration {
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.max)
	return d
}

// sleep waits for as long as draw says, less if ctx ends.
func (b *backoff) sleep(ctx context.Context) {
	timer := time.NewTimer(b.draw())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// logFenced reports outcomes that came too late to count. After a try whose
// reply was lost they may be those that the try applied.
func (s *session) logFenced(fenced []*broker.TaskRun, again bool) {
	level, message := slog.LevelWarn, "outcome of the run was not applied: its lease was lost, or the broker had it from a try whose reply was lost"
	if again {
		level, message = slog.LevelDebug, "outcome of the run was recorded by an earlier try, or its lease was lost"
	}
	s.recovered(fenced)
	for _, run := range fenced {
		s.notices.say(level, message, run)
	}
}
