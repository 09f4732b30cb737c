package tick

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

// Task is a task as its schedules know it.
type Task struct {
	Name  string
	Queue string
	Rule  Rule
	// NewRun makes the run of a tick, without an id. Its parameters have their
	// defaults.
	NewRun func(now time.Time) *broker.TaskRun
	// ApplyPolicies sets the policies of a run that has a payload.
	ApplyPolicies func(run *broker.TaskRun) error
}

// Scheduler queues the ticks of schedules. Its methods may be called concurrently,
// but for Run.
type Scheduler struct {
	broker   broker.Broker
	byName   map[string]*Task // aliases included
	logger   *slog.Logger
	clock    *clock
	restarts atomic.Int64
	watched  atomic.Int64                    // when the dynamic schedules were last known, Unix nanoseconds
	running  atomic.Pointer[context.Context] // of Run; nil: it does not run
	counts   counts

	mu    sync.Mutex
	loops []*queueLoop
}

// New returns a scheduler of the tasks that have a rule, and of the dynamic
// schedules of all tasks in byName. The error names the task whose rule is wrong.
func New(b broker.Broker, logger *slog.Logger, tasks []*Task, byName map[string]*Task) (*Scheduler, error) {
	s := &Scheduler{broker: b, byName: byName, logger: logger, clock: newClock(b, logger)}
	for _, t := range tasks {
		table, err := t.Rule.Timetable()
		if err != nil {
			return nil, fmt.Errorf("schedule of task %s: %w", t.Name, err)
		}
		if table == nil {
			continue
		}
		l := s.loop(t.Queue)
		l.setSchedules(append(l.schedules, &schedule{task: t, queue: t.Queue, rule: t.Rule, table: table}))
	}
	return s, nil
}

// loop returns the loop of a queue, which it makes if there is none.
func (s *Scheduler) loop(queue string) *queueLoop {
	for _, l := range s.loops {
		if l.queue == queue {
			return l
		}
	}
	l := &queueLoop{scheduler: s, queue: queue, wake: make(chan struct{}, 1), wait: backoff.New(100*time.Millisecond, 5*time.Second)}
	s.loops = append(s.loops, l)
	return l
}

// Run queues ticks until ctx ends. It retries what the broker does not answer, and
// restarts a loop that panics.
func (s *Scheduler) Run(ctx context.Context) {
	defer s.setRunning(ctx)()
	var loops sync.WaitGroup
	start := func(l *queueLoop) {
		l.succeeded()
		l.turn()
		loops.Go(func() { s.restart(ctx, "the ticks of queue "+l.queue, l.run) })
	}
	s.mu.Lock()
	for _, l := range s.loops {
		start(l)
	}
	s.mu.Unlock()
	if t, ok := s.broker.(broker.ScheduleStore); ok && len(s.byName) > 0 {
		s.watched.Store(time.Now().UnixNano())
		loops.Go(func() {
			s.restart(ctx, "schedules made at run time", func(ctx context.Context) { s.watchDynamic(ctx, t, start) })
		})
	}
	<-ctx.Done()
	loops.Wait()
}

// restart runs a loop, and again a little later whenever it panics.
func (s *Scheduler) restart(ctx context.Context, what string, loop func(context.Context)) {
	wait := backoff.New(100*time.Millisecond, 30*time.Second)
	for ctx.Err() == nil {
		err := guard(func() error { loop(ctx); return nil })
		if err != nil {
			s.restarts.Add(1)
			s.logger.Error("a loop of the scheduler panicked and starts again", "loop", what, "error", err, "stack", string(err.(*panicError).stack))
			wait.Sleep(ctx)
		}
	}
}

// Status is the state of a scheduler.
type Status struct {
	Schedules   int       // dynamic ones included
	LastSuccess time.Time // when the slowest loop last had nothing left to do; zero: there is no loop, or none has run
	Restarts    int       // of loops that panicked
}

// Status returns the scheduler's state.
func (s *Scheduler) Status() Status {
	status := Status{Restarts: int(s.restarts.Load())}
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := s.watched.Load() // 0: there is no such loop
	for _, l := range s.loops {
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

// panicError is a panic made into an error.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// guard makes a panic of f a *panicError.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f()
}
