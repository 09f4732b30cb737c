package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ScheduleStore is a [Ticks] that keeps schedules made at run time, each in one queue.
// Methods may be called concurrently.
type ScheduleStore interface {
	// PutSchedule stores a copy of a schedule in the queue of its Run, in place of the
	// one with its ID, and sets the fields that the broker sets. It returns an error
	// that wraps [ErrDuplicate] if the ID is that of a schedule of another task, and
	// [ErrQueueFull] if the queue has MaxSchedules.
	PutSchedule(ctx context.Context, schedule *Schedule) error

	// DeleteSchedule deletes a schedule. Once it has returned no tick of the schedule
	// is queued. It returns [ErrNoSchedule] if there is none with the id.
	DeleteSchedule(ctx context.Context, queue, id string) error

	// Schedules returns the schedules of the queues, or of all queues if none is
	// named, sorted by queue and ID. If it cannot read some queues it returns an error,
	// and beside it the schedules of the others.
	Schedules(ctx context.Context, queues ...string) ([]*Schedule, error)

	// ScheduleChanges returns a number for each queue that has or had schedules. The
	// number differs once a schedule was put or deleted there. A queue with its first
	// schedule may be missing for some seconds. Schedulers call it every two seconds,
	// so it must be cheap. If it cannot ask some queues it returns an error, and beside
	// it the numbers of the others.
	ScheduleChanges(ctx context.Context) (map[string]int64, error)

	// QueueScheduleTick queues run, in the schedule's queue, as the schedule's tick at
	// the given instant, as [Ticks.QueueTick] does for a task. It returns
	// [ErrNoSchedule] and queues nothing if the schedule was put or deleted since it
	// was read.
	QueueScheduleTick(ctx context.Context, schedule *Schedule, run *TaskRun, tick time.Time) error
}

// Schedule is a schedule made at run time: a run is queued at each of its ticks.
type Schedule struct {
	ID   string   // in its queue; at most MaxScheduleID bytes of printable ASCII
	Spec string   // a cron expression, or "@every" and a duration; at most MaxSpec bytes; a broker does not parse it
	Zone string   // of a cron expression, an IANA name; empty: UTC
	Run  *TaskRun // a copy of it, with an id of its own, is queued at each tick; its ID is the schedule's. Only ID and Queue are set if the stored bytes cannot be read

	// The broker sets these.
	Since    time.Time // ticks come after this instant of the broker's clock: when the schedule was first put with this Spec and Zone
	Last     time.Time // the last claimed tick; zero: there was none
	Revision int64     // another at each put to the queue
}

// Limits on schedules.
const (
	MaxScheduleID = 160
	MaxSpec       = 1024
	MaxSchedules  = 100_000 // of one queue
)

// Validate returns an error if the schedule cannot be stored.
func (s *Schedule) Validate() error {
	switch {
	case len(s.ID) > MaxScheduleID:
		return fmt.Errorf("the schedule's id has %d bytes, at most %d are allowed", len(s.ID), MaxScheduleID)
	case s.Spec == "":
		return errors.New("the schedule says no instants: it is empty")
	case len(s.Spec) > MaxSpec:
		return fmt.Errorf("the schedule has %d bytes, at most %d are allowed", len(s.Spec), MaxSpec)
	case len(s.Zone) > MaxName:
		return fmt.Errorf("the time zone's name has %d bytes, at most %d are allowed", len(s.Zone), MaxName)
	case s.Run == nil:
		return errors.New("the schedule has no run")
	case s.Run.ID != s.ID:
		return fmt.Errorf("the run's id %.64q is not the schedule's %q", s.Run.ID, s.ID)
	}
	return s.Run.Validate()
}
