package redis

import (
	"context"
	"sync"
	"time"
)

// countedNames are the names of queues as they were last read, and how many there were.
type countedNames struct {
	mu    sync.Mutex
	names []string
	n     int64
	at    time.Time
}

// namesFor is how long ScheduleChanges relies on the names of queues that it read.
const namesFor = 10 * time.Second

// queueNames is the names of all queues as they were last read.
type queueNames struct {
	mu    sync.Mutex
	names []string
	until time.Time
}

func (n *queueNames) get(ctx context.Context, read func(context.Context) ([]string, error)) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.until) {
		return n.names, nil
	}
	names, err := read(ctx)
	if err == nil {
		n.names, n.until = names, time.Now().Add(namesFor)
	}
	return n.names, err
}

// unregistered are the queues whose names could not be added to the set of names, which on
// a cluster is on a node of its own. One goroutine tries again until they are: the queue
// may get no further run, and a consumer that takes from a pattern would never see it.
type unregistered struct {
	mu     sync.Mutex
	names  map[string]bool
	trying bool
}

// over reports whether no name is left; the goroutine ends then.
func (u *unregistered) over() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.trying = len(u.names) > 0
	return !u.trying
}
