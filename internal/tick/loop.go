package tick

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
	"github.com/taskgen/taskgen/internal/ulid"
)

// queueLoop queues the ticks of one queue's schedules.
type queueLoop struct {
	scheduler  *Scheduler
	queue      string
	schedules  []*schedule
	heap       tickHeap         // the schedules that are not being processed
	failing    int              // the number of schedules whose last try failed
	wait       *backoff.Backoff // between tries while all fail
	logAgainAt time.Time        // failures are not logged before
	unreadable map[string]error // by id: dynamic schedules that cannot be read, logged already

	mu        sync.Mutex
	latest    []*broker.Schedule // all dynamic schedules
	hasUpdate bool               // latest is not applied yet
	wake      chan struct{}      // has a value when there is an update

	size    atomic.Int64 // the number of schedules
	success atomic.Int64 // when there was last nothing left to do, Unix nanoseconds
	turned  atomic.Int64 // when the loop last went on, Unix nanoseconds
}

const (
	maxSleep    = 30 * time.Second // the clock may jump while a loop sleeps
	tickTimeout = 10 * time.Second // of the requests for one schedule
	maxAtOnce   = 128              // schedules of a queue that are processed concurrently
	logEvery    = 30 * time.Second // failures are logged at most so often
)

// setSchedules replaces the loop's schedules.
func (l *queueLoop) setSchedules(all []*schedule) {
	l.schedules, l.heap = all, slices.Clone(all)
	heap.Init(&l.heap)
	l.failing = failing(all)
	l.size.Store(int64(len(all)))
}

func (l *queueLoop) succeeded() { l.success.Store(time.Now().UnixNano()) }
func (l *queueLoop) turn()      { l.turned.Store(time.Now().UnixNano()) }

// run queues due ticks until ctx ends.
func (l *queueLoop) run(ctx context.Context) {
	l.setSchedules(l.schedules)
	clock, before, lead := l.scheduler.clock, time.Time{}, time.Duration(0)
	for ctx.Err() == nil {
		l.turn()
		l.applyUpdate()
		asking, cancel := context.WithTimeout(ctx, tickTimeout)
		_ = clock.compare(asking) // process repeats it for each schedule
		cancel()
		now := clock.wall().Round(0) // without the monotonic part, which hides jumps of the clock
		if now.Before(before.Add(-time.Second)) || clock.lead() != 0 != (lead != 0) {
			l.wakeAll(now)
		}
		before, lead = now, clock.lead()
		due := l.heap.take(now)
		if len(due) == 0 {
			if l.failing == 0 {
				l.succeeded()
			}
			sleepFor(ctx, l.nextWake(now).Sub(now), l.wake)
			continue
		}
		l.processAll(ctx, due, now)
	}
}

func (l *queueLoop) nextWake(now time.Time) time.Time {
	if len(l.heap) == 0 {
		return now.Add(maxSleep)
	}
	return l.heap[0].wake
}

// processAll processes schedules, at most maxAtOnce concurrently. If the first
// maxAtOnce all fail, it leaves the rest for later: the broker is likely out of
// reach.
func (l *queueLoop) processAll(ctx context.Context, due []*schedule, now time.Time) {
	l.failing -= failing(due)
	var done, failures, next atomic.Int64
	var first struct {
		sync.Mutex
		schedule *schedule
		err      error
	}
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(due)); i = next.Add(1) - 1 {
			s := due[i]
			if ctx.Err() != nil || done.Load() == 0 && failures.Load() >= maxAtOnce {
				return // the schedule stays due
			}
			err := l.process(ctx, s)
			l.turn()
			shift := l.scheduler.clock.shift(s)
			s.setWake(now.Add(-shift), err)
			s.wake = s.wake.Add(shift)
			if err == nil {
				done.Add(1)
				continue
			}
			failures.Add(1)
			l.scheduler.counts.add(s, failed, 1)
			first.Lock()
			if first.schedule == nil {
				first.schedule, first.err = s, err
			}
			first.Unlock()
		}
	}
	var others sync.WaitGroup
	for range min(len(due), maxAtOnce) - 1 {
		others.Go(work)
	}
	work() // usually there is one schedule, which needs no goroutine
	others.Wait()
	for _, s := range due {
		if !s.changed {
			heap.Push(&l.heap, s)
		}
	}
	l.failing += failing(due)
	switch {
	case ctx.Err() != nil:
	case first.schedule == nil:
		l.wait.Reset()
	default:
		l.logFailure(first.schedule, first.err, int(failures.Load()))
		if done.Load() == 0 && len(due) > 1 {
			l.wait.Sleep(ctx)
		}
	}
}

func failing(schedules []*schedule) (n int) {
	for _, s := range schedules {
		if s.retry != nil {
			n++
		}
	}
	return n
}

// logFailure logs the first failure of several, at most every logEvery.
func (l *queueLoop) logFailure(s *schedule, err error, failed int) {
	if now := time.Now(); now.After(l.logAgainAt) {
		l.logAgainAt = now.Add(logEvery)
		l.scheduler.logger.Warn("cannot queue ticks, trying again", "queue", l.queue, "schedules", failed, "task", s.task.Name, "error", err)
	}
}

