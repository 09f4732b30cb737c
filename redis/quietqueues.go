package redis

import (
	"sync"
	"time"
)

// quietQueues are looks at queues by commands that cost little, which is nearly all that
// an idle process sends: is there anything at all?
type quietQueues struct {
	mu    sync.Mutex
	since map[string]time.Time // when nothing at all was in a queue, by its name
}

// note notes that a take found nothing at all in a queue.
func (g *quietQueues) note(q *queue, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since[q.Name] = at
}

// wasQuiet reports whether nothing at all was in the queue a moment ago.
func (g *quietQueues) wasQuiet(q *queue, fresh time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.since[q.Name]
	return ok && time.Since(at) < fresh
}
