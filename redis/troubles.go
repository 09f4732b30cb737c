package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// troubles are queues that a session cannot take from, while it takes from others: a
// key is of a wrong type, or the node of a cluster is down. They are left alone for a
// while, and tried again.
type troubles struct {
	mu   sync.Mutex
	list map[*queue]*trouble
}

// trouble is one queue's.
type trouble struct {
	err   error
	wait  time.Duration
	until time.Time
}

// How long a queue is left alone, from the first time on.
const (
	firstTrouble   = 100 * time.Millisecond
	longestTrouble = 2 * time.Second
)

// has reports whether the queue is to be left alone.
func (ts *troubles) has(q *queue) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.list[q]
	return t != nil && time.Now().Before(t.until)
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
		if t := ts.list[q]; t == nil || !now.Before(t.until) {
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

// passes reports whether the error of one queue is none of the others', which then go
// on without it: the server answered, or the queue is on a node of a cluster.
func (s *session) passes(ctx context.Context, q *queue, err error) bool {
	if ctx.Err() != nil || s.b.isClosed() {
		return false
	}
	var reply goredis.Error
	if !s.b.clients.cluster && (!errors.As(err, &reply) || transient(err)) {
		return false
	}
	s.troubles.note(q, fmt.Errorf("leave the queue alone for now: %w", err))
	return true
}
