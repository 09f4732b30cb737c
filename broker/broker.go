// Package broker is the contract between taskgen's runtime and what stores its
// runs: a page to implement a backend from.
//
// Three methods make a [Broker]. With these alone runs are delivered at most
// once. A backend that can do more says so by further interfaces, which the
// runtime finds by assertion on the broker itself:
//
//   - [Leaser]: runs are leased, renewed and given to another consumer when one
//     dies, so they are delivered at least once;
//   - [Records]: what became of a run can be asked for by its id, and waited for;
//   - [Ticks]: a schedule's tick is claimed and queued in one step, so any
//     number of schedulers queue it once;
//   - [Clock]: schedulers whose clocks run ahead are found out;
//   - [ScheduleStore]: schedules can be made at run time;
//   - [Policies]: it keeps what a run's Unique, Limits, Fair and an outcome's
//     Next say;
//   - [Groups]: a run is queued when the last of a group has ended;
//   - [Controls]: runs and dead letters can be looked at, cancelled, queued
//     again and deleted, and queues and tasks stopped, while all is in use.
//
// Package brokertest is this contract as a test suite.
package broker

import (
	"context"
	"errors"
	"time"
)

// Broker stores runs until a consumer takes them. All methods may be called
// concurrently, and return soon after their ctx has ended. What a broker stores
// and returns it holds to [TaskRun.Validate].
type Broker interface {
	// QueueTasks stores runs, all of them or none, and returns once they are
	// as safe as the backend makes them. The runs of one call are for one
	// queue. It returns an error that wraps [ErrDuplicate], and stores none,
	// when a run with OwnID has the id of a live one, and a [DuplicateError]
	// when the Unique of some is that of a live one, or of an earlier one of the
	// call, and one that wraps [ErrBatchTooLarge] when they are more than [MaxRuns]
	// or carry more than [MaxBatch], see [CheckBatch]. A call of many runs stops
	// nobody else for longer than a small one. The runs are not kept or changed after the call.
	QueueTasks(ctx context.Context, runs ...*TaskRun) error

	// GetTaskRuns takes up to max due runs of the queues, the higher priority
	// first and then in the order queued, and prefers the queues named
	// earlier. What it returns is the caller's alone, and its Deliveries count
	// this taking if the broker counts at all. It blocks until one is there or
	// ctx ends; then it returns ctx's error and has taken none.
	GetTaskRuns(ctx context.Context, queues []string, max int) ([]*TaskRun, error)

	// QueueLength returns the number of runs that wait in each queue, those
	// not yet due included and those taken not. Queues that never held a run
	// may be missing. Where some of it cannot be read it returns an error, and
	// beside it what it could read.
	QueueLength(ctx context.Context) (map[string]int64, error)
}

// Leaser is a broker that delivers at least once: what a consumer took stays
// leased to it until it is finished, and goes back to its queue when the
// consumer's lease ends. All methods may be called concurrently.
type Leaser interface {
	// Join makes a session for one consumer. Its lease lasts the given time
	// from each Take or Renew, by the broker's clock.
	Join(ctx context.Context, lease time.Duration) (Session, error)

	// Recover gives back what sessions whose lease has ended hold in the
	// queues, at the head of each, with Deliveries raised by one. A run whose
	// Deliveries it raises again may instead
	// be due some time later, at most a minute. If the broker could not be reached
	// lately, it may leave the sessions another lease to return in. It may run in many processes at once,
	// works in pages, does not let one unreadable run stop the rest, and returns how
	// many runs it gave back.
	Recover(ctx context.Context, queues []string) (Recovered, error)
}

// Recovered is what [Leaser.Recover] did.
type Recovered struct {
	Runs    int                // how many it gave back
	Skipped []SkippedDuplicate // of outcomes of sessions that died, see [Finished]
}

