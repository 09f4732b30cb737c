package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
// so that schedulers agree and restarts do not shift it. Of the ticks that no
// scheduler was up for, the latest is queued once.
type Scheduler struct {
	broker  broker.Broker
	entries []*entry
	logger  *slog.Logger
}

// entry is one schedule and the last of its ticks that is dealt with.
type entry struct {
	spec    Spec
	payload []byte
	last    time.Time
}

const (
	maxSleep     = 30 * time.Second // the clock may jump meanwhile
	tickTimeout  = 10 * time.Second // of one request to the broker
	emptyPayload = "\x80"           // an empty map: scheduled tasks have no parameters
)

// NewScheduler returns a scheduler of those of the given tasks that have a
// schedule.
func NewScheduler(b broker.Broker, cfg SchedulerConfig, sets ...[]Task) (*Scheduler, error) {
	tasks, err := newTaskSet(sets)
	if err != nil {
		return nil, fmt.Errorf("make a scheduler: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Scheduler{broker: b, logger: cfg.Logger}
	for _, t := range tasks.list {
		if t.spec.Schedule.Every < 0 {
			return nil, fmt.Errorf("make a scheduler: task %s runs every %s, which is negative", t.spec.Name, t.spec.Schedule.Every)
		}
		if t.spec.Schedule.Every > 0 {
			s.entries = append(s.entries, &entry{spec: t.spec, payload: []byte(emptyPayload)})
		}
	}
	return s, nil
}

// Run queues ticks until ctx ends and returns nil then. When the broker does
// not answer it tries again: what was missed meanwhile follows the rule for
// missed ticks.
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
		if tick := e.tick(now); !tick.After(e.last) {
			sleepUntil(ctx, tick.Add(e.spec.Schedule.Every))
			continue
		}
		s.try(ctx, e, wait, "queue a tick", s.queueTick)
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

// tick is the latest instant at or before now that the schedule names.
func (e *entry) tick(now time.Time) time.Time {
	every := int64(e.spec.Schedule.Every)
	return time.Unix(0, now.UnixNano()/every*every).UTC()
}

// begin finds out up to where the ticks are dealt with. A task that was never
// scheduled starts with the next one.
func (s *Scheduler) begin(ctx context.Context, e *entry) error {
	e.last = e.tick(time.Now())
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
	run.RootID = run.ID
	return s.broker.QueueTasks(ctx, run)
}

// queueTick queues the latest tick, unless someone else has.
func (s *Scheduler) queueTick(ctx context.Context, e *entry) error {
	now := time.Now()
	tick := e.tick(now)
	run := e.run(now)
	run.ID = e.spec.Name + "@" + tick.Format(time.RFC3339Nano)
	run.RootID = run.ID
	var err error
	if schedules, ok := s.broker.(broker.Schedules); ok {
		err = schedules.QueueTick(ctx, run, tick)
	} else {
		run.OwnID = true // so that a second scheduler's is a duplicate while this one waits
		err = s.broker.QueueTasks(ctx, run)
	}
	if err != nil && !errors.Is(err, ErrDuplicate) {
		return err
	}
	e.last = tick
	return nil
}

func (e *entry) run(now time.Time) *broker.TaskRun {
	run := e.spec.newRun(now)
	run.Payload = e.payload
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
