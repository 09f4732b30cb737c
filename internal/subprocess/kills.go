package subprocess

import (
	"maps"
	"sync"

	"github.com/taskgen/taskgen/broker"
)

// Kills counts child processes that were killed, by the reason: the kind of an
// [ExitError], or "start" for one that did not become ready. Children that end because they
// are not needed any more do not count. Its methods may be called concurrently.
type Kills struct {
	mu     sync.Mutex
	counts map[string]int64
}

// Counts returns how many children were killed so far.
func (k *Kills) Counts() map[string]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.counts)
}

func (k *Kills) add(reason string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.counts == nil {
		k.counts = make(map[string]int64)
	}
	k.counts[reason]++
}

// countKill counts the kill of a child. The child's lock is held.
func (c *child) countKill(kind broker.FailureKind) {
	switch {
	case c.run != nil:
		c.pool.cfg.Kills.add(string(kind))
	case !isClosed(c.ready):
		c.pool.cfg.Kills.add("start")
	case kind == Protocol:
		c.pool.cfg.Kills.add(string(kind))
	}
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Children returns how many child processes there are, those included that start or end.
func (p *Pool) Children() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.children)
}
