package broker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Timetable is a [Schedules] that keeps schedules made at run time, as entries
// of queues. Methods may be called concurrently.
type Timetable interface {
	// PutEntry stores an entry in the queue of its Run, in place of the one with
	// its ID, and sets what [Entry] says the broker sets. The entry is not kept
	// or changed otherwise. It returns an error that wraps [ErrDuplicate] when
	// the ID is that of an entry of another task, and [ErrQueueFull] when the
	// queue has MaxEntries.
	PutEntry(ctx context.Context, entry *Entry) error

	// DeleteEntry deletes an entry, of which no tick is queued once it has
	// returned. It returns [ErrNoEntry] when there is none.
	DeleteEntry(ctx context.Context, queue, id string) error

	// Entries returns the entries of the queues, of all queues when none is
	// named, sorted by queue and ID. Where some queues cannot be read it returns
	// an error, and beside it the entries of the others.
	Entries(ctx context.Context, queues ...string) ([]*Entry, error)

	// EntryChanges returns for each queue that has or had entries a number that
	// is another one once an entry was put or deleted there. A queue that has its
	// first entry may be missing for some seconds. It is cheap: schedulers ask
	// every two seconds. Where some queues cannot be asked it returns an error, and
	// beside it the numbers of the others.
	EntryChanges(ctx context.Context) (map[string]int64, error)

	// QueueEntry queues run, which is for the entry's queue, as the entry's tick
	// at the instant given, as QueueTick does for a task. It returns
	// [ErrNoEntry], and queues nothing, when the entry was deleted or put since
	// it was read.
	QueueEntry(ctx context.Context, entry *Entry, run *TaskRun, tick time.Time) error
}

// Entry is a schedule made at run time: at each of its ticks a run is queued.
type Entry struct {
	ID   string   // in its queue; at most MaxEntryID bytes of printable ASCII
	Spec string   // when: a cron expression, or "@every" and a duration; at most MaxSpec bytes, which the broker does not read
	Zone string   // of a cron expression, an IANA name; empty: UTC
	Run  *TaskRun // what its ticks queue, but for the id, which is the entry's; only with ID and Queue when the stored bytes could not be read

	// The broker sets these.
	Since    time.Time // ticks come after this instant of the broker's clock: when the entry was first put with this Spec and Zone
	Last     time.Time // the last claimed tick, the zero time if there was none
	Revision int64     // of the queue's entries, another at each put
}

// Limits on entries.
const (
	MaxEntryID = 160
	MaxSpec    = 1024
	MaxEntries = 100_000 // of one queue
)

// ErrNoEntry tells that a queue has no entry with an id, or not that one any
// more.
var ErrNoEntry = errors.New("there is no schedule with this id")

// Validate refuses an entry that cannot be stored.
func (e *Entry) Validate() error {
	switch {
	case len(e.ID) > MaxEntryID:
		return fmt.Errorf("the schedule's id has %d bytes, at most %d are allowed", len(e.ID), MaxEntryID)
	case e.Spec == "":
		return errors.New("the schedule says no instants: it is empty")
	case len(e.Spec) > MaxSpec:
		return fmt.Errorf("the schedule has %d bytes, at most %d are allowed", len(e.Spec), MaxSpec)
	case len(e.Zone) > MaxName:
		return fmt.Errorf("the time zone's name has %d bytes, at most %d are allowed", len(e.Zone), MaxName)
	case e.Run == nil:
		return errors.New("the schedule has no run")
	case e.Run.ID != e.ID:
		return fmt.Errorf("the run's id %.64q is not the schedule's %q", e.Run.ID, e.ID)
	}
	return e.Run.Validate()
}
