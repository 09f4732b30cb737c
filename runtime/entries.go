package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
	"github.com/taskgen/taskgen/internal/text"
)

// How often a scheduler asks whether schedules made at run time have changed.
const changesEvery = 2 * time.Second

// watchDynamic hands schedules made at run time to the loops of their queues,
// whenever they have changed.
func (s *Scheduler) watchDynamic(ctx context.Context, t broker.Timetable, start func(*queueLoop)) {
	known := make(map[string]int64) // changes of each queue
	wait := backoff.New(100*time.Millisecond, 5*time.Second)
	var quiet time.Time
	for ctx.Err() == nil {
		var some bool
		err := guarded(func() (err error) {
			some, err = s.readDynamic(ctx, t, known, start)
			return err
		})
		if now := time.Now(); err != nil && ctx.Err() == nil && now.After(quiet) {
			quiet = now.Add(quietFor)
			s.logger.Warn("cannot look for schedules made at run time, or not in all queues, trying again", "error", err)
		}
		if !some {
			wait.Sleep(ctx)
			continue
		}
		wait.Reset()
		s.watched.Store(time.Now().UnixNano())
		sleepFor(ctx, changesEvery, nil)
	}
}

// readDynamic hands on the schedules of the queues in which they have changed. It is
// false when it knows of no queue. Beside an error of one queue it has dealt with the
// others.
func (s *Scheduler) readDynamic(ctx context.Context, t broker.Timetable, known map[string]int64, start func(*queueLoop)) (some bool, failed error) {
	asking, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	changes, failed := t.EntryChanges(asking)
	if changes == nil && failed != nil {
		return false, failed
	}
	for queue, n := range changes {
		if last, ok := known[queue]; ok && last == n {
			continue
		}
		err := s.readQueue(ctx, t, queue, start)
		if err == nil {
			known[queue] = n
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return true, failed
}

// readQueue hands the schedules of a queue to its loop.
func (s *Scheduler) readQueue(ctx context.Context, t broker.Timetable, queue string, start func(*queueLoop)) error {
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	entries, err := t.Entries(ctx, queue)
	if err == nil {
		s.startedLoop(queue, start).update(entries)
	}
	return err
}

// startedLoop returns the loop of a queue, which it makes and starts if there is none.
func (s *Scheduler) startedLoop(queue string, start func(*queueLoop)) *queueLoop {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.loops)
	l := s.loop(queue)
	if len(s.loops) > n {
		start(l)
	}
	return l
}

// update notifies the loop of the schedules made at run time that its queue has.
func (l *queueLoop) update(entries []*broker.Entry) {
	l.mu.Lock()
	l.latest, l.hasUpdate = entries, true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // it was told already
	}
}

// applyUpdate takes what was offered last.
func (l *queueLoop) applyUpdate() {
	l.mu.Lock()
	entries, news := l.latest, l.hasUpdate
	l.latest, l.hasUpdate = nil, false
	l.mu.Unlock()
	if !news {
		return
	}
	old, unreadable := make(map[string]*schedule), make(map[string]error)
	kept := l.schedules[:0:0]
	for _, e := range l.schedules {
		if e.dynamic == nil {
			kept = append(kept, e)
		} else {
			old[e.dynamic.ID] = e
		}
	}
	for _, stored := range entries {
		if e := old[stored.ID]; e != nil && e.dynamic.Revision == stored.Revision {
			kept = append(kept, e)
		} else if e, err := l.scheduler.scheduleOf(stored); err != nil {
			unreadable[stored.ID] = err
		} else if e != nil {
			kept = append(kept, e)
		}
	}
	l.logUnreadable(unreadable)
	l.setSchedules(kept)
}

// logUnreadable reports the schedules that are left alone as they cannot be read, once each,
// in one line.
func (l *queueLoop) logUnreadable(unreadable map[string]error) {
	var ids []string
	for id := range unreadable {
		if _, known := l.unreadable[id]; !known {
			ids = append(ids, id)
		}
	}
	l.unreadable = unreadable
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = fmt.Sprintf("%.64q", id)
	}
	l.scheduler.logger.Warn("schedules made at run time cannot be read and are left alone; put them again, or delete them",
		"queue", l.queue, "skipped", len(unreadable), "schedules", text.List(quoted, mostListed), "error", unreadable[ids[0]])
}

// scheduleOf returns what a scheduler knows of a schedule made at run time, nil if
// its task is unknown here: others may know it.
func (s *Scheduler) scheduleOf(stored *broker.Entry) (*schedule, error) {
	if err := stored.Validate(); err != nil {
		return nil, err
	}
	t := s.tasks.byName[stored.Run.Task]
	if t == nil {
		return nil, nil
	}
	table, err := parseRule(stored.Spec, stored.Zone)
	if err != nil {
		return nil, err
	}
	e := &schedule{spec: t.spec, task: t, table: table, dynamic: stored, begun: true, last: later(stored.Since, stored.Last)}
	rules := t.spec.Schedule
	e.spec.Queue = stored.Run.Queue
	e.spec.Schedule = Schedule{Missed: rules.Missed, MissedMax: rules.MissedMax, SkipOverlap: rules.SkipOverlap}
	return e, nil
}

// dynamicRun makes the run of a tick of a schedule made at run time. The policies
// are those of the task as it is now.
func (e *schedule) dynamicRun(now time.Time) *broker.TaskRun {
	run := *e.dynamic.Run
	run.QueuedAt, run.OwnID = now, false
	fresh := broker.TaskRun{Payload: run.Payload}
	if e.task.police(&fresh) == nil { // else they stay as they were
		run.Rules = fresh.Rules
	}
	return &run
}

// checkPolicies refuses a task whose policies the broker does not keep.
func (s *Scheduler) checkPolicies(e *schedule) error {
	if p, ok := s.broker.(broker.Policies); ok && p.Policed() {
		return nil
	}
	if e.spec.Schedule.SkipOverlap {
		return fmt.Errorf("task %s has //task:overlap skip, which this broker does not keep; use one that has broker.Policies, such as the embedded one or Redis", e.spec.Name)
	}
	return refusePolicies(e.run(time.Now()))
}
