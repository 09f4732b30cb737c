package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/inspect"
	"github.com/taskgen/taskgen/internal/text"
)

// Inspector shows and operates what a broker has: queues, runs, dead letters, and the
// instances that are up. The command line is made of it, and so can be a program of your own:
//
//	inspector, err := taskrt.NewInspector(b, tasks.Tasks())
//	page, err := inspector.Runs(ctx, taskrt.RunFilter{States: []taskrt.State{broker.StateQueued}, Tag: "mail"}, taskrt.PageOptions{})
//
// A method that looks into several queues skips one that cannot be read, and reports it as
// [Skipped] beside what it found. If it looks into one queue alone, it returns its error.
// A method whose part of the contract the broker lacks returns an error that names the part.
//
// Methods block until the broker has replied or ctx ends, and may be called concurrently.
type Inspector struct {
	fleet *inspect.Fleet
	tasks taskSet
}

// NewInspector returns an inspector of a broker that has [broker.Controls] and
// [broker.Records]. The tasks tell it how to decode parameters, and what to hide of them; it
// shows runs of other tasks without these. It returns an error if the broker lacks a part,
// or two tasks share a name.
func NewInspector(b broker.Broker, sets ...[]Task) (*Inspector, error) {
	tasks, err := newTaskSet(sets)
	if err != nil {
		return nil, fmt.Errorf("make an inspector: %w", err)
	}
	var queues []string
	for _, t := range tasks.list {
		queues = append(queues, t.spec.Queue)
	}
	fleet, err := inspect.New(b, queues)
	if err != nil {
		return nil, fmt.Errorf("make an inspector: %w", err)
	}
	return &Inspector{fleet: fleet, tasks: tasks}, nil
}

// Skipped is a queue that was skipped, in whole or in part, as it could not be read.
type Skipped struct {
	Queue string // empty: the names of the queues that the broker knows could not be read
	Err   error
}

func skippedOf(l *inspect.Look) (skipped []Skipped) {
	for _, s := range l.Skipped() {
		skipped = append(skipped, Skipped(s))
	}
	return skipped
}

// QueueNames returns the names of the queues of the inspector's tasks, and of those in which
// the broker has held a run, sorted. Beside an error it returns those it knows.
func (i *Inspector) QueueNames(ctx context.Context) ([]string, error) {
	l, err := i.fleet.Look(ctx)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	for _, s := range l.Skipped() {
		err = fmt.Errorf("list queues: %w", s.Err)
	}
	return l.Queues, err
}

// QueueStatus is what is known of a queue.
type QueueStatus struct {
	broker.QueueInfo

	// Consumers is how many consumers take from the queue, those that are stopping not
	// included. -1: unknown, as the broker has no [broker.Instances].
	Consumers int
	// NoConsumer is set if the queue has runs and no consumer takes from it.
	NoConsumer bool
}

// QueueList is what [Inspector.Queues] found.
type QueueList struct {
	Queues  []QueueStatus // sorted by name
	Skipped []Skipped
}

// Queues returns what is known of some queues, or of all if none is named.
func (i *Inspector) Queues(ctx context.Context, queues ...string) (*QueueList, error) {
	l, err := i.fleet.Look(ctx, queues...)
	if err != nil {
		return nil, fmt.Errorf("show queues: %w", err)
	}
	infos, err := l.Infos(ctx)
	if err != nil {
		return nil, fmt.Errorf("show queues: %w", err)
	}
	list := &QueueList{Skipped: skippedOf(l)}
	instances, err := i.instances(ctx)
	if err != nil && !errors.Is(err, errNoInstances) {
		list.Skipped = append(list.Skipped, Skipped{Err: err})
	}
	for _, info := range infos {
		if info == nil {
			continue
		}
		s := QueueStatus{QueueInfo: *info, Consumers: -1}
		if err == nil {
			s.Consumers = serving(instances, broker.RoleConsumer, info.Queue)
			s.NoConsumer = s.Consumers == 0 && info.Queued+info.Delayed+info.Running > 0
		}
		list.Queues = append(list.Queues, s)
	}
	if len(list.Queues) == 0 && len(l.Queues) == 1 && len(list.Skipped) > 0 {
		return nil, fmt.Errorf("show queue %s: %w", l.Queues[0], list.Skipped[0].Err)
	}
	return list, nil
}

var errNoInstances = inspect.Missing("broker.Instances", "who is up is unknown")

// Instances returns the consumers and schedulers that are up, sorted by host, process id and
// id. One that died is listed for [broker.InstanceKept] after it announced itself last.
func (i *Inspector) Instances(ctx context.Context) ([]*broker.Instance, error) {
	instances, err := i.instances(ctx)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	return instances, nil
}

func (i *Inspector) instances(ctx context.Context) ([]*broker.Instance, error) {
	b, ok := i.fleet.Broker.(broker.Instances)
	if !ok {
		return nil, errNoInstances
	}
	return b.Instances(ctx)
}

