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
//   - [Schedules]: a schedule's tick is claimed and queued in one step, so any
//     number of schedulers queue it once.
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
	// when a run with OwnID has the id of a live one. The runs are not kept or
	// changed after the call.
	QueueTasks(ctx context.Context, runs ...*TaskRun) error

	// GetTaskRuns takes up to max due runs of the queues, the higher priority
	// first and then in the order queued, and prefers the queues named
	// earlier. What it returns is the caller's alone, and its Deliveries count
	// this taking if the broker counts at all. It blocks until one is there or
	// ctx ends; then it returns ctx's error and has taken none.
	GetTaskRuns(ctx context.Context, queues []string, max int) ([]*TaskRun, error)

	// QueueLength returns the number of runs that wait in each queue, those
	// not yet due included and those taken not. Queues that never held a run
	// may be missing.
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
	// queues, at the head of each, with Deliveries raised by one. It may run
	// in many processes at once, works in pages, does not let one bad entry
	// stop the rest, and returns how many runs it gave back.
	Recover(ctx context.Context, queues []string) (int, error)
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
	// [ErrLeaseLost] when some of it was recovered.
	Renew(ctx context.Context) error

	// Finish applies each outcome once. Those whose run the session holds no
	// longer are not applied but returned as fenced, which is no error.
	// Repeating a Finish whose reply was lost is safe: what the first call
	// applied is then reported as fenced. The runtime takes an error for a
	// passing one and tries again until the lease is lost.
	Finish(ctx context.Context, outcomes ...Outcome) (fenced []*TaskRun, err error)

	// Leave gives back what the session still holds, with Deliveries as they
	// were before it was taken, and ends it.
	Leave(ctx context.Context) error
}

// Want is what a consumer has room for.
type Want struct {
	Queues []string // in the order of preference
	IO     int      // at most so many runs of kind IO
	CPU    int      // at most so many runs of kind CPU

	// AheadIO and AheadCPU are how many of these the consumer has no slot for
	// yet, but would like to have at hand. A broker should return them only as
	// far as enough is left for the other sessions that take from the queue.
	AheadIO, AheadCPU int
}

// Records is a broker that can tell what became of a run that has Keep set, and
// keeps runs that ended without success as dead letters. All methods may be
// called concurrently.
type Records interface {
	// Record returns what is known of a run. It returns [ErrNoRecord] for an
	// unknown id, a run without Keep, and one whose record has expired.
	Record(ctx context.Context, queue, id string) (*Record, error)

	// WaitRecord blocks until the run has ended or ctx ends, and returns its
	// record, or [ErrNoRecord] as Record does.
	WaitRecord(ctx context.Context, queue, id string) (*Record, error)

	// DeadLetters returns up to max of the queue's dead letters, the newest
	// first.
	DeadLetters(ctx context.Context, queue string, max int) ([]*DeadLetter, error)
}

// Schedules is a broker that claims and queues a schedule's tick in one step.
// Methods may be called concurrently.
type Schedules interface {
	// QueueTick queues run as the tick of its task at the instant given. It
	// returns [ErrDuplicate], and queues nothing, when that tick or a later
	// one was claimed already.
	QueueTick(ctx context.Context, run *TaskRun, tick time.Time) error

	// LastTick returns the last claimed tick of a task, the zero time if
	// there was none.
	LastTick(ctx context.Context, queue, task string) (time.Time, error)
}

// Sentinels that callers decide on with errors.Is.
var (
	ErrDuplicate = errors.New("a live run has this id already")
	ErrLeaseLost = errors.New("lease lost")
	ErrNoRecord  = errors.New("no record of this run is kept")
	ErrQueueFull = errors.New("the broker refuses more runs")
	ErrClosed    = errors.New("the broker is closed")

	// ErrOutcomeUnknown is wrapped by the error of a QueueTasks whose runs may
	// or may not be stored: the request was sent and its reply has not come.
	ErrOutcomeUnknown = errors.New("whether it was stored is unknown")

	// ErrNotReplicated is wrapped by the error of a QueueTasks or QueueTick
	// whose runs are stored, but not as safely as the broker was asked to: they
	// may run, and may still be lost. To queue them again may run them twice,
	// or, with OwnID, be refused as ErrDuplicate.
	ErrNotReplicated = errors.New("it is stored, but not as safely as asked")
)
