package broker

import "time"

// Kind is where a task's runs are executed.
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

// TaskRun is one run of a task. A producer queues it, a broker stores it, a consumer
// executes it.
type TaskRun struct {
	ID         string // unique; at most MaxID bytes of printable ASCII
	Task       string // the task's name on the wire
	Queue      string
	Kind       Kind
	Priority   Priority
	OwnID      bool   // the producer chose the id: another run with it is a duplicate while this one lives
	KeepParams bool   // the record keeps the payload too
	Schema     uint32 // a digest of the parameters' wire form as the producer knew it; 0: unknown
	Payload    []byte // the parameters as a MessagePack map keyed by their names

	QueuedAt time.Time     // by the producer's clock
	Due      time.Time     // not before this instant by the broker's clock; zero: at once
	Delay    time.Duration // not before this time after the queueing, by the broker's clock; instead of Due
	Expire   time.Duration // dropped if not started within this of being due; 0: never
	Keep     time.Duration // how long its record is kept after its end; 0: a success has none

	Attempt    int // attempts that have ended; the first execution sees 0
	Deliveries int // how often it was taken, this time included

	// Most runs have none of these. They are apart so that a run, which is made and
	// copied often, is small.
	Rules   *Rules   // nil: none
	Links   *Links   // nil: none
	History *History // nil: no attempt has ended, or none is known

	ParentID string // the run that queued it; empty: none did
	RootID   string // the first of its ancestors; empty: the run itself
	Headers  map[string]string

	// Receipt identifies this delivery to the session that set it in Take. It is not
	// stored.
	Receipt any
}