// process claims and queues the due ticks of a schedule.
func (l *queueLoop) process(ctx context.Context, s *schedule) error {
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	return guard(func() error {
		if err := l.scheduler.clock.compare(ctx); err != nil {
			return err
		}
		if !s.begun {
			if err := l.begin(ctx, s); err != nil {
				return err
			}
			s.begun = true
		}
		return l.queueDue(ctx, s)
	})
}

// begin reads up to which tick the schedule is processed, and queues the run of the
// scheduler's start.
func (l *queueLoop) begin(ctx context.Context, s *schedule) error {
	if s.last.IsZero() {
		s.last = l.scheduler.clock.of(s)
	}
	if ticks, ok := l.scheduler.broker.(broker.Ticks); ok {
		last, err := ticks.BeginTicks(ctx, s.queue, s.task.Name, s.last)
		if err != nil {
			return err
		}
		s.last = last
	}
	if !s.rule.Start {
		return nil
	}
	run := s.run(l.scheduler.clock.of(s))
	if s.start == "" {
		s.start = ulid.New(run.QueuedAt)
	}
	run.ID, run.OwnID = s.start, true // the same id when it is tried again
	err := l.scheduler.broker.QueueTasks(ctx, run)
	if errors.Is(err, broker.ErrNotReplicated) || errors.Is(err, broker.ErrDuplicate) {
		return nil
	}
	return err
}

// queueDue queues the due ticks that no other scheduler has claimed.
func (l *queueLoop) queueDue(ctx context.Context, s *schedule) error {
	now := l.scheduler.clock.of(s)
	if err := l.resume(ctx, s, now); err != nil {
		return err
	}
	now = l.scheduler.clock.of(s)
	due := s.due(now)
	if len(due) > 0 && !s.disabled {
		l.countMissed(s, due[0])
	}
	for i, tick := range due {
		if s.skips(tick, now, i == len(due)-1) {
			l.scheduler.counts.add(s, missed, 1)
		} else if ok, err := l.queueTick(ctx, s, tick, now); !ok {
			return err
		}
		s.last = tick
	}
	return nil
}

// queueTick queues a tick, unless another scheduler has claimed it. It returns false
// if the tick cannot be claimed for now: its task is disabled, its schedule has
// changed, or the broker failed.
func (l *queueLoop) queueTick(ctx context.Context, s *schedule, tick, now time.Time) (bool, error) {
	run := s.run(now)
	run.ID = s.name() + "@" + tick.UTC().Format(time.RFC3339Nano)
	err := l.send(ctx, s, run, tick)
	logger, counts := l.scheduler.logger, &l.scheduler.counts
	if s.disabled != errors.Is(err, broker.ErrDisabled) {
		s.disabled = !s.disabled
		logger.Info("the task of a schedule was disabled or enabled", "task", run.Task, "disabled", s.disabled)
	}
	var overlap *broker.DuplicateError
	switch {
	case s.disabled:
		return false, nil
	case errors.Is(err, broker.ErrNoSchedule):
		s.changed = true // the next update has what it is now
		return false, nil
	case errors.As(err, &overlap) && len(overlap.Runs) > 0:
		logger.Debug("a tick is left out: the run of an earlier one lives", "task", run.Task, "tick", run.ID, "run", overlap.Runs[0].ID)
		counts.add(s, overlapped, 1)
		s.others = 0
		return true, nil
	case errors.Is(err, broker.ErrDuplicate):
		s.others++
		counts.add(s, claimed, 1)
		return true, nil
	case errors.Is(err, broker.ErrNotReplicated): // the tick is queued
		logger.Warn("a tick is queued less safely than asked", "task", run.Task, "run", run.ID, "error", err)
	case err != nil:
		return false, err
	}
	s.others = 0
	counts.add(s, queued, 1)
	counts.lag.Observe(now.Sub(s.at(tick)))
	return true, nil
}

func (l *queueLoop) send(ctx context.Context, s *schedule, run *broker.TaskRun, tick time.Time) error {
	if s.dynamic != nil {
		return l.scheduler.broker.(broker.ScheduleStore).QueueScheduleTick(ctx, s.dynamic, run, tick)
	}
	if ticks, ok := l.scheduler.broker.(broker.Ticks); ok {
		return ticks.QueueTick(ctx, run, tick)
	}
	run.OwnID = true // so that another scheduler's run of this tick is a duplicate while this one lives
	return l.scheduler.broker.QueueTasks(ctx, run)
}

// wakeAll makes all schedules be processed now: a clock has jumped.
func (l *queueLoop) wakeAll(now time.Time) {
	for _, s := range l.heap {
		s.wake = now
	}
	heap.Init(&l.heap)
}

// sleepFor blocks for d, at most maxSleep, or until wake has a value or ctx ends. The
// bound limits how late a jump of the clock or a suspend is noticed.
func sleepFor(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(min(d, maxSleep))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}
