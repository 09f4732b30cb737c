package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/sigpipe"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/tick"
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
	ticks   *tick.Scheduler
	running atomic.Bool
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
	own, byName := tickTasks(tasks)
	ticks, err := tick.New(b, cfg.Logger, own, byName)
	if err != nil {
		return nil, fmt.Errorf("make a scheduler: %w", err)
	}
	if err := checkTickPolicies(b, tasks); err != nil {
		return nil, fmt.Errorf("make a scheduler: %w", err)
	}
	return &Scheduler{ticks: ticks}, nil
}

// tickTasks returns the tasks as their schedules know them, in the order of their
// names, and by all their names.
func tickTasks(tasks taskSet) (list []*tick.Task, byName map[string]*tick.Task) {
	of := make(map[*Task]*tick.Task, len(tasks.list))
	for _, t := range tasks.list {
		of[t] = &tick.Task{Name: t.spec.Name, Queue: t.spec.Queue, Rule: t.spec.Schedule.rule(), NewRun: t.newTickRun, ApplyPolicies: t.applyPolicies}
		list = append(list, of[t])
	}
	byName = make(map[string]*tick.Task, len(tasks.byName))
	for name, t := range tasks.byName {
		byName[name] = of[t]
	}
	return list, byName
}

// rule returns the schedule as package tick has it. The values of Missed are the same.
func (s *Timing) rule() tick.Rule {
	return tick.Rule{
		Every: s.Every, Start: s.Start, Cron: s.Cron, Zone: s.Zone, Jitter: s.Jitter,
		Missed: tick.Missed(s.Missed), MissedMax: s.MissedMax, SkipOverlap: s.SkipOverlap,
	}
}

// newTickRun makes the run of a tick, without an id: its parameters have their
// defaults.
func (t *Task) newTickRun(now time.Time) *broker.TaskRun {
	const emptyMap = "\x80"
	run := &broker.TaskRun{Payload: []byte(emptyMap)}
	t.spec.initRun(run, now)
	_ = t.applyPolicies(run) // without a default for a parameter the run ends as a schema failure
	return run
}

// checkTickPolicies refuses scheduled tasks with policies that the broker does not
// keep.
func checkTickPolicies(b broker.Broker, tasks taskSet) error {
	policies := policiesOf(b)
	if policies == broker.AllPolicies {
		return nil
	}
	for _, t := range tasks.list {
		schedule := t.spec.Schedule
		if schedule.Every == 0 && schedule.Cron == "" {
			continue
		}
		if schedule.SkipOverlap && policies&broker.PolicyUnique == 0 {
			return fmt.Errorf("task %s has //task:overlap skip, which this broker does not keep; use one that has broker.Policies, such as the embedded one or Redis", t.spec.Name)
		}
		if err := refusePolicies(t.newTickRun(time.Now()), policies); err != nil {
			return err
		}
	}
	return nil
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
		defer sigpipe.Drop()()
	}
	s.ticks.Run(ctx)
	return nil
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

// Status returns the scheduler's state. It may be called at any time.
func (s *Scheduler) Status() SchedulerStatus { return SchedulerStatus(s.ticks.Status()) }

// Ticks returns the instants after t at which the task runs by its own directives, in
// their order and in the schedule's zone. Jitter is included. A task without a schedule
// has none. It returns an error if the schedule is wrong.
func (t Task) Ticks(after time.Time) (iter.Seq[time.Time], error) {
	rule := t.spec.Schedule.rule()
	table, err := rule.Timetable()
	if err != nil {
		return nil, fmt.Errorf("list ticks of task %s: %w", t.spec.Name, err)
	}
	return tickSeq(table, after, func(at time.Time) time.Time { return rule.At(t.spec.Name, at) }), nil
}