// Session is one consumer's hold on the runs it took. Methods may be called
// concurrently, but Take by one goroutine at a time.
type Session interface {
	// ID names the session; no other session ever has the same.
	ID() string

	// Take leases due runs as want says. It blocks until one is there or ctx
	// ends; then it returns ctx's error, and whatever was leased by a call
	// whose reply was lost is returned by the next Take. Deliveries of a
	// returned run counts this delivery, from 1.
	Take(ctx context.Context, want Want) ([]*TaskRun, error)

	// Renew extends the lease of everything the session holds. It returns
	// [ErrLeaseLost] when some of it was recovered. If it succeeded in some queues
	// and not in others the error may be [QueueErrors] of these.
	Renew(ctx context.Context) error

	// Finish applies each outcome once. Those whose run the session holds no
	// longer are not applied but returned as fenced, which is no error. If a run of
	// a Next is invalid it applies none and returns an error, which wraps
	// [ErrBatchTooLarge] if those of one outcome are more or larger than it stores.
	// Repeating a Finish whose reply was lost is safe: what the first call
	// applied is then reported as fenced. The runtime takes an error for a
	// passing one and tries again until the lease is lost.
	Finish(ctx context.Context, outcomes ...Outcome) (Finished, error)

	// Leave gives back what the session still holds, with Deliveries as they
	// were before it was taken, and ends it.
	Leave(ctx context.Context) error
}

// Finished is what [Session.Finish] did.
type Finished struct {
	Fenced []*TaskRun // runs that the session no longer held, whose outcomes were not applied

	// Skipped are the runs of Next that were not queued, as duplicates, also beside an
	// error. A broker that queues Next after Finish has returned reports what it
	// skipped by a later Finish or Recover.
	Skipped []SkippedDuplicate
}

// SkippedDuplicate is a run of an outcome's Next that was not queued, as a duplicate.
type SkippedDuplicate struct {
	Run    *TaskRun // its Payload and Links may be missing
	LiveID string   // the id of the live run that has its id, or its unique key
}

// Want is what a consumer has room for.
type Want struct {
	Queues []string // in the order of preference
	IO     int      // at most so many runs of kind IO
	CPU    int      // at most so many runs of kind CPU

	// PrefetchIO and PrefetchCPU are how many of IO and CPU have no free slot yet: the
	// consumer executes these runs next. A broker should return them only if the queue
	// holds enough runs for the other sessions that take from it.
	PrefetchIO, PrefetchCPU int
}

// Records is a broker that can tell what became of a run that has Keep set, and
// keeps runs that ended without success as dead letters. All methods may be
// called concurrently.
type Records interface {
	// Record returns what is known of a run. It returns [ErrNoRecord] for an
	// unknown id, a run without Keep, and one whose record has expired.
	Record(ctx context.Context, queue, id string) (*Record, error)

	// WaitRecord blocks until the run has ended or ctx ends, and returns its
	// record, or [ErrNoRecord] as Record does. While the broker's server is away
	// it goes on waiting.
	WaitRecord(ctx context.Context, queue, id string) (*Record, error)

	// DeadLetters returns up to max of the queue's dead letters, the newest
	// first.
	DeadLetters(ctx context.Context, queue string, max int) ([]*DeadLetter, error)
}

// Ticks is a broker that claims and queues a schedule's tick in one step.
// Methods may be called concurrently.
type Ticks interface {
	// QueueTick queues run as the tick of its task at the instant given. It
	// returns [ErrDuplicate], and queues nothing, when that tick or a later
	// one was claimed already. When the run's Unique is that of a live one the
	// tick is claimed, nothing is queued, and the error is a [DuplicateError].
	// While the task is disabled nothing is claimed or queued, and the error is
	// [ErrDisabled].
	QueueTick(ctx context.Context, run *TaskRun, tick time.Time) error

	// LastTick returns the last claimed tick of a task, the zero time if
	// there was none.
	LastTick(ctx context.Context, queue, task string) (time.Time, error)

	// BeginTicks returns what LastTick does, and where that is the zero time
	// claims the tick since, without a run, and returns that: so the task's
	// schedule is known to begin there, though its first tick be missed.
	BeginTicks(ctx context.Context, queue, task string, since time.Time) (time.Time, error)
}

