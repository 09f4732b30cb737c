package redis

import (
	"sync"
	"time"
)

// quietQueues are the queues of which a take or a probe found that there is nothing in
// them at all.
type quietQueues struct {
	mu    sync.Mutex
	since map[string]time.Time // by name: when there was nothing in the queue
}

// note notes that there was nothing at all in a queue.
func (qs *quietQueues) note(q *queue, at time.Time) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.since[q.Name] = at
}

// wasQuiet reports whether nothing at all was in the queue less than fresh ago.
func (qs *quietQueues) wasQuiet(q *queue, fresh time.Duration) bool {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	at, ok := qs.since[q.Name]
	return ok && time.Since(at) < fresh
}
