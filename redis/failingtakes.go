package redis

import (
	"context"
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// How long a queue is left alone, from the first time on.
const (
	// A node that is down is asked for this long, and again after the pause, as another
	// one may have taken over.
	probeTime  = time.Second
	probePause = 250 * time.Millisecond
)

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
	if s.hints != nil {
		queues = append(queues, s.hints.queues...)
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
		err := s.b.clients.Work.Exists(ctx, queues[0].InFlight).Err()
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