// Clock is a broker with [Ticks] that schedulers can compare their clocks with.
// Methods may be called concurrently.
type Clock interface {
	// Now returns the broker's time.
	Now(ctx context.Context) (time.Time, error)

	// RewindTicks makes to the last claimed tick of a task, or of the schedule with an id
	// unless that is empty, if it is from now: a clock that ran ahead claimed that. It
	// does nothing if another is, and can be repeated.
	RewindTicks(ctx context.Context, queue, task, schedule string, from, to time.Time) error
}

// Policies is a broker that keeps what a run's Unique, Limits and Fair and an
// outcome's Next say. A limit counts runs from their taking until they are
// finished, given back or recovered, so that those of a dead session count no
// longer once its lease has ended. Runs that it holds back still count as waiting,
// and a run that has any is not taken ahead (Want.PrefetchIO, PrefetchCPU). Runs with
// other values of Fair, those without one counting as one value, are taken in
// turn, each value's in the order queued, also among those that wait for a limit.
type Policies interface {
	// Policies returns the policies that the broker keeps. The runtime queues no run
	// with another one. It is called often and must not block.
	Policies() Policy
}

// Policy is a set of policies.
type Policy uint8

// The policies.
const (
	PolicyUnique Policy = 1 << iota // Unique, UniqueFor and UntilStart of [Rules]
	PolicyLimits                    // Limits of [Rules]
	PolicyFair                      // Fair of [Rules]
	PolicyNext                      // Next of [Outcome]

	AllPolicies = PolicyUnique | PolicyLimits | PolicyFair | PolicyNext
)

// Groups is a broker that queues a run once a group of others has ended. Its
// methods may be called concurrently.
type Groups interface {
	// QueueGroup stores members, runs for one queue that name the group then
	// Awaits and their place in it, all of them or none, as QueueTasks does. It
	// queues then, which may be for another queue, in the step that ends the last
	// of them, in whatever way it ends. When the Unique or own id of then is that of
	// a live run the error is a [DuplicateError] with the Index -1. One that GetTaskRuns takes has ended as
	// failed, as nothing more is heard of it. A member that becomes a dead letter
	// has ended; queued again, its success counts instead, as long as the group is
	// known. Until it is queued, then is counted
	// and listed nowhere, but holds its id and unique key, has a record if it has
	// Keep, which is delayed, and can be cancelled: its group is then gathered by
	// none. Its Delay counts from when it is queued, which is its QueuedAt then.
	QueueGroup(ctx context.Context, then *TaskRun, members ...*TaskRun) error

	// Members returns how the members of a group ended, in their order, nil for
	// one that has not, as long as the run that gathers it lives, and while it is
	// a dead letter, for [GroupKept] at most, so that it can be queued again. It
	// returns [ErrNoRecord] for an unknown group, and an error that wraps
	// [ErrGroupTooLarge], before it has read them, when they ended with more than
	// [MaxGroupResults].
	Members(ctx context.Context, group Group) ([]*Record, error)
}

