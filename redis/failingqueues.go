package redis

import (
	"sync"
	"time"
)

// troubles are queues that a session cannot take from, while it takes from others: a
// key is of a wrong type, or the node of a cluster is down. They are left alone for a
// while, and tried again.
type troubles struct {
	mu   sync.Mutex
	list map[*queue]*trouble
	said map[*queue]time.Time // when a queue's was last logged
	over []*queue             // whose node answers again
}

// trouble is one queue's.
type trouble struct {
	err    error
	wait   time.Duration
	until  time.Time
	probed bool // a goroutine asks its node until that answers
}

const firstTrouble = 100 * time.Millisecond

const longestTrouble = 2 * time.Second

// sayAgain is how long nothing is logged of a queue of which something was.
const sayAgain = time.Minute

// has reports whether the queue is to be left alone.
func (ts *troubles) has(q *queue) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.list[q]
	return t != nil && (t.probed || time.Now().Before(t.until))
}

// all returns the error of one of the queues if all are to be left alone.
func (ts *troubles) all(queues []*queue) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.list) < len(queues) {
		return nil
	}
	now := time.Now()
	for _, q := range queues {
		if t := ts.list[q]; t == nil || !t.probed && !now.Before(t.until) {
			return nil
		}
	}
	return ts.list[queues[0]].err
}

// note leaves a queue alone for a while, the longer the more often it happens.
func (ts *troubles) note(q *queue, err error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.list[q]
	if t == nil {
		t = &trouble{}
		if ts.list == nil {
			ts.list = map[*queue]*trouble{}
		}
		ts.list[q] = t
	}
	t.err, t.wait = err, min(max(2*t.wait, firstTrouble), longestTrouble)
	t.until = time.Now().Add(t.wait)
}

// end forgets the trouble of a queue.
func (ts *troubles) end(q *queue) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.list, q)
}

// say reports whether the trouble of a queue is to be logged.
func (ts *troubles) say(q *queue) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if time.Since(ts.said[q]) < sayAgain {
		return false
	}
	if ts.said == nil {
		ts.said = map[*queue]time.Time{}
	}
	ts.said[q] = time.Now()
	return true
}

// probe leaves the queues of a node alone until that answers. It reports whether the
// caller is to find out when.
func (ts *troubles) probe(queues []*queue, err error) bool {
	begin := false
	for _, q := range queues {
		ts.note(q, err)
		ts.mu.Lock()
		if t := ts.list[q]; t != nil && !t.probed {
			t.probed, begin = true, true
		}
		ts.mu.Unlock()
	}
	return begin
}

// answered ends what probe began.
func (ts *troubles) answered(queues []*queue) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, q := range queues {
		delete(ts.list, q)
	}
	ts.over = append(ts.over, queues...)
}

// ended returns the queues whose nodes answer again, once.
func (ts *troubles) ended() []*queue {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	over := ts.over
	ts.over = nil
	return over
}
