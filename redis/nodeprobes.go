package redis

import (
	"sync"
	"time"
)

// nodeProbes is the looks of a session at the nodes of a cluster, each in a goroutine of its
// own: a node that does not answer keeps no take from the others' queues, however short
// the takes' contexts are.
type nodeProbes struct {
	mu      sync.Mutex
	looking map[*queue]bool // at their nodes
	found   []*queue        // in which a run waits, or may wait
}

// nodePatience is for how long a take waits for nodes that are slow to answer. What
// they answer later the next take learns.
const nodePatience = 100 * time.Millisecond

// begin returns those of the queues at which nothing looks, which are looked at from now on.
func (a *nodeProbes) begin(queues []*queue) (rest []*queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.looking == nil {
		a.looking = map[*queue]bool{}
	}
	for _, q := range queues {
		if !a.looking[q] {
			a.looking[q] = true
			rest = append(rest, q)
		}
	}
	return rest
}

// end ends the look at queues, in some of which a run waits.
func (a *nodeProbes) end(queues, waiting []*queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, q := range queues {
		delete(a.looking, q)
	}
	a.found = append(a.found, waiting...)
}

// take returns what was found since it was last called.
func (a *nodeProbes) take() []*queue {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := a.found
	a.found = nil
	return found
}

// waits reports whether a look has no answer yet, or one that was not taken.
func (a *nodeProbes) waits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.looking)+len(a.found) > 0
}
