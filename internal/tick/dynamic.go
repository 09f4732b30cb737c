package tick

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

const (
	changesEvery = 2 * time.Second // between two questions whether dynamic schedules have changed
	mostListed   = 5               // ids in a line of log
)

// watchDynamic passes dynamic schedules to the loops of their queues, whenever they
// have changed, until ctx ends.
func (s *Scheduler) watchDynamic(ctx context.Context, t broker.ScheduleStore, start func(*queueLoop)) {
	known := make(map[string]int64) // changes of each queue
	wait := backoff.New(100*time.Millisecond, 5*time.Second)
	var logAgainAt time.Time
	for ctx.Err() == nil {
		var some bool
		err := guard(func() (err error) {
			some, err = s.readDynamic(ctx, t, known, start)
			return err
		})
		if now := time.Now(); err != nil && ctx.Err() == nil && now.After(logAgainAt) {
			logAgainAt = now.Add(logEvery)
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

// readDynamic passes on the schedules of the queues in which they have changed. It
// returns false if the broker answered for no queue. If some queues fail, it returns an
// error and has passed on those of the others.
func (s *Scheduler) readDynamic(ctx context.Context, t broker.ScheduleStore, known map[string]int64, start func(*queueLoop)) (some bool, failed error) {
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

// readQueue passes the dynamic schedules of a queue to its loop.
func (s *Scheduler) readQueue(ctx context.Context, t broker.ScheduleStore, queue string, start func(*queueLoop)) error {
	ctx, cancel := context.WithTimeout(ctx, tickTimeout)
	defer cancel()
	stored, err := t.Schedules(ctx, queue)
	if err == nil {
		s.startedLoop(queue, start).update(stored)
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

// update gives the loop all dynamic schedules of its queue. It does not block.
func (l *queueLoop) update(stored []*broker.Schedule) {
	l.mu.Lock()
	l.latest, l.hasUpdate = stored, true
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // an earlier update wakes it
	}
}

// applyUpdate replaces the loop's dynamic schedules by those of the last update. A
// schedule that has not changed keeps its state.
func (l *queueLoop) applyUpdate() {
	l.mu.Lock()
	entries, hasUpdate := l.latest, l.hasUpdate
	l.latest, l.hasUpdate = nil, false
	l.mu.Unlock()
	if !hasUpdate {
		return
	}
	old, unreadable := make(map[string]*schedule), make(map[string]error)
	kept := l.schedules[:0:0]
	for _, s := range l.schedules {
		if s.dynamic == nil {
			kept = append(kept, s)
		} else {
			old[s.dynamic.ID] = s
		}
	}
	for _, stored := range entries {
		if s := old[stored.ID]; s != nil && s.dynamic.Revision == stored.Revision {
			kept = append(kept, s)
		} else if s, err := l.scheduler.scheduleOf(stored); err != nil {
			unreadable[stored.ID] = err
		} else if s != nil {
			kept = append(kept, s)
		}
	}
	l.logUnreadable(unreadable)
	l.setSchedules(kept)
}

// logUnreadable logs the dynamic schedules that cannot be read, each once, in one line.
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

// scheduleOf returns a dynamic schedule, nil if its task is unknown here: another
// scheduler may know it.
func (s *Scheduler) scheduleOf(stored *broker.Schedule) (*schedule, error) {
	if err := stored.Validate(); err != nil {
		return nil, err
	}
	t := s.byName[stored.Run.Task]
	if t == nil {
		return nil, nil
	}
	table, err := Parse(stored.Spec, stored.Zone)
	if err != nil {
		return nil, err
	}
	return &schedule{
		task: t, queue: stored.Run.Queue, table: table, dynamic: stored, begun: true, last: Later(stored.Since, stored.Last),
		rule: Rule{Missed: t.Rule.Missed, MissedMax: t.Rule.MissedMax, SkipOverlap: t.Rule.SkipOverlap},
	}, nil
}
