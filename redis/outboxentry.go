package redis

import (
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// The end of a run may queue follow-ups in a queue on another node, where the step that ends
// the run cannot store them. The step puts them into the outbox of its own queue. The
// session that has ended the run moves them at once, or else the next recovery does. To
// move an entry twice queues it once, or skips it once: in its own queue the step that
// decides removes the entry, in another queue a key of the entry says so.

const (
	// outboxPage is how many entries one command reads, and outboxBytes how many bytes of
	// them, unless one entry has more.
	outboxPage  = 100
	outboxBytes = 1 << 20
	// newestPages is how many pages of entries that stay each pass reads. If there are more,
	// recoveries read lookPages more from time to time.
	newestPages = 2
	lookPages   = 10
	lookEvery   = 3 * time.Second
	// mostTold is how many errors a pass returns.
	mostTold = 10
	// movedKept is how long a queue remembers that it has got an entry after that was removed
	// from its outbox. stayedKept is how long it does before, as the outbox may be on a
	// node that is down.
	movedKept  = 5 * time.Minute
	stayedKept = 7 * 24 * time.Hour
)

// outboxEntry makes an entry of a run that is valid.
func outboxEntry(run *broker.TaskRun) ([]byte, error) {
	token, err := newID()
	if err != nil {
		return nil, err
	}
	return wire.AppendRun(append(make([]byte, 0, 256+len(run.Payload)), token...), run)
}
