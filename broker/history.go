package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/codec"
)

// Limits of a [History].
const (
	MaxHistory        = 10  // attempts
	MaxAttemptMessage = 512 // bytes
	MaxHost           = 128 // bytes
)

// maxKind bounds the kind of an attempt's failure, in bytes.
const maxKind = 32

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

// Add returns a history with one attempt more, which is cut to the limits. It does not
// change h, which may be nil.
func (h *History) Add(a Attempt) *History {
	if h == nil { // most runs need no second attempt: one allocation
		first := &struct {
			History
			attempts [1]Attempt
		}{attempts: [1]Attempt{a.bounded()}}
		first.Attempts = first.attempts[:]
		return &first.History
	}
	before := h.OrZero().Attempts
	before = before[max(0, len(before)-MaxHistory+1):]
	attempts := make([]Attempt, len(before), len(before)+1)
	copy(attempts, before)
	return &History{Attempts: append(attempts, a.bounded()), Due: h.OrZero().Due}
}

// Clone returns a copy that shares no memory with h.
func (h *History) Clone() *History {
	if h == nil {
		return nil
	}
	return &History{Attempts: slices.Clone(h.Attempts), Due: h.Due.Round(0).UTC()}
}

// Attempt is one attempt of a run that has ended.
type Attempt struct {
	Started time.Time     // by the consumer's clock; zero: unknown, as its process died
	Took    time.Duration // 0: unknown
	Host    string        // the consumer: its host name, a colon and its process id; empty: unknown
	Kind    FailureKind   // empty: it succeeded
	Message string        // why it failed, without the stack
}

// bounded returns the attempt within the limits. It cuts texts, and leaves out a time that
// cannot be stored.
func (a Attempt) bounded() Attempt {
	a.Host, a.Message = cutText(a.Host, MaxHost), cutText(a.Message, MaxAttemptMessage)
	a.Kind = FailureKind(cutText(string(a.Kind), maxKind))
	if checkTime("started", a.Started) != nil {
		a.Started = time.Time{}
	}
	a.Started = a.Started.Round(0).UTC()
	a.Took = max(0, a.Took)
	return a
}

// cutText returns the first bytes of a text, with a question mark for those that are not UTF-8.
func cutText(s string, max int) string {
	return strings.ToValidUTF8(s[:min(len(s), max)], "?")
}

func (h *History) validate() error {
	if err := checkTime("due again", h.Due); err != nil {
		return err
	}
	if len(h.Attempts) > MaxHistory {
		return fmt.Errorf("a history of %d attempts, at most %d are allowed", len(h.Attempts), MaxHistory)
	}
	for _, a := range h.Attempts {
		if bounded := a.bounded(); bounded.Host != a.Host || bounded.Kind != a.Kind || bounded.Message != a.Message ||
			!bounded.Started.Equal(a.Started) || bounded.Took != a.Took {
			return fmt.Errorf("an attempt of its history has a text that is too long or not UTF-8, or a time that cannot be stored; History.Add cuts them")
		}
	}
	return nil
}

// attemptValues is how many values of the array of AppendAttempts one attempt has.
const attemptValues = 5

// AppendAttempts appends the stored form of attempts to b: a MessagePack array of the start,
// the time taken, the host, the kind and the message of each, one behind the other.
func AppendAttempts(b []byte, attempts []Attempt) []byte {
	b = codec.AppendArrayLen(b, attemptValues*len(attempts))
	for _, a := range attempts {
		b = codec.AppendInt(codec.AppendInt(b, unixNano(a.Started)), int64(a.Took))
		b = codec.AppendString(codec.AppendString(codec.AppendString(b, a.Host), string(a.Kind)), a.Message)
	}
	return b
}

// ReadAttempts reads what AppendAttempts wrote. It cuts what exceeds the limits: a run can be
// executed whatever its history says, and a later version may say more.
func ReadAttempts(in *codec.Reader) []Attempt {
	n := in.ArrayLen()
	if n%attemptValues != 0 {
		in.Fail(fmt.Errorf("a history of %d values, which is not a multiple of %d", n, attemptValues))
		return nil
	}
	for ; n > attemptValues*MaxHistory && in.More(); n-- {
		in.Skip()
	}
	if n == 0 || !in.More() {
		return nil
	}
	attempts := make([]Attempt, 0, n/attemptValues)
	for ; n > 0 && in.More(); n -= attemptValues {
		a := Attempt{Started: fromUnixNano(in.Int64()), Took: in.Duration()}
		a.Host, a.Kind, a.Message = readText(in, MaxHost), FailureKind(readText(in, maxKind)), readText(in, MaxAttemptMessage)
		attempts = append(attempts, a.bounded())
	}
	return attempts
}

// readText reads a text, and copies no more than its first bytes.
func readText(in *codec.Reader, max int) string {
	b := in.Text()
	return string(b[:min(len(b), max)])
}
