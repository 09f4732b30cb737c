package runtime

import (
	"container/heap"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// line is the schedules of one queue, which one loop deals with, so that a
// queue that is slow delays no other's ticks.
type line struct {
	scheduler *Scheduler
	queue     string
	entries   []*entry
	agenda    agenda           // of the entries that are not dealt with just now
	failing   int              // schedules whose last try failed
	wait      *backoff         // while nothing works
	quiet     time.Time        // until when failures are not logged
	odd       map[string]error // schedules that cannot be read, which were logged

	mu      sync.Mutex
	offered []*broker.Schedule // all that were made at run time
	news    bool               // they were offered and not accepted
	wake    chan struct{}      // has a value when there is news

	size    atomic.Int64 // schedules
	success atomic.Int64 // when all was last done that was to do, Unix nanoseconds
}

const (
	maxSleep    = 30 * time.Second // the clock may jump meanwhile
	tickTimeout = 10 * time.Second // of the requests for one schedule
	maxAtOnce   = 128              // schedules of a queue that are dealt with at once
	quietFor    = 30 * time.Second // between two lines of log about what does not work
)

// setEntries has the loop deal with these.
func (l *line) setEntries(entries []*entry) {
	l.entries, l.agenda = entries, slices.Clone(entries)
	heap.Init(&l.agenda)
	l.failing = failing(entries)
	l.size.Store(int64(len(entries)))
}

func (l *line) succeeded() { l.success.Store(time.Now().UnixNano()) }

// loop deals with what is due until ctx ends.
func (l *line) loop(ctx context.Context) {
	l.setEntries(l.entries)
	clock, before, lead := l.scheduler.clock, time.Time{}, time.Duration(0)
	for ctx.Err() == nil {
		l.accept()
		asking, cancel := context.WithTimeout(ctx, tickTimeout)
		_ = clock.compare(asking) // what cannot be asked yet is asked again for each schedule
		cancel()
		now := clock.wall().Round(0) // by the wall's clock, to notice when it jumps
		if now.Before(before.Add(-time.Second)) || clock.lead() != 0 != (lead != 0) {
			l.wakeAll(now)
		}
		before, lead = now, clock.lead()
		due := l.agenda.take(now)
		if len(due) == 0 {
			if l.failing == 0 {
				l.succeeded()
			}
			sleepFor(ctx, l.nextWake(now).Sub(now), l.wake)
			continue
		}
		l.dealWith(ctx, due, now)
	}
}

func (l *line) nextWake(now time.Time) time.Time {
	if len(l.agenda) == 0 {
		return now.Add(maxSleep)
	}
	return l.agenda[0].wake
}

// dealWith deals with entries, a bounded number at once. When none of those
// tried works, it leaves the rest and waits: the broker is likely out of reach.
func (l *line) dealWith(ctx context.Context, due []*entry, now time.Time) {
	l.failing -= failing(due)
	var done, failed, next atomic.Int64
	var first struct {
		sync.Mutex
		entry *entry
		err   error
	}
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(due)); i = next.Add(1) - 1 {
			e := due[i]
			if ctx.Err() != nil || done.Load() == 0 && failed.Load() >= maxAtOnce {
				return // it is still due
			}
			err := l.deal(ctx, e)
			shift := l.scheduler.clock.shift(e)
			e.plan(now.Add(-shift), err)
			e.wake = e.wake.Add(shift)
			if err == nil {
				done.Add(1)
				continue
			}
			failed.Add(1)
			first.Lock()
			if first.entry == nil {
				first.entry, first.err = e, err
			}
			first.Unlock()
		}
	}
	var others sync.WaitGroup
	for range min(len(due), maxAtOnce) - 1 {
		others.Go(work)
	}
	work() // most often there is one entry, which needs no goroutine
	others.Wait()
	for _, e := range due {
		if !e.gone {
			heap.Push(&l.agenda, e)
		}
	}
	l.failing += failing(due)
	switch {
	case ctx.Err() != nil:
	case first.entry == nil:
		l.wait.reset()
	default:
		l.logFailure(first.entry, first.err, int(failed.Load()))
		if done.Load() == 0 && len(due) > 1 {
			l.wait.sleep(ctx)
		}
	}
}

func failing(entries []*entry) (n int) {
	for _, e := range entries {
		if e.retry != nil {
			n++
		}
	}
	return n
}

