package redis

import (
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// The end of a run may queue follow-ups in a queue on another node, where the step that ends
// the run cannot store them. The step puts them into the outbox of its own queue. The
// session that has ended the run moves them at once, or else the next recovery does. An
// entry that is moved twice is queued once, or skipped once: if it is for its own queue, the
// step that stores it removes it from the outbox; any other queue sets a key of the entry.

const (
	// outboxPage is how many entries one command reads, and outboxBytes how many bytes of
	// them, unless one entry has more.
	outboxPage  = 100
	outboxBytes = 1 << 20
	// newestPages is how many pages of entries that stay each pass reads. If there are more,
	// a recovery reads scanPages of the others every scanEvery.
	newestPages = 2
	scanPages   = 10
	scanEvery   = 3 * time.Second
	// maxPassErrors is how many errors a pass returns at most.
	maxPassErrors = 10
	// A queue remembers the entries that it has stored, so that it stores none twice: for
	// movedKept after an entry was removed from its outbox, and for stayedKept until then,
	// as the outbox may be on a node that is down.
	movedKept  = 5 * time.Minute
	stayedKept = 7 * 24 * time.Hour
)

// outboxEntry makes an entry of a run that is valid.
func outboxEntry(run *broker.TaskRun) ([]byte, error) {
	token, err := newID()
	if err != nil {
		return nil, err
	}
	return entryOf(token, run)
}

// tokenOf returns the token of an entry.
func tokenOf(entry string) string { return entry[:wire.TokenDigits] }

// entryOf makes the entry of a run that has a token.
func entryOf(token string, run *broker.TaskRun) ([]byte, error) {
	return wire.AppendRun(append(make([]byte, 0, 256+len(run.Payload)), token...), run)
}
