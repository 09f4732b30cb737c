package runtime

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/tick"
)

// ErrNoSchedule: the queue has no schedule made at run time with this id.
var ErrNoSchedule = broker.ErrNoSchedule

// Scheduled is a schedule that was made at run time.
type Scheduled struct {
	ID    string
	Queue string
	Next  time.Time // its first tick from now on, in its zone

	client *Client
}

// Unschedule ends the schedule. After it has returned nil no more runs of the schedule are
// queued. It returns [ErrNoSchedule] if the schedule has ended already.
func (s *Scheduled) Unschedule(ctx context.Context) error {
	return s.client.unschedule(ctx, s.Queue, s.ID)
}

// Schedule makes a schedule at run time: it queues the call at each instant that spec names,
// from now on:
//
//	taskrt.Schedule(ctx, "0 9 * * mon", "Europe/Rome", CallSendReport(customerID), taskrt.ID("report-42"))
//
// The call is one run. For more, schedule a task that returns the call.
//
// spec is a cron expression in the time zone tz, by default UTC, or "@every" and a
// duration of at least a second, such as "@every 10m": the multiples of the duration since
// the Unix epoch. If spec names no instant, Schedule returns an error and stores nothing.
// It blocks until the broker has replied.
//
// The option [ID] sets the schedule's id within its queue, at most 160 characters of
// printable ASCII. Defaults to a new ULID. Scheduling again with the same id changes the
// schedule: its parameters from the next tick on, and its ticks from now on if spec or tz
// differ. If another task's schedule has the id, Schedule returns [ErrDuplicate]. The
// other options are those of each run; [At] is an error. Missed ticks and overlaps are
// treated as the task's directives missed and overlap say.
//
// The broker stores the schedule. Each scheduler that has the task notices a change within
// two seconds; on Redis within twelve, if it is the first schedule of a queue that the
// scheduler's process does not use. Each tick is queued once. Its run has the id
// "schedule/<id>@<instant>", in which <id> is the schedule's.
func Schedule[R any](ctx context.Context, spec, tz string, call Call[R], opts ...QueueOption) (*Scheduled, error) {
	n := call.orInvalid().with(opts)
	s, err := n.schedule(ctx, spec, tz)
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %w", n.name(), err)
	}
	return s, nil
}

func (n *callNode) schedule(ctx context.Context, spec, tz string) (*Scheduled, error) {
	table, err := tick.Parse(spec, tz)
	if err != nil {
		return nil, err
	}
	c, err := clientOf(ctx)
	if err != nil {
		return nil, err
	}
	run, err := n.scheduledRun(ctx, c)
	if err != nil {
		return nil, err
	}
	return c.putSchedule(ctx, spec, tz, table, run)
}

// ScheduleTask makes a schedule of a task whose parameters are encoded, see
// [Task.EncodeParams], as [Schedule] does. It is for programs that choose the task at run
// time. It may be called concurrently.
func (c *Client) ScheduleTask(ctx context.Context, t Task, payload []byte, spec, tz string, opts ...QueueOption) (*Scheduled, error) {
	s, err := c.scheduleTask(ctx, &t, payload, spec, tz, opts)
	if err != nil {
		return nil, fmt.Errorf("schedule %s: %w", t.spec.Name, err)
	}
	return s, nil
}

func (c *Client) scheduleTask(ctx context.Context, t *Task, payload []byte, spec, tz string, opts []QueueOption) (*Scheduled, error) {
	table, err := tick.Parse(spec, tz)
	if err != nil {
		return nil, err
	}
	run, err := c.makeRun(ctx, t, payload, opts)
	if err != nil {
		return nil, err
	}
	if err := asScheduled(run); err != nil {
		return nil, err
	}
	return c.putSchedule(ctx, spec, tz, table, run)
}

// putSchedule stores a schedule, whose ticks copy the run.
func (c *Client) putSchedule(ctx context.Context, spec, tz string, table tick.Timetable, run *broker.TaskRun) (*Scheduled, error) {
	keeper, err := c.scheduleKeeper()
	if err != nil {
		return nil, err
	}
	schedule := &broker.Schedule{ID: run.ID, Spec: spec, Zone: tz, Run: run}
	if err := keeper.PutSchedule(ctx, schedule); err != nil {
		return nil, err
	}
	next, _ := table.Next(tick.Later(schedule.Since, schedule.Last))
	if now := time.Now(); next.Before(now) {
		next, _ = table.Next(now)
	}
	return &Scheduled{ID: schedule.ID, Queue: run.Queue, Next: next, client: c}, nil
}

