package redis

import (
	"context"
	"sync"
	"time"
)

// apart is the looks of a session at the nodes of a cluster, each in a goroutine of its
// own: a node that does not answer keeps no take from the others' queues, however short
// the takes' contexts are.
type apart struct {
	mu      sync.Mutex
	looking map[*queue]bool // at their nodes
	found   []*queue        // in which a run waits, or may wait
}

// lookPatience is for how long a take waits for nodes that are slow to answer. What
// they answer later the next take learns.
const lookPatience = 100 * time.Millisecond

// lookApart is lookAround for a cluster, where each queue has tokens of its own: those
// that do not know that somebody waits are asked, whatever is in them.
func (s *session) lookApart(ctx context.Context, k *seek, r room, now time.Time) {
	defer func() {
		for _, q := range s.apart.take() {
			k.maybe[q] = true
		}
	}()
	var others []*queue
	for _, q := range k.queues {
		switch {
		case s.troubles.has(q):
		case !s.hasTold(q, r):
			k.maybe[q] = true
		default:
			others = append(others, q)
		}
	}
	if now.Sub(k.looked) < longestNap {
		return
	}
	if others = s.apart.begin(others); len(others) == 0 {
		return
	}
	k.looked = now
	groups := s.b.byNode(ctx, others)
	over := make(chan struct{}, len(groups))
	for _, group := range groups {
		queues := make([]*queue, len(group))
		for i, n := range group {
			queues[i] = others[n]
		}
		if !s.b.clients.Spawn(func() { s.lookAtNode(queues); over <- struct{}{} }) {
			s.apart.end(queues, nil)
			over <- struct{}{}
		}
	}
	timer := time.NewTimer(lookPatience)
	defer timer.Stop()
	for range groups {
		select {
		case <-over:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// lookAtNode learns in which of a node's queues a run waits. A queue that cannot be
// asked counts as one with runs: its own commands report why.
func (s *session) lookAtNode(queues []*queue) {
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.Timeout)
	defer cancel()
	waiting, err := s.b.having(ctx, queues, waitKeys)
	if err != nil && !s.b.clients.IsClosed() {
		s.passBy(queues, err)
	}
	s.apart.end(queues, waiting)
}

// begin returns those of the queues at which nothing looks, which are looked at from now on.
func (a *apart) begin(queues []*queue) (rest []*queue) {
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
func (a *apart) end(queues, waiting []*queue) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, q := range queues {
		delete(a.looking, q)
	}
	a.found = append(a.found, waiting...)
}

// take returns what was found since it was last called.
func (a *apart) take() []*queue {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := a.found
	a.found = nil
	return found
}

// waits reports whether a look has no answer yet, or one that was not taken.
func (a *apart) waits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.looking)+len(a.found) > 0
}