// Controls is a broker that people can look into and steer while it is in use.
// All methods may be called concurrently.
type Controls interface {
	// Pause has no run of the queue handed out from now on, or again those that
	// wait. What was taken already goes on.
	Pause(ctx context.Context, queue string, paused bool) error

	// Disable has no run of the task handed out from now on, though they are
	// queued and wait in their order, and none of its ticks claimed, or enables
	// it again.
	Disable(ctx context.Context, queue, task string, disabled bool) error

	// Cancel ends a run with the given failure. One that waits ends at once, as
	// dropped. One that a session holds is told to the session by
	// [Heartbeater.Heartbeat], and dropped when it is given back, retried or
	// recovered instead of finished. It returns [ErrNoRecord] when no live run
	// has the id.
	Cancel(ctx context.Context, queue, id string, failure Failure) error

	// Queue tells about a queue. Where a part of it cannot be read it returns an
	// error, and beside it the rest.
	Queue(ctx context.Context, queue string) (*QueueInfo, error)

	// Runs returns up to max runs of the queue in a state. Of those that have
	// ended it knows the ones that have a record. Where a part of the queue cannot
	// be read it returns an error, and beside it the runs of the rest.
	Runs(ctx context.Context, queue string, state State, max int) ([]*RunInfo, error)

	// RequeueDead queues the dead letters with these ids again, each as a new run
	// that is due at once, with no attempts and no deliveries, and returns how many
	// it queued. It ignores ids without a dead letter; without ids it does nothing. A
	// dead letter whose Unique or own id is that of a live run stays. RequeueDead then
	// queues the others and returns a [DuplicateError] whose Index is one of ids.
	RequeueDead(ctx context.Context, queue string, ids ...string) (int, error)

	// DeleteDead deletes the dead letters with these ids and returns how many it
	// deleted. It ignores ids without a dead letter; without ids it does nothing.
	DeleteDead(ctx context.Context, queue string, ids ...string) (int, error)
}

// Heartbeater is a [Session] that reports on its runs while they go on, and learns which
// of them were cancelled.
type Heartbeater interface {
	// Heartbeat stores the report and returns the runs of the session that
	// [Controls.Cancel] was called for, at each call until they are finished. The
	// runtime calls it at most a few times a second, and only if it has something to
	// report or runs go on for longer. If it fails for some queues it returns an error,
	// and beside it the runs of the others.
	Heartbeat(ctx context.Context, report Report) (cancelled []*TaskRun, err error)
}

// Starter is a [Session] that frees the unique key of a run with
// [Rules].UntilStart when the run starts. A broker that has [Policies] and leases
// has it, else such a key is free at the run's end.
type Starter interface {
	// Start frees the key, if it is the run's still, and returns once that is
	// stored. It returns false if the session holds the run no longer; the run must
	// not start then. Repeating it is safe, as is calling it concurrently.
	Start(ctx context.Context, run *TaskRun) (held bool, err error)
}

// Sentinels that callers decide on with errors.Is.
var (
	ErrDuplicate = errors.New("a live run has this id already")
	ErrLeaseLost = errors.New("lease lost")
	ErrNoRecord  = errors.New("no record of this run is kept")
	ErrQueueFull = errors.New("the broker refuses more runs")
	ErrClosed    = errors.New("the broker is closed")
	ErrDisabled  = errors.New("the task is disabled")

	// ErrGroupTooLarge is wrapped by the error of reading a group that is never to
	// be read.
	ErrGroupTooLarge = errors.New("the results of the group are too large to be gathered; keep them elsewhere, and return where")

	// ErrUnavailable is what errors.Is finds in the error of a call that a broker
	// whose server is away, or refuses for now, could not do: it may go through later.
	ErrUnavailable = errors.New("the broker is unavailable for now")

	// ErrBatchTooLarge is wrapped by the error of a call whose runs are too many, or
	// too large together; none of them is stored.
	ErrBatchTooLarge = errors.New("the runs of one call are too many or too large together; queue fewer at once")

	// ErrNewer is wrapped by the error of reading a run that a newer version of
	// this package has stored. A broker should leave it as it is to consumers that
	// can read it, for some time.
	ErrNewer = errors.New("a newer version of taskgen wrote it")

	// ErrOutcomeUnknown is wrapped by the error of a QueueTasks whose runs may
	// or may not be stored: the request was sent and its reply has not come.
	ErrOutcomeUnknown = errors.New("whether it was stored is unknown")

	// ErrNotReplicated is wrapped by the error of a QueueTasks or QueueTick
	// whose runs are stored, but not as safely as the broker was asked to: they
	// may run, and may still be lost. To queue them again may run them twice, or,
	// with OwnID and while they live, be refused as ErrDuplicate.
	ErrNotReplicated = errors.New("it is stored, but not as safely as asked")
)
