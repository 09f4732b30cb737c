package wire

import (
	"strings"

	"github.com/taskgen/taskgen/broker"
)

// PendingRun is what the key of a pending run holds.
type PendingRun struct {
	Token        string // of the entry of the outbox that the end of the group adds
	Queue, Group string // what it awaits
	Stored       string // the run, as far as it takes to end it: AppendPendingRun
}

// AppendPendingRun appends the value of a pending run's key. The run is without its parameters
// and what follows it: these stand in the group. The rest ends the run if the group is lost.
func AppendPendingRun(b []byte, token string, run *broker.TaskRun) ([]byte, error) {
	awaits := run.Links.OrZero().Awaits
	b = append(append(append(append(append(b, token...), awaits.Queue...), ' '), awaits.ID...), ' ')
	bare, links := *run, run.Links.OrZero()
	links.Members, links.Then = nil, nil
	bare.Payload, bare.Headers, bare.Links = nil, nil, &links
	return AppendRun(b, &bare)
}

// ParsePendingRun reads such a value. It returns false if that is none.
func ParsePendingRun(value string) (p PendingRun, ok bool) {
	if len(value) < TokenDigits {
		return p, false
	}
	queue, rest, ok := strings.Cut(value[TokenDigits:], " ")
	group, stored, whole := strings.Cut(rest, " ")
	return PendingRun{Token: value[:TokenDigits], Queue: queue, Group: group, Stored: stored}, ok && whole
}
