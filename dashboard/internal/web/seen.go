package web

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// ofTheirs stands in place of counts for users who see some tasks alone: the counts are those
// of all tasks.
const ofTheirs = "Those of your tasks alone are shown."

// queuesOf returns the queues that a user of some tasks sees: those that the tasks name.
func (s *site) queuesOf(u *access.User) map[string]bool {
	seen := make(map[string]bool)
	for _, t := range s.Tasks {
		if u.Allows(access.Read, t.Name()) {
			seen[t.Spec().Queue] = true
		}
	}
	return seen
}

// seenBy returns what a user sees of the fleet: of other queues and tasks than its own not even
// the names. Who is up is not shown, as an instance names all that it serves.
func (f *fleet) seenBy(s *site, u *access.User) *fleet {
	if !u.Restricted() {
		return f
	}
	queues := s.queuesOf(u)
	seen := &fleet{
		Overview: &taskrt.Overview{
			Queues:    &taskrt.QueueList{Skipped: seenSkipped(f.Queues.Skipped, queues)},
			Schedules: &taskrt.ScheduleList{Now: f.Schedules.Now, Skipped: seenSkipped(f.Schedules.Skipped, queues)},
		},
		InstancesErr: &access.DeniedError{User: u.Name, Action: access.Read},
	}
	for i := range f.Queues.Queues {
		if q := &f.Queues.Queues[i]; queues[q.Queue] {
			seen.Queues.Queues = append(seen.Queues.Queues, queueSeenBy(q, u))
		}
	}
	for i := range f.Schedules.Schedules {
		if schedule := &f.Schedules.Schedules[i]; u.Allows(access.Read, schedule.Task) {
			seen.Schedules.Schedules = append(seen.Schedules.Schedules, *schedule)
		}
	}
	return seen
}

// queueSeenBy returns a queue without what is of tasks that the user may not read.
func queueSeenBy(q *taskrt.QueueStatus, u *access.User) taskrt.QueueStatus {
	c := *q
	c.Disabled = slices.DeleteFunc(slices.Clone(q.Disabled), func(task string) bool { return !u.Allows(access.Read, task) })
	c.Limits = slices.DeleteFunc(slices.Clone(q.Limits), func(l taskrt.HeldLimit) bool { return !u.Allows(access.Read, l.Task) })
	c.Last = maps.Clone(q.Last)
	maps.DeleteFunc(c.Last, func(task string, _ broker.LastRun) bool { return !u.Allows(access.Read, task) })
	return c
}

// seenSkipped names no other queue than these.
func seenSkipped(skipped []taskrt.Skipped, queues map[string]bool) (all []taskrt.Skipped) {
	others := false
	for _, s := range skipped {
		if queues[s.Queue] {
			all = append(all, s)
		} else {
			others = true
		}
	}
	if others {
		all = append(all, taskrt.Skipped{Err: errors.New("not all queues could be read")})
	}
	return all
}

// warnSkippedTo adds queues that could not be read, as far as the user of ctx sees them.
func (r *request) warnSkippedTo(ctx context.Context, skipped []taskrt.Skipped) {
	if u := access.UserOf(ctx); u.Restricted() {
		skipped = seenSkipped(skipped, r.site.queuesOf(u))
	}
	r.warnSkipped(skipped)
}

// readableRun returns an error if the user of ctx may not read a run of a task. To one of some
// tasks it is as if the run was not there: the error would name its task.
func readableRun(ctx context.Context, task string) error {
	err := access.Check(ctx, access.Read, task)
	if u := access.UserOf(ctx); err != nil && u != nil && u.Has(access.Read) {
		return notFound(errors.New("no run of this id is known, or you may not see it"))
	}
	return err
}
