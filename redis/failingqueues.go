package redis

import (
	"sync"
	"time"
)

// failingQueues are queues that a session cannot take from, while it takes from others: a
// key is of a wrong type, or the node of a cluster is down. The session avoids them for a
// while, and then tries again.
type failingQueues struct {
	mu        sync.Mutex
	byQueue   map[*queue]*failingQueue
	loggedAt  map[*queue]time.Time // when a queue was last logged
	recovered []*queue             // whose node answers again; not taken yet
}

type failingQueue struct {
	err   error
	pause time.Duration
	until time.Time
	node  bool // a goroutine asks its node until that answers; the queue is avoided until then
}

// isAvoided reports whether no take asks the queue now.
func (f *failingQueue) isAvoided(now time.Time) bool { return f.node || now.Before(f.until) }

// A queue is avoided for so long: the first time, and at most.
const (
	minAvoid = 100 * time.Millisecond
	maxAvoid = 2 * time.Second
)

// logFailingAgain is how long nothing is logged of a queue after it was logged.
const logFailingAgain = time.Minute

// avoids reports whether no take asks the queue now.
func (fs *failingQueues) avoids(q *queue) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.byQueue[q]
	return f != nil && f.isAvoided(time.Now())
}

// allAvoided returns the error of one of the queues if all are avoided.
func (fs *failingQueues) allAvoided(queues []*queue) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.byQueue) < len(queues) {
		return nil
	}
	now := time.Now()
	for _, q := range queues {
		if f := fs.byQueue[q]; f == nil || !f.isAvoided(now) {
			return nil
		}
	}
	return fs.byQueue[queues[0]].err
}

// add has a queue be avoided for a while, twice as long each time in turn.
func (fs *failingQueues) add(q *queue, err error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.addLocked(q, err)
}

func (fs *failingQueues) addLocked(q *queue, err error) *failingQueue {
	f := fs.byQueue[q]
	if f == nil {
		f = &failingQueue{}
		set(&fs.byQueue, q, f)
	}
	f.err, f.pause = err, min(max(2*f.pause, minAvoid), maxAvoid)
	f.until = time.Now().Add(f.pause)
	return f
}

// remove removes a queue after a take succeeded.
func (fs *failingQueues) remove(q *queue) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.byQueue, q)
}

// shouldLog reports whether a failure of the queue is to be logged, at most once a minute.
func (fs *failingQueues) shouldLog(q *queue) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if time.Since(fs.loggedAt[q]) < logFailingAgain {
		return false
	}
	set(&fs.loggedAt, q, time.Now())
	return true
}

// addNode has the queues of a node be avoided until removeNode. It reports whether the
// caller has to ask the node until that answers: nobody does so for all of these queues.
func (fs *failingQueues) addNode(queues []*queue, err error) (probe bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, q := range queues {
		if f := fs.addLocked(q, err); !f.node {
			f.node, probe = true, true
		}
	}
	return probe
}

// removeNode removes the queues of a node that answers again.
func (fs *failingQueues) removeNode(queues []*queue) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, q := range queues {
		delete(fs.byQueue, q)
	}
	fs.recovered = append(fs.recovered, queues...)
}

// takeRecovered returns the queues whose nodes answer again, once.
func (fs *failingQueues) takeRecovered() []*queue {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	recovered := fs.recovered
	fs.recovered = nil
	return recovered
}
