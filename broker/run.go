package broker

import (
	"time"
)

// Kind tells where a task's runs are executed.
type Kind int8

// The two kinds of task.
const (
	IO  Kind = iota // on a goroutine of the consumer
	CPU             // in a child process of the consumer
)

func (k Kind) String() string {
	if k == CPU {
		return "cpu"
	}
	return "io"
}

// Priority orders the runs of one queue: higher ones are taken first.
type Priority int8

// The three priorities; the zero value is Medium.
const (
	Low    Priority = -1
	Medium Priority = 0
	High   Priority = 1
)

func (p Priority) String() string {
	switch {
	case p > Medium:
		return "high"
	case p < Medium:
		return "low"
	}
	return "medium"
}

// TaskRun is one run of a task: what a producer queues, a broker stores and a
// consumer executes.
type TaskRun struct {
	ID       string // unique; at most MaxID bytes of printable ASCII
	Task     string // the task's name on the wire
	Queue    string
	Kind     Kind
	Priority Priority
	Payload  []byte // the parameters as a MessagePack map keyed by their names

	QueuedAt time.Time     // by the producer's clock
	Due      time.Time     // not before this instant by the broker's clock; zero: at once
	Delay    time.Duration // not before this time after the queueing, by the broker's clock; instead of Due
	Expire   time.Duration // not started within this of being due: dropped; 0: never
	Keep     time.Duration // how long its record is kept after its end; 0: none is kept of a success
	OwnID    bool          // the producer chose the id: a live run with the same id is a duplicate

	Attempt    int // attempts that have ended; the first execution sees 0
	Deliveries int // how often it was taken, this time included, once it was taken

	ParentID string // the run that queued it, if one did
	RootID   string // the first of that line; empty: this one is
	Headers  map[string]string

	// Receipt is how the broker recognises this delivery; it is the session's
	// own, set by Take, and not stored.
	Receipt any
}

// Verdict says what a session is to do with a run.
type Verdict int8

// What can become of a run that was taken.
const (
	Succeeded Verdict = iota // it has ended well
	Dead                     // it has ended with Failure and becomes a dead letter
	Dropped                  // it has ended with Failure, of which no dead letter is kept: cancelled, expired
	Retry                    // it goes back as Outcome.Run is now, due after Delay
)

// Outcome is what became of one delivery of a run.
type Outcome struct {
	Run     *TaskRun
	Verdict Verdict
	Result  []byte        // of a success, kept for Run.Keep
	Failure *Failure      // of anything else; for Retry what the record shows meanwhile
	Delay   time.Duration // of a Retry, by the broker's clock; 0 puts it at the head of its queue
}

// Failure is why a run did not succeed.
type Failure struct {
	Kind    string // failed, timeout, crashed, oom, cancelled, expired or schema
	Message string
	Stack   string // of a panic, or of a stopped process; often empty
}

// State is where a run is in its life.
type State string

// The states of a run. A run that waits for its retry is Delayed.
const (
	StateDelayed   State = "delayed"
	StateQueued    State = "queued"
	StateRunning   State = "running"
	StateSucceeded State = "succeeded"
	StateFailed    State = "failed"
)

// Ended reports whether no more can become of a run in this state.
func (s State) Ended() bool { return s == StateSucceeded || s == StateFailed }

// Record is what a broker knows of a run.
type Record struct {
	ID      string
	Task    string
	Queue   string
	State   State
	Attempt int      // attempts that have ended
	Result  []byte   // of StateSucceeded
	Failure *Failure // the last one, nil if there was none
}

// DeadLetter is a run that has ended without success, kept for people.
type DeadLetter struct {
	Run     *TaskRun // nil when its bytes could not be read
	Raw     []byte   // those bytes
	Failure Failure
	At      time.Time // by the broker's clock
}
