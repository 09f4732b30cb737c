package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
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
// that no scheduler was up for is said by the task's [Schedule]. A task that
// was never scheduled before starts with the next tick. On a broker without
// [broker.Schedules] two schedulers may queue a tick each, when its run is over
// before the second asks, and a tick missed is not made up for.
type Scheduler struct {
	broker  broker.Broker
	entries []*entry
	logger  *slog.Logger
}

// entry is one schedule and the last of its ticks that is dealt with.
type entry struct {
	spec  Spec
	task  *Task
	table timetable
	last  time.Time
}

const (
	maxSleep         = 30 * time.Second // the clock may jump meanwhile
	tickTimeout      = 10 * time.Second // of one request to the broker
	onTime           = time.Minute      // after its instant a tick counts as missed
	defaultMissedMax = 100
	emptyPayload     = "\x80" // an empty map: parameters have their defaults
)

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
	s := &Scheduler{broker: b, logger: cfg.Logger}
	for _, t := range tasks.list {
		table, err := t.spec.Schedule.timetable()
		if err != nil {
			return nil, fmt.Errorf("make a scheduler: schedule of task %s: %w", t.spec.Name, err)
		}
		if table != nil {
			s.entries = append(s.entries, &entry{spec: t.spec, task: t, table: table})
		}
	}
	return s, nil
}

// Run queues ticks until ctx ends and returns nil then. When the broker does
// not answer it tries again: what was missed meanwhile is dealt with as the
// task's schedule says.
func (s *Scheduler) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for _, e := range s.entries {
		loops.Go(func() { s.tickLoop(ctx, e) })
	}
	<-ctx.Done()
	loops.Wait()
	return nil
}

// tickLoop deals with one schedule. Each has a loop of its own, so that one
// slow queue delays no other task's ticks.
func (s *Scheduler) tickLoop(ctx context.Context, e *entry) {
	wait := newBackoff(100*time.Millisecond, 5*time.Second)
	for !s.try(ctx, e, wait, "begin the schedule", s.begin) {
		if ctx.Err() != nil {
			return
		}
	}
	for ctx.Err() == nil {
		now := time.Now()
		if due := e.due(now); len(due) == 0 {
			sleepUntil(ctx, e.wake(now))
			continue
		}
		s.try(ctx, e, wait, "queue a tick", s.queueDue)
	}
}

// try calls f with a bounded time, and after an error logs it and waits.
func (s *Scheduler) try(ctx context.Context, e *entry, wait *backoff, what string, f func(context.Context, *entry) error) bool {
	attempt, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	err := f(attempt, e)
	if err == nil {
		wait.reset()
		return true
	}
	if ctx.Err() == nil {
		s.logger.Warn("cannot "+what+", trying again", "task", e.spec.Name, "error", err)
		wait.sleep(ctx)
	}
	return false
}

// begin finds out up to where the ticks are dealt with.
func (s *Scheduler) begin(ctx context.Context, e *entry) error {
	e.last = time.Now()
	if schedules, ok := s.broker.(broker.Schedules); ok {
		last, err := schedules.LastTick(ctx, e.spec.Queue, e.spec.Name)
		if err != nil {
			return err
		}
		if !last.IsZero() {
			e.last = last
		}
	}
	if !e.spec.Schedule.Start {
		return nil
	}
	run := e.run(time.Now())
	run.ID = newID(run.QueuedAt)
	return s.broker.QueueTasks(ctx, run)
}

// queueDue queues the ticks that are due, those that nobody else has.
func (s *Scheduler) queueDue(ctx context.Context, e *entry) error {
	now := time.Now()
	due := e.due(now)
	for i, tick := range due {
		if e.skips(tick, now, i == len(due)-1) {
			e.last = tick
			continue
		}
		run := e.run(now)
		run.ID = e.spec.Name + "@" + tick.UTC().Format(time.RFC3339Nano)
		if err := s.queueTick(ctx, run, tick); err != nil && !errors.Is(err, ErrDuplicate) {
			return err
		}
		e.last = tick
	}
	return nil
}

func (s *Scheduler) queueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	var err error
	if schedules, ok := s.broker.(broker.Schedules); ok {
		err = schedules.QueueTick(ctx, run, tick)
	} else {
		run.OwnID = true // so that a second scheduler's is a duplicate while this one lives
		err = s.broker.QueueTasks(ctx, run)
	}
	if errors.Is(err, ErrNotReplicated) { // it is queued all the same
		s.logger.Warn("a tick is queued less safely than asked", "task", run.Task, "run", run.ID, "error", err)
		return nil
	}
	return err
}

// due returns the ticks after the last one that is dealt with whose time has
// come, the earliest first: all if missed ones are to run, else the latest.
func (e *entry) due(now time.Time) []time.Time {
	most := 1
	if e.spec.Schedule.Missed == MissedAll {
		most = e.spec.Schedule.MissedMax
		if most <= 0 {
			most = defaultMissedMax
		}
	}
	var ticks []time.Time
	tick, ok := e.table.latest(now)
	for ; ok && tick.After(e.last) && len(ticks) < most; tick, ok = e.table.latest(tick.Add(-1)) {
		if !e.at(tick).After(now) {
			ticks = append(ticks, tick)
		}
	}
	slices.Reverse(ticks)
	return ticks
}

// skips reports whether a due tick is one that was missed and does not run.
func (e *entry) skips(tick, now time.Time, latest bool) bool {
	return e.spec.Schedule.Missed == MissedSkip && (!latest || now.Sub(e.at(tick)) > onTime)
}

// at is when a tick's run is queued.
func (e *entry) at(tick time.Time) time.Time {
	return tick.Add(jitter(e.spec.Name, tick, e.spec.Schedule.Jitter))
}

// wake is when to look again if nothing is due now.
func (e *entry) wake(now time.Time) time.Time {
	wake := now.Add(maxSleep)
	earliest := now.Add(-e.spec.Schedule.Jitter) // ticks whose jitter is not over
	tick, ok := e.table.next(earliest.Add(-1))
	for ; ok && tick.Before(wake); tick, ok = e.table.next(tick) {
		if at := e.at(tick); at.After(now) && at.Before(wake) {
			wake = at
		}
	}
	return wake
}

func (e *entry) run(now time.Time) *broker.TaskRun {
	run := e.spec.newRun(now)
	run.Payload = []byte(emptyPayload)
	// Without a default for a parameter it ends as a schema failure anyway.
	_ = e.task.police(run)
	return run
}

// sleepUntil waits for an instant of the wall clock, for maxSleep at most, so
// that jumps of the clock and suspends are noticed.
func sleepUntil(ctx context.Context, t time.Time) {
	timer := time.NewTimer(min(time.Until(t.Round(0)), maxSleep))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
