package wire

import (
	"encoding/binary"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// The extension of a stored run has the run's policies for scripts, which do not read the
// envelope:
//
//	2     length of the rest, big endian
//	1, …  length of the fair value, the value
//	1, …  length of the unique key, the key
//	1     number of limits, and for each:
//	1, …  length of its key, the key
//	8     its maximum, big endian
//	8     its time in microseconds, big endian; 0: it limits runs in flight
//
// Each run has exactly one extension. It is compared with the run's envelope.

// maxExact is up to where scripts count exactly: their numbers are doubles.
const maxExact = 1 << 53

// policyFlags returns the header's flags for a run's policies.
func policyFlags(r *broker.TaskRun) (flags byte) {
	if r.Rules == nil {
		return 0
	}
	if r.Rules.Unique != "" {
		flags |= flagUnique
	}
	if r.Rules.Fair != "" || len(r.Rules.Limits) > 0 {
		flags |= FlagWaits
	}
	return flags
}

// HasPolicy reports whether scripts have to apply policies to a run.
func HasPolicy(r *broker.TaskRun) bool { return policyFlags(r) != 0 }

// CountsAtLimits reports whether a run counts at a limit while it is in flight.
func CountsAtLimits(r *broker.TaskRun) bool {
	if r.Rules == nil {
		return false
	}
	for _, l := range r.Rules.Limits {
		if l.Per == 0 {
			return true
		}
	}
	return false
}

// appendExtension appends the extension of a run.
func appendExtension(b []byte, r *broker.TaskRun) []byte {
	at := len(b)
	b = append(b, 0, 0)
	text := func(s string) { b = append(append(b, byte(len(s))), s...) }
	rules := r.Rules.OrZero()
	text(rules.Fair)
	text(rules.Unique)
	b = append(b, byte(len(rules.Limits)))
	for _, l := range rules.Limits {
		text(l.Key)
		b = binary.BigEndian.AppendUint64(b, uint64(ExactMax(l.Max)))
		b = binary.BigEndian.AppendUint64(b, uint64(Micros(l.Per)))
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

// ExactMax is the maximum of a limit, at most what scripts count exactly.
func ExactMax(n int) int64 { return min(int64(n), maxExact) }

// Micros rounds a time up to whole microseconds.
func Micros(d time.Duration) int64 {
	us := d / time.Microsecond
	if d%time.Microsecond > 0 {
		us++
	}
	return min(int64(us), maxExact)
}

// extensionEnd returns where the extension ends that begins at an index.
func extensionEnd(e []byte, at int) (end int, ok bool) {
	if len(e) < at+2 {
		return 0, false
	}
	end = at + 2 + int(binary.BigEndian.Uint16(e[at:]))
	return end, end <= len(e)
}
