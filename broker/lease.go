package broker

import (
	"context"
	"time"
)

// Leaser is a broker that delivers runs at least once: a run stays leased to the
// consumer that took it until it is finished, and returns to its queue if the
// consumer's lease ends.
type Leaser interface {
	// OpenSession opens a session for one consumer. Its lease lasts for the given time from
	// each Take or Renew, by the broker's clock.
	OpenSession(ctx context.Context, lease time.Duration) (Session, error)

	// Recover returns the runs of sessions whose lease has ended to the head of their
	// queues, with Deliveries raised by one. A run that was recovered before may be due
	// up to a minute later instead. If the backend could not be reached lately, Recover
	// may give the sessions one more lease to return in.
	//
	// It may run in many processes at once, works in pages, and is not stopped by one
	// unreadable run. Beside an error it returns what it did.
	Recover(ctx context.Context, queues []string) (Recovered, error)
}

// Recovered is what [Leaser.Recover] did.
type Recovered struct {
	Runs    int                // returned to their queues
	Skipped []SkippedDuplicate // see [Finished]
}

// Session is one consumer's membership with the broker: it holds the runs that the consumer
// took, while its lease lasts. A session may also be a [Heartbeater] and a [Starter].
type Session interface {
	// ID returns the session's id. No other session ever has the same.
	ID() string

	// Take leases due runs, as want says. The Deliveries of a returned run include this
	// one, so they are 1 at least. Take is called by one goroutine at a time.
	//
	// It blocks until a run is due or ctx ends. In the second case it returns ctx's
	// error; if runs were leased by a call whose reply was lost, the next Take returns
	// them.
	Take(ctx context.Context, want Want) ([]*TaskRun, error)

	// Renew extends the lease of all runs of the session. It returns an error that wraps
	// [ErrLeaseLost] if some of them were recovered. If it fails for some queues only, the
	// error may be a [QueueErrors].
	Renew(ctx context.Context) error

	// Finish applies each outcome once, and reports those of runs that the session holds
	// no longer as fenced.
	//
	// After an error, some of the outcomes may have been applied. Repeating the call with
	// the same outcomes is safe: it applies the others. It may report those applied before
	// as fenced.
	//
	// If an outcome is invalid, or a run of its Next, Finish returns an error and applies
	// none of them. The error wraps [ErrBatchTooLarge] if [CheckBatch] does so for a Next.
	// The runtime repeats a Finish that returned an error until the lease is lost.
	Finish(ctx context.Context, outcomes ...Outcome) (Finished, error)

	// Close returns the runs that the session still holds to their queues, with
	// Deliveries as before they were taken, and ends the session.
	Close(ctx context.Context) error
}

// Want is the room that a consumer has for runs.
type Want struct {
	Queues []string // in the order of preference
	IO     int      // at most this many runs of kind IO
	CPU    int      // at most this many runs of kind CPU

	// PrefetchIO and PrefetchCPU are how many of IO and CPU have no free slot yet: the
	// consumer executes these runs next. A broker should return them only if the queue
	// holds enough runs for the other sessions that take from it.
	PrefetchIO, PrefetchCPU int

	// Limits are those of the consumer's program; nil: it has none. A broker with
	// [PolicyLimits] applies them.
	Limits *ProgramLimits
}

// Verdict is what becomes of a run that was taken.
type Verdict int8

// The verdicts.
const (
	Succeeded Verdict = iota // the run has ended well
	Dead                     // the run has ended with Failure and becomes a dead letter
	Dropped                  // the run has ended with Failure; no dead letter is kept
	Retry                    // the run returns to its queue as Outcome.Run is now, due after Delay
)

// Outcome is the end of one delivery of a run.
type Outcome struct {
	Run     *TaskRun
	Verdict Verdict

	// ForOthers is set on a Retry with a Delay if this session cannot execute the run, and
	// another perhaps can. Once the run is due, a broker should give it to another session
	// that waits, if there is one.
	ForOthers bool

	Result  []byte        // of a success, kept for Run.Keep
	Failure *Failure      // of any other verdict; for Retry the record shows it
	Delay   time.Duration // of a Retry, by the broker's clock; 0 puts the run at the head of its queue

	// Next are runs that a success queues in the same step, so that they are queued if
	// and only if the outcome is applied. They may be for other queues, and may have the
	// id and unique key of the run itself, which has ended.
	//
	// A run of Next whose id or unique key is that of a live run is skipped. If it has
	// Keep, the broker keeps a record that it failed as [FailureDuplicate], unless a live
	// run with its id has a record.
	//
	// A run of Next with [Links].Members gathers a group, which a broker with [Groups] queues
	// in the same step.
	Next []*TaskRun

	// Call is what takes the place of a run that succeeded by returning a call; nil for any
	// other.
	Call *ReturnedCall
}

// ReturnedCall is the call that a run returned.
type ReturnedCall struct {
	// Successors are queued one after the other, the first by Next of the [Outcome]. The record
	// of the run that returned the call names them.
	Successors []RunRef
}

// OrZero returns what c points to, or a call without successors if it is nil.
func (c *ReturnedCall) OrZero() ReturnedCall {
	if c == nil {
		return ReturnedCall{}
	}
	return *c
}

// RunRef names a run.
type RunRef struct {
	Queue string
	ID    string
}

// Finished is what [Session.Finish] did.
type Finished struct {
	Fenced []*TaskRun // runs that the session no longer held; their outcomes were not applied

	// Skipped are runs of Next that were not queued, as duplicates. It is set beside an
	// error too. A broker that queues Next after Finish has returned reports what it
	// skipped by a later Finish or Recover.
	Skipped []SkippedDuplicate
}

// SkippedDuplicate is a run of an outcome's Next that was not queued, as a duplicate.
type SkippedDuplicate struct {
	Run    *TaskRun // its Payload and Links may be missing
	LiveID string   // of the live run that has its id, or its unique key
}

// Heartbeater is a [Session] that reports on its runs while they go on, and learns which
// of them were cancelled. The sessions of a broker with [Controls] are Heartbeaters.
type Heartbeater interface {
	// Heartbeat stores the report and returns the runs of the session that
	// [Controls.Cancel] was called for, at each call until they are finished. The
	// runtime calls it at most a few times a second, and only if it has something to
	// report or runs go on for longer. If it fails for some queues it returns an error,
	// and beside it the runs of the others.
	Heartbeat(ctx context.Context, report Report) (cancelled []*TaskRun, err error)
}

// Report is what a session reports on its runs.
type Report struct {
	Progress []ProgressReport // of runs the session holds that have a record
	Last     []LastRun        // of runs that have ended, at most one of each task and queue
}

// ProgressReport is the progress of one run.
type ProgressReport struct {
	Run *TaskRun
	Progress
}

// Starter is a [Session] that frees the unique key of a run with UntilStart when the
// run starts. The sessions of a broker that keeps [PolicyUnique] are Starters.
type Starter interface {
	// Start frees the unique key, if the run still has it, and returns once that is
	// stored. It returns false if the session holds the run no longer; the run must not
	// start then. Repeating it is safe.
	Start(ctx context.Context, run *TaskRun) (held bool, err error)
}