// logFailure reports what does not work, and not again for a while.
func (l *line) logFailure(e *entry, err error, failed int) {
	if now := time.Now(); now.After(l.quiet) {
		l.quiet = now.Add(quietFor)
		l.scheduler.logger.Warn("cannot queue ticks, trying again", "queue", l.queue, "schedules", failed, "task", e.spec.Name, "error", err)
	}
}

// deal does all that is to do for an entry now.
func (l *line) deal(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	return guarded(func() error {
		if err := l.scheduler.clock.compare(ctx); err != nil {
			return err
		}
		if !e.begun {
			if err := l.begin(ctx, e); err != nil {
				return err
			}
			e.begun = true
		}
		return l.queueDue(ctx, e)
	})
}

// begin finds out up to where the ticks are dealt with.
func (l *line) begin(ctx context.Context, e *entry) error {
	if e.last.IsZero() {
		e.last = l.scheduler.clock.of(e)
	}
	if schedules, ok := l.scheduler.broker.(broker.Ticks); ok {
		last, err := schedules.BeginTicks(ctx, e.spec.Queue, e.spec.Name, e.last)
		if err != nil {
			return err
		}
		e.last = last
	}
	if !e.spec.Schedule.Start {
		return nil
	}
	run := e.run(l.scheduler.clock.of(e))
	if e.start == "" {
		e.start = newID(run.QueuedAt)
	}
	run.ID, run.OwnID = e.start, true // it may have to be tried again
	err := l.scheduler.broker.QueueTasks(ctx, run)
	if errors.Is(err, ErrNotReplicated) || errors.Is(err, ErrDuplicate) {
		return nil
	}
	return err
}

// queueDue queues the ticks that are due, those that nobody else has.
func (l *line) queueDue(ctx context.Context, e *entry) error {
	now := l.scheduler.clock.of(e)
	if err := l.resume(ctx, e, now); err != nil {
		return err
	}
	now = l.scheduler.clock.of(e)
	due := e.due(now)
	for i, tick := range due {
		if !e.skips(tick, now, i == len(due)-1) {
			if ok, err := l.queueTick(ctx, e, tick, now); !ok {
				return err
			}
		}
		e.last = tick
	}
	return nil
}

// queueTick queues a tick unless it is somebody else's. It is false for one that
// nobody shall have for now.
func (l *line) queueTick(ctx context.Context, e *entry, tick, now time.Time) (bool, error) {
	run := e.run(now)
	run.ID = e.name() + "@" + tick.UTC().Format(time.RFC3339Nano)
	err := l.send(ctx, e, run, tick)
	logger := l.scheduler.logger
	if e.held != errors.Is(err, broker.ErrDisabled) {
		e.held = !e.held
		logger.Info("the task of a schedule was disabled or enabled", "task", run.Task, "disabled", e.held)
	}
	var overlap *DuplicateError
	switch {
	case e.held:
		return false, nil
	case errors.Is(err, broker.ErrNoSchedule):
		e.gone = true // what it is now, if anything, will be read
		return false, nil
	case errors.As(err, &overlap) && len(overlap.Runs) > 0:
		logger.Debug("a tick is left out: the run of an earlier one lives", "task", run.Task, "tick", run.ID, "run", overlap.Runs[0].ID)
	case errors.Is(err, ErrDuplicate):
		e.others++
		return true, nil
	case errors.Is(err, ErrNotReplicated): // it is queued all the same
		logger.Warn("a tick is queued less safely than asked", "task", run.Task, "run", run.ID, "error", err)
	case err != nil:
		return false, err
	}
	e.others = 0
	return true, nil
}

func (l *line) send(ctx context.Context, e *entry, run *broker.TaskRun, tick time.Time) error {
	if e.made != nil {
		return l.scheduler.broker.(broker.ScheduleStore).QueueScheduleTick(ctx, e.made, run, tick)
	}
	if schedules, ok := l.scheduler.broker.(broker.Ticks); ok {
		return schedules.QueueTick(ctx, run, tick)
	}
	run.OwnID = true // so that a second scheduler's is a duplicate while this one lives
	return l.scheduler.broker.QueueTasks(ctx, run)
}

// wakeAll has all entries looked at now: a clock has jumped.
func (l *line) wakeAll(now time.Time) {
	for _, e := range l.agenda {
		e.wake = now
	}
	heap.Init(&l.agenda)
}

// sleepFor waits for some time, for maxSleep at most, so that jumps of the clock and
// suspends are noticed, or for what is sent on wake.
func sleepFor(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(min(d, maxSleep))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}
