package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis/internal/conn"
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

// How long a queue is left alone, from the first time on.
const (
	firstTrouble   = 100 * time.Millisecond
	longestTrouble = 2 * time.Second
	// A node that is down is asked for this long, and again after the pause, as another
	// one may have taken over.
	probeTime  = time.Second
	probePause = 250 * time.Millisecond
	// sayAgain is how long nothing is logged of a queue of which something was.
	sayAgain = time.Minute
)

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

// passes reports whether the error of one queue is none of the others', which then go
// on without it: the server answered, or the queue is on a node of a cluster.
func (s *session) passes(ctx context.Context, q *queue, err error) bool {
	if s.b.clients.IsClosed() {
		return false
	}
	if ctx.Err() != nil {
		// Takes that are cut short, each by its context, would never find a node dead: one
		// that has not replied by now is left alone by the next take.
		if s.b.clients.Cluster && conn.IsUnknown(err) {
			s.passBy(s.sameNode(context.WithoutCancel(ctx), q), err)
		}
		return false
	}
	var reply goredis.Error
	switch {
	case s.b.clients.Cluster && conn.IsUnreachable(err) && !conn.IsRedirect(err):
		s.passBy(s.sameNode(ctx, q), err)
		return true
	case s.b.clients.Cluster || errors.As(err, &reply) && !conn.IsTransient(err):
		s.troubles.note(q, err)
	default:
		return false
	}
	s.sayTrouble(q, err)
	return true
}

// passBy leaves the queues of a node alone until that answers.
func (s *session) passBy(queues []*queue, err error) {
	if s.troubles.probe(queues, err) {
		s.b.clients.Spawn(func() { s.probe(queues) })
	}
	s.sayTrouble(queues[0], err)
}

func (s *session) sayTrouble(q *queue, err error) {
	if s.troubles.say(q) {
		s.b.cfg.Logger.Warn("cannot take runs from a queue, which others do not wait for; trying again", "queue", q.Name, "error", err)
	}
}

// sameNode returns the queues taken from that are on the node of one, with that.
func (s *session) sameNode(ctx context.Context, q *queue) []*queue {
	queues := []*queue{q}
	if s.seek != nil {
		queues = append(queues, s.seek.queues...)
	}
	var same []*queue
	for _, i := range s.b.byNode(ctx, queues)[0] {
		same = append(same, queues[i])
	}
	return same
}

// probe asks the node of the queues until it answers, the session has left or the
// broker is closed.
func (s *session) probe(queues []*queue) {
	for pause := firstTrouble; ; pause = probePause {
		s.b.clients.Pause(context.Background(), pause)
		s.mu.Lock()
		left := s.left
		s.mu.Unlock()
		if left || s.b.clients.IsClosed() {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), min(s.b.cfg.Timeout, probeTime))
		err := s.b.clients.Work.Exists(ctx, queues[0].Flights).Err()
		if err != nil {
			s.b.clients.ReloadSlots(ctx) // another node may have them now
		}
		cancel()
		if err == nil {
			s.troubles.answered(queues)
			return
		}
	}
}
