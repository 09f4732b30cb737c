package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// SchedulerConfig tunes a scheduler; its zero value works.
type SchedulerConfig struct {
	// Logger receives what goes wrong. Defaults to slog's default logger.
	Logger *slog.Logger
}

// Scheduler queues the runs of periodic tasks. Any number may work on one
// broker: each tick is claimed by one of them, and none of them leads.
//
// A task that runs every d does so at the multiples of d since the Unix epoch,
// so that schedulers agree and restarts do not shift it. What becomes of ticks
// that no scheduler was up for is said by the task's [Timing]. A task that
// was never scheduled before starts with the next tick. On a broker without
// [broker.Ticks] two schedulers may queue a tick each, when its run is over
// before the second asks, and a tick missed is not made up for.
//
// A claim is of the task, the instant and its queue, whatever schedule named
// the instant, and is never of an instant before the last one claimed. So while
// two versions of a program are up that have different schedules for a task,
// the ticks of both are queued, and an instant that both name once; only a tick
// that one of them moves by jitter is left out when the other's next one comes
// first. A version that starts goes on from the last tick that any version
// claimed: what its own schedule names since then counts as missed. A schedule
// that a new version does not have ends with the last scheduler of an old one.
// A task that moves to another queue has no earlier ticks there.
//
// Schedules made at run time (see [ScheduleTask]) it reads from the broker, and
// looks after those of the tasks it knows, whatever their queue. What is changed
// or ended is so at once; what is new is noticed within some two seconds.
//
// While a task is disabled none of its ticks are queued. Once it is enabled they
// count as missed.
//
// Instants are those of the scheduler's own clock, which is read again at least
// every 30 seconds, and compared with that of a broker with [broker.Clock]. One that
// runs ahead by more than a minute claims no ticks of the future: it goes by the
// broker's. When clocks are put back no tick is repeated if at most two of a schedule
// have to pass until one comes that was not claimed; a schedule of which more would
// have to pass goes on at once, and says so in the log.
type Scheduler struct {
	broker   broker.Broker
	tasks    taskSet
	logger   *slog.Logger
	clock    *tickClock
	running  atomic.Bool
	restarts atomic.Int64
	watched  atomic.Int64 // when it was last known which schedules were made at run time, Unix nanoseconds

	mu    sync.Mutex
	lines []*line
}

// NewScheduler returns a scheduler of those of the given tasks that have a
// schedule.
func NewScheduler(b broker.Broker, cfg SchedulerConfig, sets ...[]Task) (*Scheduler, error) {
	if err := checkNotChild(); err != nil {
		return nil, fmt.Errorf("make a scheduler: %w", err)
	}
	tasks, err := newTaskSet(sets)
	if err != nil {
		return nil, fmt.Errorf("make a scheduler: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Scheduler{broker: b, tasks: tasks, logger: cfg.Logger, clock: newTickClock(b, cfg.Logger)}
	for _, t := range tasks.list {
		table, err := t.spec.Schedule.timetable()
		if err != nil {
			return nil, fmt.Errorf("make a scheduler: schedule of task %s: %w", t.spec.Name, err)
		}
		if table == nil {
			continue
		}
		e := &entry{spec: t.spec, task: t, table: table}
		if err := s.checkPolicies(e); err != nil {
			return nil, fmt.Errorf("make a scheduler: %w", err)
		}
		l := s.line(t.spec.Queue)
		l.setEntries(append(l.entries, e))
	}
	return s, nil
}

// line returns the line of a queue, which it makes if need be.
func (s *Scheduler) line(queue string) *line {
	for _, l := range s.lines {
		if l.queue == queue {
			return l
		}
	}
	l := &line{scheduler: s, queue: queue, wake: make(chan struct{}, 1), wait: newBackoff(100*time.Millisecond, 5*time.Second)}
	s.lines = append(s.lines, l)
	return l
}

// Run queues ticks until ctx ends and returns nil then. When the broker does
// not answer it tries again: what was missed meanwhile is dealt with as the
// task's schedule says.
func (s *Scheduler) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("run scheduler: it runs already")
	}
	defer s.running.Store(false)
	if !subprocess.InTest() { // as in Consumer.Run
		defer outliveReaders()()
	}
	var loops sync.WaitGroup
	start := func(l *line) {
		l.succeeded()
		loops.Go(func() { s.keepUp(ctx, "the ticks of queue "+l.queue, l.loop) })
	}
	s.mu.Lock()
	for _, l := range s.lines {
		start(l)
	}
	s.mu.Unlock()
	if t, ok := s.broker.(broker.ScheduleStore); ok && len(s.tasks.list) > 0 {
		s.watched.Store(time.Now().UnixNano())
		loops.Go(func() {
			s.keepUp(ctx, "schedules made at run time", func(ctx context.Context) { s.watchEntries(ctx, t, start) })
		})
	}
	<-ctx.Done()
	loops.Wait()
	return nil
}

// keepUp runs a loop, and again a little later whenever it panics.
func (s *Scheduler) keepUp(ctx context.Context, what string, loop func(context.Context)) {
	wait := newBackoff(100*time.Millisecond, 30*time.Second)
	for ctx.Err() == nil {
		err := guarded(func() error { loop(ctx); return nil })
		if err != nil {
			s.restarts.Add(1)
			s.logger.Error("a loop of the scheduler panicked and starts again", "loop", what, "error", err, "stack", string(err.(*panicError).stack))
			wait.sleep(ctx)
		}
	}
}

// guarded makes a panic of f a *panicError.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f()
}

// SchedulerStatus is what a scheduler tells of itself.
type SchedulerStatus struct {
	// Schedules is how many it looks after, those made at run time included.
	Schedules int
	// LastSuccess is when the slowest of its loops last did all there was to do,
	// which each does at least every 30 seconds; the zero time before Run, and
	// without schedules.
	LastSuccess time.Time
	// Restarts is how often a loop panicked and was started again.
	Restarts int
}

// Status tells how the scheduler is. It may be called at any time.
func (s *Scheduler) Status() SchedulerStatus {
	status := SchedulerStatus{Restarts: int(s.restarts.Load())}
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.watched.Load() // 0: there is no such loop
	for _, l := range s.lines {
		status.Schedules += int(l.size.Load())
		if at := l.success.Load(); oldest == 0 || at < oldest {
			oldest = at
		}
	}
	if oldest != 0 {
		status.LastSuccess = time.Unix(0, oldest)
	}
	return status
}