// scheduledRun makes the run that each tick copies. Its id is that of the schedule.
func (n *callNode) scheduledRun(ctx context.Context, c *Client) (*broker.TaskRun, error) {
	if !n.isSingle() {
		return nil, errors.New("a schedule queues single runs, and the call is more than one; schedule a task that returns the call")
	}
	run, err := newBuilder(ctx, c).newRun(n)
	if err != nil {
		return nil, err
	}
	return run, asScheduled(run)
}

// asScheduled makes a run the one that each tick copies.
func asScheduled(run *broker.TaskRun) error {
	if !run.Due.IsZero() {
		return errors.New("the option At fits no schedule: the schedule says when; use Delay to have runs due a while after each tick")
	}
	run.OwnID = false // the run of each tick has another id
	return refuseSkipFailed(run)
}

// scheduleKeeper returns the broker, or an error if that keeps no schedules made at run
// time.
func (c *Client) scheduleKeeper() (scheduleKeeper, error) {
	if err := c.checkUsable(); err != nil {
		return nil, err
	}
	keeper, ok := c.broker.(scheduleKeeper)
	if !ok {
		return nil, errors.New("this broker keeps no schedules made at run time; use one that has broker.ScheduleStore, such as the embedded one or Redis")
	}
	return keeper, nil
}

// ScheduledInfo is a schedule that was made at run time, as it is now.
type ScheduledInfo struct {
	ID    string
	Queue string
	Task  string
	Spec  string // a cron expression, or "@every" and a duration
	Zone  string // of a cron expression; empty: UTC
	Since time.Time
	Last  time.Time // the last tick that was queued, the zero time if there was none
	Next  time.Time // the next tick, in its zone; the zero time if there is none
}

// Schedules returns the schedules made at run time in all queues, in the order of queues
// and ids. If some queues cannot be read, it returns an error and beside it the schedules
// of the others.
func Schedules(ctx context.Context) ([]ScheduledInfo, error) {
	c, err := clientOf(ctx)
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	keeper, err := c.scheduleKeeper()
	if err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	schedules, err := keeper.Schedules(ctx)
	if err != nil {
		err = fmt.Errorf("list schedules: %w", err)
	}
	list := make([]ScheduledInfo, len(schedules))
	now := time.Now()
	for i, s := range schedules {
		list[i] = ScheduledInfo{
			ID: s.ID, Queue: s.Run.Queue, Task: s.Run.Task, Spec: s.Spec, Zone: s.Zone, Since: s.Since, Last: s.Last,
		}
		if table, err := tick.Parse(s.Spec, s.Zone); err == nil {
			list[i].Next, _ = table.Next(tick.Later(now, s.Last))
		}
	}
	return list, err
}

// Unschedule ends a schedule made at run time. After it has returned nil no more runs of
// the schedule are queued. queue defaults to "default". It returns [ErrNoSchedule] if no
// schedule of the queue has the id.
func Unschedule(ctx context.Context, queue, id string) error {
	c, err := clientOf(ctx)
	if err != nil {
		return fmt.Errorf("end schedule %.64q: %w", id, err)
	}
	if queue == "" {
		queue = DefaultQueue
	}
	return c.unschedule(ctx, queue, id)
}

func (c *Client) unschedule(ctx context.Context, queue, id string) error {
	keeper, err := c.scheduleKeeper()
	if err == nil {
		err = keeper.DeleteSchedule(ctx, queue, id)
	}
	if err != nil {
		return fmt.Errorf("end schedule %.64q of queue %s: %w", id, queue, err)
	}
	return nil
}

// Ticks returns the instants at which the schedule's task runs, later than after and than
// the making of the schedule, in order and in the schedule's zone. It returns an error if
// this version cannot read the schedule.
func (s ScheduledInfo) Ticks(after time.Time) (iter.Seq[time.Time], error) {
	table, err := tick.Parse(s.Spec, s.Zone)
	if err != nil {
		return nil, fmt.Errorf("list ticks of schedule %.64q: %w", s.ID, err)
	}
	return tickSeq(table, tick.Later(after, s.Since), func(at time.Time) time.Time { return at }), nil
}

// tickSeq returns the instants of a timetable after one, each moved by at.
func tickSeq(table tick.Timetable, after time.Time, at func(time.Time) time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		if table == nil {
			return
		}
		for next, ok := table.Next(after); ok && yield(at(next)); next, ok = table.Next(next) {
		}
	}
}
