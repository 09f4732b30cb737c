package broker

import "time"

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
	OwnID    bool   // the producer chose the id: a live run with the same id is a duplicate
	Schema   uint32 // a digest of the parameters' wire form as the producer knew it; 0: unknown
	Payload  []byte // the parameters as a MessagePack map keyed by their names

	QueuedAt time.Time     // by the producer's clock
	Due      time.Time     // not before this instant by the broker's clock; zero: at once
	Delay    time.Duration // not before this time after the queueing, by the broker's clock; instead of Due
	Expire   time.Duration // not started within this of being due: dropped; 0: never
	Keep     time.Duration // how long its record is kept after its end; 0: none is kept of a success

	Attempt    int // attempts that have ended; the first execution sees 0
	Deliveries int // how often it was taken, this time included, once it was taken

	// Most runs have neither of these, and a run is made, copied and collected so
	// often that its size is felt: so they are apart.
	Rules *Rules // what holds it back; nil: nothing does
	Links *Links // the runs that it belongs together with; nil: none

	ParentID string // the run that queued it, if one did
	RootID   string // the first of that line; empty: this one is
	Headers  map[string]string

	// Receipt is how the broker recognises this delivery; it is the session's
	// own, set by Take, and not stored.
	Receipt any
}

// Rules are what holds back a run, or keeps it out. Runs may share them: who
// changes those of a copy replaces them.
type Rules struct {
	Unique     string        // while a run with this key lives in the queue, another with it is a duplicate; empty: none is
	UniqueFor  time.Duration // this long after being due the key is free again, though the run lives; 0: at its end
	UntilStart bool          // the key of Unique is free again once the run has started, see [Starter]
	Limits     []Limit       // what holds back its start, at most MaxLimits
	Fair       string        // runs of one queue, kind and priority are taken in turn over the values of this
}

// OrZero returns the rules, the zero value for nil.
func (r *Rules) OrZero() Rules {
	if r == nil {
		return Rules{}
	}
	return *r
}

// EnsureRules returns the run's rules, which it makes where there are none.
func (r *TaskRun) EnsureRules() *Rules {
	if r.Rules == nil {
		r.Rules = new(Rules)
	}
	return r.Rules
}

// Links are what ties a run to others. Runs may share them: who changes those of a
// copy replaces them.
type Links struct {
	Group  string // the group it is a member of, if of one
	Member int    // its place in the group, from 0
	Awaits Group  // the group that it is queued after, if it is

	Then []Continuation // what its success queues, at most MaxThen; the runtime makes Outcome.Next of it
}

// OrZero returns the links, the zero value for nil.
func (l *Links) OrZero() Links {
	if l == nil {
		return Links{}
	}
	return *l
}

// EnsureLinks returns the run's links, which it makes where there are none.
func (r *TaskRun) EnsureLinks() *Links {
	if r.Links == nil {
		r.Links = new(Links)
	}
	return r.Links
}

// Limit bounds the runs of a queue that share its key. A run that is over one of
// its limits when its turn comes waits, unpunished, behind those of its key that
// wait already, and holds up no others.
type Limit struct {
	Key string        // shared by the runs that count together
	Max int           // at least 1
	Per time.Duration // zero: at most Max are held by sessions at once; else at most Max are taken within any time this long, by the broker's clock
}

// Continuation is a run that waits for another's success.
type Continuation struct {
	Run   *TaskRun
	Param string // its parameter that gets the other's result; empty: none does
	Keyed bool   // its policies go by parameters, so they are to be made anew with the result
}

// GroupKept is for how long after the run that gathers a group became a dead letter
// the group is known, so that it can be gathered by that run queued again.
const GroupKept = 7 * 24 * time.Hour

// Group names a group of runs, for the run that is queued once all of them have ended.
type Group struct {
	ID    string // empty: none
	Queue string // of its members
	Size  int    // how many there are

	Param   string // the run's parameter that gets their results; empty: none does
	Partial bool   // the run takes what the members that succeeded have; else it fails when one failed
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

	// ForOthers says of a Retry with a Delay that this session cannot execute the
	// run, and another perhaps can. Once it is due, the broker should hand it to
	// another session that waits, if there is one, lest it be this one again and
	// again.
	ForOthers bool

	Result  []byte        // of a success, kept for Run.Keep
	Failure *Failure      // of anything else; for Retry what the record shows meanwhile
	Delay   time.Duration // of a Retry, by the broker's clock; 0 puts it at the head of its queue

	// Next are runs that a success queues, in the same step, so that they are
	// queued if and only if it counts. They may be for other queues. One that is
	// a duplicate is skipped; of the run itself, which has ended, none is. What was
	// skipped [Finished] reports, and if it has Keep, and no live
	// run with its id has a record, its own is that it failed as FailureDuplicate.
	Next []*TaskRun
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
	ID       string
	Task     string
	Queue    string
	ParentID string // as of the run; it tells apart runs that have one id after the other
	State    State
	Attempt  int      // attempts that have ended
	Result   []byte   // of StateSucceeded
	Failure  *Failure // the last one, nil if there was none

	Progress *Progress // what the run said last of how far it is, nil if it said nothing
}

// Progress is how far a run says it is.
type Progress struct {
	Done, Total int64 // Total 0: unknown
	Note        string
}

// DeadLetter is a run that has ended without success, kept for people.
type DeadLetter struct {
	ID      string   // the run's; of bytes that could not be read, one made from them
	Run     *TaskRun // nil when its bytes could not be read
	Raw     []byte   // those bytes
	Failure Failure
	At      time.Time // by the broker's clock; zero of bytes that are no dead letter at all
}
