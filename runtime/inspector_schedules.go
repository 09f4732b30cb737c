package runtime

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/inspect"
)

// ScheduleStatus is what is known of a schedule.
type ScheduleStatus struct {
	Task  string
	Queue string
	ID    string // of a schedule made at run time; empty: of the task's directives
	Spec  string // a cron expression, or "@every" and a duration
	Zone  string // of a cron expression; empty: UTC

	Last time.Time // the last tick that was queued; zero: none was
	Next time.Time // the first tick behind Last, jitter included: it is past if it is late; zero: there is none

	Disabled bool   // its task is: no tick is queued
	Overdue  bool   // the tick of Next is late by more than five seconds
	Why      string // it is overdue
}

// lateness is how late a tick may be queued that is not called overdue.
const lateness = 5 * time.Second

// ScheduleList is what [Inspector.Schedules] found.
type ScheduleList struct {
	Now       time.Time        // by the broker's clock, if it has one
	Schedules []ScheduleStatus // sorted by task, queue and id
	Skipped   []Skipped
}

// Schedules returns the schedules of the inspector's tasks, and those made at run time, of
// some queues, or of all if none is named. Those of tasks that the inspector does not know
// are among the latter alone. A schedule of the last seconds can be missing.
func (i *Inspector) Schedules(ctx context.Context, queues ...string) (*ScheduleList, error) {
	g, err := i.snapshot(ctx, queues)
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	list, err := i.schedules(ctx, g)
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	return list, nil
}

func (i *Inspector) schedules(ctx context.Context, g *snapshot) (*ScheduleList, error) {
	list := &ScheduleList{Now: i.now(ctx)}
	if err := i.addOwnSchedules(ctx, list, g); err != nil {
		return nil, err
	}
	if err := i.addDynamicSchedules(ctx, list, g.named); err != nil {
		list.Skipped = append(list.Skipped, Skipped{Err: err})
	}
	list.Skipped = append(list.Skipped, skippedOf(g.Look)...)
	for n := range list.Schedules {
		s := &list.Schedules[n]
		at, found := slices.BinarySearch(g.Queues, s.Queue)
		s.Disabled = found && g.infos[at] != nil && slices.Contains(g.infos[at].Disabled, s.Task)
		s.judge(list.Now, g.instances, g.unknown == nil)
	}
	slices.SortStableFunc(list.Schedules, func(a, b ScheduleStatus) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func (i *Inspector) now(ctx context.Context) time.Time {
	if clock, ok := i.fleet.Broker.(broker.Clock); ok {
		if now, err := clock.Now(ctx); err == nil {
			return now
		}
	}
	return time.Now()
}

// addOwnSchedules adds the schedules of the inspector's tasks in the queues of a look.
func (i *Inspector) addOwnSchedules(ctx context.Context, list *ScheduleList, g *snapshot) error {
	if _, ok := i.fleet.Broker.(broker.Ticks); !ok {
		return inspect.Missing("broker.Ticks", "it knows no schedules")
	}
	tasks := make(map[string][]string)
	for _, t := range i.tasks.list {
		if at, wanted := slices.BinarySearch(g.Queues, t.spec.Queue); wanted && g.infos[at] != nil && (t.spec.Schedule.Cron != "" || t.spec.Schedule.Every != 0) {
			tasks[t.spec.Queue] = append(tasks[t.spec.Queue], t.spec.Name)
		}
	}
	ticks, err := g.LastTicks(ctx, tasks)
	if err != nil {
		return err
	}
	for _, t := range i.tasks.list {
		last, found := ticks[t.spec.Queue][t.spec.Name]
		if !found {
			continue
		}
		schedule := t.spec.Schedule
		s := ScheduleStatus{Task: t.spec.Name, Queue: t.spec.Queue, Spec: schedule.Cron, Zone: schedule.Zone, Last: last}
		if schedule.Every > 0 {
			s.Spec = "@every " + schedule.Every.String()
		}
		after := last
		if last.IsZero() {
			after = list.Now // it has not begun
		}
		all, err := t.Ticks(after)
		if err != nil {
			return err
		}
		for s.Next = range all {
			break
		}
		list.Schedules = append(list.Schedules, s)
	}
	return nil
}

// addDynamicSchedules adds the schedules made at run time.
func (i *Inspector) addDynamicSchedules(ctx context.Context, list *ScheduleList, queues []string) error {
	store, ok := i.fleet.Broker.(broker.ScheduleStore)
	if !ok {
		return nil
	}
	changes, err := store.ScheduleChanges(ctx) // at less cost than a look into each queue
	if err != nil && changes == nil {
		return err
	}
	some := slices.Sorted(maps.Keys(changes))
	if len(queues) > 0 {
		some = slices.DeleteFunc(some, func(queue string) bool { return !slices.Contains(queues, queue) })
	}
	if len(some) == 0 {
		return err
	}
	schedules, readErr := store.Schedules(ctx, some...)
	for _, s := range schedules {
		info := ScheduledInfo{ID: s.ID, Spec: s.Spec, Zone: s.Zone, Since: s.Since}
		status := ScheduleStatus{Task: s.Run.Task, Queue: s.Run.Queue, ID: s.ID, Spec: s.Spec, Zone: s.Zone, Last: s.Last}
		if all, err := info.Ticks(s.Last); err == nil { // else it has a rule of another version
			for status.Next = range all {
				break
			}
		}
		list.Schedules = append(list.Schedules, status)
	}
	return cmp.Or(readErr, err)
}

// judge sets whether the schedule is overdue, and why. known is false if it is unknown which
// instances are up.
func (s *ScheduleStatus) judge(now time.Time, instances []*broker.Instance, known bool) {
	hasNone := known && serving(instances, broker.RoleScheduler, s.Queue) == 0
	begun := !s.Last.IsZero() || s.ID != ""
	switch {
	case s.Disabled || s.Next.IsZero():
		return
	case begun && now.Sub(s.Next) < lateness, !begun && !hasNone:
		return
	}
	s.Overdue = true
	switch up := slices.ContainsFunc(instances, func(i *broker.Instance) bool { return i.Role == broker.RoleScheduler && !i.Stopping }); {
	case !known:
		s.Why = "whether a scheduler is up is unknown"
	case !up:
		s.Why = "no scheduler is up"
	case hasNone:
		s.Why = "no scheduler that is up has schedules of queue " + s.Queue
	case !slices.ContainsFunc(instances, func(i *broker.Instance) bool {
		return i.Role == broker.RoleScheduler && !i.Stopping && now.Sub(i.Seen) < broker.InstanceKept/2 // they announce themselves more often
	}):
		s.Why = "no scheduler was seen for " + (broker.InstanceKept / 2).String() + ", it may have died"
	default:
		s.Why = "a scheduler is up, and is behind"
	}
}
