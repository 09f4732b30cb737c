package broker

import (
	"context"
	"time"
)

// Records is a [Leaser] that keeps records of runs with Keep, and dead letters.
type Records interface {
	// Record returns the record of a run. It returns [ErrNoRecord] if the id is
	// unknown, the run has no Keep, or its record has expired.
	Record(ctx context.Context, queue, id string) (*Record, error)

	// WaitRecord blocks until the run has ended or ctx ends, and returns the run's
	// record, or [ErrNoRecord] as Record does. It goes on waiting while the backend is
	// away.
	WaitRecord(ctx context.Context, queue, id string) (*Record, error)

	// DeadLetters returns up to max of the queue's dead letters, the newest first.
	DeadLetters(ctx context.Context, queue string, max int) ([]*DeadLetter, error)
}

// Record is what a broker knows of a run.
type Record struct {
	ID       string
	Task     string
	Queue    string
	ParentID string // of the run; distinguishes successive runs with the same id
	State    State
	Attempt  int      // attempts that have ended
	Result   []byte   // of StateSucceeded
	Failure  *Failure // the last one; nil: there was none

	Progress *Progress // the last that the run reported; nil: it reported none

	Successors []RunRef // of StateSucceeded, as the [Outcome] had them: the last of them has the result

	// Times and places for people. A zero one is unknown.
	QueuedAt  time.Time // by the producer's clock
	Due       time.Time // of StateDelayed
	StartedAt time.Time // of StateRunning: when the attempt began, by the consumer's clock
	Host      string    // of StateRunning: the consumer that executes it, as in [Attempt]
	EndedAt   time.Time // of a state that has ended, by the clock of who ended it
	Attempts  []Attempt // that have ended, as in [History]
	Payload   []byte    // the parameters of a run that has ended, if it has KeepParams
}

// State is where a run is in its life.
type State string

// The states of a run. A run that waits for its retry is Delayed.
const (
	StateDelayed   State = "delayed"
	StateQueued    State = "queued"
	StateRunning   State = "running"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"    // also of one that expired or was skipped
	StateCancelled State = "cancelled" // ended with FailureCancelled
)

// Ended reports whether the state is a run's last.
func (s State) Ended() bool {
	return s == StateSucceeded || s == StateFailed || s == StateCancelled
}

// Progress is how far a run has come, by its own account.
type Progress struct {
	Done, Total int64 // Total 0: unknown
	Note        string
}

// Failure is why a run did not succeed.
type Failure struct {
	Kind    FailureKind
	Message string
	Stack   string // of a panic, or of a stopped process; often empty
}

// FailureKind is how a run failed.
type FailureKind string

// The kinds of failure. A broker stores them, and sets FailureDuplicate itself.
const (
	FailureFailed    FailureKind = "failed"    // the task returned an error or panicked
	FailureTimeout   FailureKind = "timeout"   // an attempt took longer than its time limit
	FailureCrashed   FailureKind = "crashed"   // the process ended while it executed the run
	FailureOOM       FailureKind = "oom"       // the run exceeded its memory limit
	FailureCancelled FailureKind = "cancelled" // a person or program cancelled the run
	FailureExpired   FailureKind = "expired"   // the run was not started in time
	FailureSchema    FailureKind = "schema"    // the parameters do not fit the task
	FailureDuplicate FailureKind = "duplicate" // the run was skipped as a duplicate; the message is the id of the live run
	FailureLost      FailureKind = "lost"      // an audit found a record without a run
)

// DeadLetter is a run that has ended without success, kept for people.
type DeadLetter struct {
	ID      string   // the run's; made from the bytes if they could not be read
	Run     *TaskRun // nil if its bytes could not be read
	Raw     []byte   // those bytes
	Failure Failure
	At      time.Time // by the broker's clock; zero if the bytes are no dead letter at all
}
