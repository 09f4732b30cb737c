package redis

import (
	"context"
	"sync"
	"time"
)

// nodeProbes are a session's probes of the nodes of a cluster, each in a goroutine of its
// own: a node that does not answer keeps no take from the others' queues, however short
// the takes' contexts are.
type nodeProbes struct {
	mu      sync.Mutex
	probing map[*queue]bool // their nodes have not answered yet
	found   []*queue        // in which a run waits, or may wait; not taken yet
}

// nodePatience is how long a take waits for nodes that are slow to answer. A later take
// learns of a later answer.
const nodePatience = 100 * time.Millisecond

// begin begins a probe of the queues that no probe is asking about, and returns these.
func (p *nodeProbes) begin(queues []*queue) (begun []*queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range queues {
		if !p.probing[q] {
			set(&p.probing, q, true)
			begun = append(begun, q)
		}
	}
	return begun
}

// end ends the probe of queues, in some of which a run waits.
func (p *nodeProbes) end(queues, found []*queue) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range queues {
		delete(p.probing, q)
	}
	p.found = append(p.found, found...)
}

// takeFound returns the queues that were found since it was last called.
func (p *nodeProbes) takeFound() []*queue {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := p.found
	p.found = nil
	return found
}

// outstanding reports whether a probe has no answer yet, or one that was not taken.
func (p *nodeProbes) outstanding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.probing)+len(p.found) > 0
}

// probeNodes adds hints for the queues of a cluster. A queue that is not announced is
// asked in any case; the nodes of the others are probed every two seconds.
func (s *session) probeNodes(ctx context.Context, hints *queueHints, r room, now time.Time) {
	announced := s.addUnannounced(hints, r)
	if now.Sub(hints.probedAt) >= pollInterval {
		if queues := s.nodeProbes.begin(announced); len(queues) > 0 {
			hints.probedAt = now
			s.startProbes(ctx, queues)
		}
	}
	hints.add(s.nodeProbes.takeFound())
}

// addUnannounced adds hints for the queues whose producers do not know that somebody waits,
// and returns the others. It leaves out queues that fail.
func (s *session) addUnannounced(hints *queueHints, r room) (announced []*queue) {
	for _, q := range hints.queues {
		switch {
		case s.failing.avoids(q):
		case !s.isAnnounced(q, r):
			hints.toAsk[q] = true
		default:
			announced = append(announced, q)
		}
	}
	return announced
}

// startProbes starts a probe of each node that has some of the queues, and waits a little
// for them.
func (s *session) startProbes(ctx context.Context, queues []*queue) {
	nodes := s.b.byNode(ctx, queues)
	over := make(chan struct{}, len(nodes))
	for _, indexes := range nodes {
		some := pick(queues, indexes)
		if !s.b.clients.Spawn(func() { s.probeNode(some); over <- struct{}{} }) {
			s.nodeProbes.end(some, nil)
			over <- struct{}{}
		}
	}
	timer := time.NewTimer(nodePatience)
	defer timer.Stop()
	for range nodes {
		select {
		case <-over:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// probeNode asks in which of a node's queues a run waits. A queue that cannot be asked
// counts as one with runs: its own commands report why.
func (s *session) probeNode(queues []*queue) {
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.Timeout)
	defer cancel()
	found, err := s.b.queuesHaving(ctx, queues, queuedKeys)
	if err != nil && !s.b.clients.IsClosed() {
		s.avoidNode(queues, err)
	}
	s.nodeProbes.end(queues, found)
}
