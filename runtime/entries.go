package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// How often a scheduler asks whether schedules made at run time have changed.
const entriesEvery = 2 * time.Second

// watchEntries hands schedules made at run time to the lines of their queues,
// whenever they have changed.
func (s *Scheduler) watchEntries(ctx context.Context, t broker.ScheduleStore, start func(*line)) {
	known := make(map[string]int64) // changes of each queue
	wait := newBackoff(100*time.Millisecond, 5*time.Second)
	var quiet time.Time
	for ctx.Err() == nil {
		var some bool
		err := guarded(func() (err error) {
			some, err = s.readEntries(ctx, t, known, start)
			return err
		})
		if now := time.Now(); err != nil && ctx.Err() == nil && now.After(quiet) {
			quiet = now.Add(quietFor)
			s.logger.Warn("cannot look for schedules made at run time, or not in all queues, trying again", "error", err)
		}
		if !some {
			wait.sleep(ctx)
			continue
		}
		wait.reset()
		s.watched.Store(time.Now().UnixNano())
		sleepFor(ctx, entriesEvery, nil)
	}
}

// readEntries hands on the schedules of the queues in which they have changed. It is
// false when it knows of no queue. Beside an error of one queue it has dealt with the
// others.
func (s *Scheduler) readEntries(ctx context.Context, t broker.ScheduleStore, known map[string]int64, start func(*line)) (some bool, failed error) {
	asking, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	changes, failed := t.ScheduleChanges(asking)
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

// readQueue hands the schedules of a queue to its line.
func (s *Scheduler) readQueue(ctx context.Context, t broker.ScheduleStore, queue string, start func(*line)) error {
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	entries, err := t.Schedules(ctx, queue)
	if err == nil {
		s.lineOf(queue, start).offer(entries)
	}
	return err
}

// lineOf returns the line of a queue, whose loop it starts if it makes it.
func (s *Scheduler) lineOf(queue string, start func(*line)) *line {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.lines)
	l := s.line(queue)
	if len(s.lines) > n {
		start(l)
	}
	return l
}

// offer tells the line's loop which schedules made at run time its queue has.
func (l *line) offer(entries []*broker.Schedule) {
	l.mu.Lock()
	l.offered, l.news = entries, true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // it was told already
	}
}

// accept takes what was offered last.
func (l *line) accept() {
	l.mu.Lock()
	entries, news := l.offered, l.news
	l.offered, l.news = nil, false
	l.mu.Unlock()
	if !news {
		return
	}
	old, odd := make(map[string]*entry), make(map[string]error)
	kept := l.entries[:0:0]
	for _, e := range l.entries {
		if e.made == nil {
			kept = append(kept, e)
		} else {
			old[e.made.ID] = e
		}
	}
	for _, made := range entries {
		if e := old[made.ID]; e != nil && e.made.Revision == made.Revision {
			kept = append(kept, e)
		} else if e, err := l.scheduler.entryOf(made); err != nil {
			odd[made.ID] = err
		} else if e != nil {
			kept = append(kept, e)
		}
	}
	l.logOdd(odd)
	l.setEntries(kept)
}

// logOdd reports the schedules that are left alone as they cannot be read, once each,
// in one line.
func (l *line) logOdd(odd map[string]error) {
	var ids []string
	for id := range odd {
		if _, known := l.odd[id]; !known {
			ids = append(ids, id)
		}
	}
	l.odd = odd
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = fmt.Sprintf("%.64q", id)
	}
	l.scheduler.logger.Warn("schedules made at run time cannot be read and are left alone; put them again, or delete them",
		"queue", l.queue, "skipped", len(odd), "schedules", someOf(quoted), "error", odd[ids[0]])
}

// entryOf returns what a scheduler knows of a schedule made at run time, nil if
// its task is unknown here: others may know it.
func (s *Scheduler) entryOf(made *broker.Schedule) (*entry, error) {
	if err := made.Validate(); err != nil {
		return nil, err
	}
	t := s.tasks.byName[made.Run.Task]
	if t == nil {
		return nil, nil
	}
	table, err := parseRule(made.Spec, made.Zone)
	if err != nil {
		return nil, err
	}
	e := &entry{spec: t.spec, task: t, table: table, made: made, begun: true, last: later(made.Since, made.Last)}
	rules := t.spec.Schedule
	e.spec.Queue = made.Run.Queue
	e.spec.Schedule = Timing{Missed: rules.Missed, MissedMax: rules.MissedMax, SkipOverlap: rules.SkipOverlap}
	return e, nil
}

// madeRun makes the run of a tick of a schedule made at run time. The policies
// are those of the task as it is now.
func (e *entry) madeRun(now time.Time) *broker.TaskRun {
	run := *e.made.Run
	run.QueuedAt, run.OwnID = now, false
	fresh := broker.TaskRun{Payload: run.Payload}
	if e.task.applyPolicies(&fresh) == nil { // else they stay as they were
		run.Rules = fresh.Rules
	}
	return &run
}

// checkPolicies refuses a task whose policies the broker does not keep.
func (s *Scheduler) checkPolicies(e *entry) error {
	kept := policiesOf(s.broker)
	if kept == broker.AllPolicies {
		return nil
	}
	if e.spec.Schedule.SkipOverlap && kept&broker.PolicyUnique == 0 {
		return fmt.Errorf("task %s has //task:overlap skip, which this broker does not keep; use one that has broker.Policies, such as the embedded one or Redis", e.spec.Name)
	}
	return refusePolicies(e.run(time.Now()), kept)
}
