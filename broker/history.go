package broker

import "time"

// Limits of a [History].
const (
	MaxHistory        = 10  // attempts
	MaxAttemptMessage = 512 // bytes
	MaxHost           = 128 // bytes
)

// History is what is known of the attempts of a run that have ended. The runtime adds to
// it before it reports an [Outcome]; a broker stores it with the run, in its record and in
// its dead letter.
type History struct {
	Attempts []Attempt // the last MaxHistory, the oldest first

	// Due is when the run is due again after a retry or a snooze, by the clock of the
	// consumer that asked for it. If the run was queued after that, or Due is zero, the run
	// waits since it was first due.
	Due time.Time
}

// OrZero returns the history, or the zero value for nil.
func (h *History) OrZero() History {
	if h == nil {
		return History{}
	}
	return *h
}

// Attempt is one attempt of a run that has ended.
type Attempt struct {
	Started time.Time     // by the consumer's clock; zero: unknown, as its process died
	Took    time.Duration // 0: unknown
	Host    string        // the consumer: its host name, a colon and its process id; empty: unknown
	Kind    FailureKind   // empty: it succeeded
	Message string        // why it failed, without the stack
}
