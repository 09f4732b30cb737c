package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/instance"
	"github.com/taskgen/taskgen/internal/risks"
	"github.com/taskgen/taskgen/internal/sigpipe"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/tick"
)

// SchedulerConfig tunes a scheduler. Its zero value works.
type SchedulerConfig struct {
	// Logger receives what goes wrong. Defaults to slog's default logger.
	Logger *slog.Logger
	// Address and Version are as those of [ConsumerConfig].
	Address string
	Version string
}

// Scheduler queues the runs of tasks with a schedule. Any number of schedulers may work on
// one broker: one of them claims each tick, and none leads.
//
// A task that runs every d runs at the multiples of d since the Unix epoch, so schedulers
// agree, and restarts shift nothing. The task's [Timing] says what happens to missed ticks,
// for which no scheduler was up. A task that was never scheduled before starts with the
// next tick. On a broker without [broker.Ticks] two schedulers may both queue a tick, and
// missed ticks are lost.
//
// A claim is for a task, a queue and an instant, and never for an instant before the last
// one claimed. It follows that
//
//   - while two versions of a program have different schedules for a task, the ticks of
//     both are queued, and an instant of both once. A tick that jitter moves behind the
//     other version's next tick is skipped.
//   - a version that starts goes on from the last tick that any version claimed. Ticks of
//     its own schedule since then count as missed.
//   - a schedule that a new version does not have ends with the last scheduler of an old
//     version.
//   - a task that moves to another queue has no earlier ticks there.
//
// A scheduler reads schedules made at run time, see [Schedule], from the broker, and
// queues the ticks of those whose tasks it has, in every queue. Changes and ends hold at
// once. A new schedule is noticed within two seconds.
//
// The ticks of a disabled task are not queued. Once the task is enabled they count as
// missed.
//
// A scheduler goes by its own clock, which it reads at least every 30 seconds and compares
// with the clock of a broker that is a [broker.Clock]. If its clock is ahead by more than
// a minute, it goes by the broker's.
//
// If clocks are put back, ticks come again that were claimed before. The scheduler passes over
// them, so that no tick is repeated, but over two of a schedule at most. If there are more,
// the schedule goes on at once, and the scheduler logs that.
type Scheduler struct {
	broker  broker.Broker
	cfg     SchedulerConfig
	ticks   *tick.Scheduler
	running atomic.Bool
	scrapes instance.Scrapes
}

// NewScheduler returns a scheduler of those of the given tasks that have a schedule, and of
// the schedules made at run time for any of them. The error names what is wrong: two tasks
// of one name, a schedule, or a policy that the broker does not have.
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
	return &Scheduler{broker: b, cfg: cfg, ticks: ticks}, nil
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

// Run queues ticks and blocks until ctx ends. It then returns nil. If the broker does not
// answer it retries, and ticks of that time count as missed. It returns an error if the
// scheduler runs already.
func (s *Scheduler) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("run scheduler: it runs already")
	}
	defer s.running.Store(false)
	if !subprocess.InTest() { // as in Consumer.Run
		defer sigpipe.Drop()()
	}
	var loops sync.WaitGroup
	withdraw := s.announce(ctx, &loops)
	s.ticks.Run(ctx)
	withdraw()
	loops.Wait()
	return nil
}

// SchedulerStatus is the state of a scheduler.
type SchedulerStatus struct {
	// Schedules is how many schedules it has, those made at run time included.
	Schedules int
	// LastSuccess is when the slowest of its loops, one a queue, last queued all that
	// was due. Each does so at least every 30 seconds. It is the zero time before Run,
	// and without schedules.
	LastSuccess time.Time
	// Restarts is how often a loop panicked and was restarted.
	Restarts int
}

// Status returns the scheduler's state. It does not block, and may be called concurrently.
func (s *Scheduler) Status() SchedulerStatus { return SchedulerStatus(s.ticks.Status()) }

// Ticks returns the instants later than after at which the task runs by its own
// directives, in order and in the schedule's zone, jitter included. A task without a
// schedule has none. It returns an error if the schedule is wrong.
func (t Task) Ticks(after time.Time) (iter.Seq[time.Time], error) {
	rule := t.spec.Schedule.rule()
	table, err := rule.Timetable()
	if err != nil {
		return nil, fmt.Errorf("list ticks of task %s: %w", t.spec.Name, err)
	}
	return tickSeq(table, after, func(at time.Time) time.Time { return rule.At(t.spec.Name, at) }), nil
}

// WatchRisks logs each risk of the broker's server that appears after the call, see
// [broker.RiskReporter], and logs when a risk has gone. It does not log that the server
// cannot be reached. It blocks until ctx ends. If the broker is no RiskReporter, it
// returns at once.
//
// [Consumer.Run] does the same. Call WatchRisks in a process that has only a scheduler.
func WatchRisks(ctx context.Context, b broker.Broker, logger *slog.Logger) {
	risks.Watch(ctx, b, risks.Every, logger)
}
