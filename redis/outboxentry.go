package redis

import (
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// What an end queues may be for a queue on another node, where the step that ends
// cannot store it. So it puts it into the outbox of its own queue, from where
// whoever comes first moves it on: who has ended the run, at once, or the next
// recovery. To move it twice stores it once, or leaves it out once: in its own
// queue the entry is removed in the step that decides, in another a key of the
// entry's tells.

const (
	// outboxPage is how many entries are read in one command, and outboxBytes how
	// many bytes of them, unless one alone has more.
	outboxPage  = 100
	outboxBytes = 1 << 20
	// newestPages is how many pages of what stays are read at each end that has
	// something follow it, and lookPages how many more by a recovery, if there
	// are more than these, every so often.
	newestPages = 2
	lookPages   = 10
	lookEvery   = 3 * time.Second
	// mostTold is how many of its errors a pass tells.
	mostTold = 10
	// movedKept is for how long a queue knows that it has got an entry, after that
	// was removed where it came from; stayedKept until that has been done, which
	// it may not be while the node of the one is down.
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