// Hosts returns where the consumers that are up are, by their sessions, as [broker.Attempt]
// has it: of a running run a broker knows the session. The map is empty if the broker has no
// [broker.Instances].
func (i *Inspector) Hosts(ctx context.Context) (map[string]string, error) {
	instances, err := i.instances(ctx)
	if err != nil && !errors.Is(err, errNoInstances) {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	hosts := make(map[string]string)
	for _, instance := range instances {
		if instance.Session != "" {
			hosts[instance.Session] = fmt.Sprintf("%s:%d", instance.Host, instance.PID)
		}
	}
	return hosts, nil
}

// serving returns how many instances of a role serve a queue. One counts for all queues if
// not all of its own are stored.
func serving(instances []*broker.Instance, role broker.Role, queue string) (n int) {
	for _, instance := range instances {
		if _, serves := instance.Queues[queue]; instance.Role == role && !instance.Stopping && (serves || instance.More > 0) {
			n++
		}
	}
	return n
}

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
	l, err := i.fleet.Look(ctx, queues...)
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	infos, err := l.Infos(ctx)
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	list := &ScheduleList{Now: i.now(ctx)}
	if err := i.addOwnSchedules(ctx, list, l.Queues); err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	if err := i.addDynamicSchedules(ctx, list, queues); err != nil {
		list.Skipped = append(list.Skipped, Skipped{Err: err})
	}
	list.Skipped = append(list.Skipped, skippedOf(l)...)
	instances, err := i.instances(ctx)
	for n := range list.Schedules {
		s := &list.Schedules[n]
		at, found := slices.BinarySearch(l.Queues, s.Queue)
		s.Disabled = found && infos[at] != nil && slices.Contains(infos[at].Disabled, s.Task)
		s.judge(list.Now, instances, err == nil)
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

// addOwnSchedules adds the schedules of the inspector's tasks in these queues.
func (i *Inspector) addOwnSchedules(ctx context.Context, list *ScheduleList, queues []string) error {
	ticks, ok := i.fleet.Broker.(broker.Ticks)
	if !ok {
		return inspect.Missing("broker.Ticks", "it knows no schedules")
	}
	for _, t := range i.tasks.list {
		schedule := t.spec.Schedule
		_, wanted := slices.BinarySearch(queues, t.spec.Queue)
		if !wanted || schedule.Cron == "" && schedule.Every == 0 {
			continue
		}
		s := ScheduleStatus{Task: t.spec.Name, Queue: t.spec.Queue, Spec: schedule.Cron, Zone: schedule.Zone}
		if schedule.Every > 0 {
			s.Spec = "@every " + schedule.Every.String()
		}
		last, err := ticks.LastTick(ctx, s.Queue, s.Task)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			list.Skipped = append(list.Skipped, Skipped{s.Queue, err})
			continue
		}
		s.Last = last
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

// Tallies returns the counts of attempts and ends of the minutes from one instant to another,
// which it does not include, of some queues, or of all if none is named. They are sorted by
// minute, queue and task. A broker keeps them for [broker.TalliesKept] at least.
func (i *Inspector) Tallies(ctx context.Context, from, to time.Time, queues ...string) ([]broker.Tally, error) {
	b, ok := i.fleet.Broker.(broker.Tallies)
	if !ok {
		return nil, fmt.Errorf("read tallies: %w", inspect.Missing("broker.Tallies", "it counts nothing for charts"))
	}
	l, err := i.fleet.Look(ctx, queues...)
	if err != nil {
		return nil, fmt.Errorf("read tallies: %w", err)
	}
	tallies, err := b.Tallies(ctx, l.Queues, from, to)
	if err != nil {
		return nil, fmt.Errorf("read tallies: %w", err)
	}
	return tallies, nil
}

// Pause stops the delivery of a queue's runs. Runs that were taken before go on.
func (i *Inspector) Pause(ctx context.Context, queue string) error {
	return i.pause(ctx, queue, true)
}

// Resume ends what [Inspector.Pause] began.
func (i *Inspector) Resume(ctx context.Context, queue string) error {
	return i.pause(ctx, queue, false)
}

func (i *Inspector) pause(ctx context.Context, queue string, paused bool) error {
	err := inspect.CheckQueueName(queue)
	if err == nil {
		err = i.fleet.Controls.Pause(ctx, queue, paused)
	}
	if err != nil && paused {
		return fmt.Errorf("pause queue %s: %w", queue, err)
	}
	if err != nil {
		return fmt.Errorf("resume queue %s: %w", queue, err)
	}
	return nil
}

// Disable stops the delivery of a task's runs under all its names, and the queueing of its
// ticks, in some queues, or in the task's own if none is named. It returns [ErrUnknownTask]
// if the inspector does not know the task and no queue is named.
func (i *Inspector) Disable(ctx context.Context, task string, queues ...string) error {
	return i.disable(ctx, task, true, queues)
}

// Enable ends what [Inspector.Disable] began.
func (i *Inspector) Enable(ctx context.Context, task string, queues ...string) error {
	return i.disable(ctx, task, false, queues)
}

func (i *Inspector) disable(ctx context.Context, task string, disabled bool, queues []string) error {
	verb := "enable"
	if disabled {
		verb = "disable"
	}
	t := i.tasks.byName[task]
	if t == nil && len(queues) == 0 {
		return fmt.Errorf("%s task %.64q: %w; known are %s", verb, task, ErrUnknownTask, text.List(i.taskNames(), 20))
	}
	if len(queues) == 0 {
		queues = []string{t.spec.Queue}
	}
	for _, queue := range queues {
		for _, name := range i.namesOf(task) {
			if err := i.fleet.Controls.Disable(ctx, queue, name, disabled); err != nil {
				return fmt.Errorf("%s task %s in queue %s: %w", verb, name, queue, err)
			}
		}
	}
	return nil
}

func (i *Inspector) taskNames() (names []string) {
	for _, t := range i.tasks.list {
		names = append(names, t.spec.Name)
	}
	return names
}

// namesOf returns the names under which runs of a task can be queued. It may be one that the
// inspector does not know, whose runs are still there.
func (i *Inspector) namesOf(task string) []string {
	if t := i.tasks.byName[task]; t != nil {
		return append([]string{t.spec.Name}, t.spec.Aliases...)
	}
	return []string{task}
}
