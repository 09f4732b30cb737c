package redis

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// A node that is down is asked for probeTime, and again after probePause: another one may
// have taken over by then.
const (
	probeTime  = time.Second
	probePause = 250 * time.Millisecond
)

// canSkip reports whether a take from several queues goes on without one that failed: the
// server replied, or the queue is on a node of a cluster. The session then avoids the
// queue, and all others of a node that is down.
func (s *session) canSkip(ctx context.Context, q *queue, err error) bool {
	if s.b.clients.IsClosed() {
		return false
	}
	if ctx.Err() != nil {
		// Takes with short contexts would never find out that a node is down, so the next take
		// avoids a node that has not replied by now.
		if s.b.clients.Cluster && conn.IsUnknown(err) {
			s.avoidNode(s.sameNode(context.WithoutCancel(ctx), q), err)
		}
		return false
	}
	switch {
	case s.b.clients.Cluster && conn.IsUnreachable(err) && !conn.IsRedirect(err):
		s.avoidNode(s.sameNode(ctx, q), err)
		return true
	case s.b.clients.Cluster || conn.IsReply(err) && !conn.IsTransient(err):
		s.failing.add(q, err)
		s.logFailing(q, err)
		return true
	}
	return false
}

// avoidNode avoids the queues of a node until that answers.
func (s *session) avoidNode(queues []*queue, err error) {
	if s.failing.addNode(queues, err) {
		s.b.clients.Spawn(func() { s.probeUntilUp(queues) })
	}
	s.logFailing(queues[0], err)
}

func (s *session) logFailing(q *queue, err error) {
	if s.failing.shouldLog(q) {
		s.b.cfg.Logger.Warn("cannot take runs from a queue, which others do not wait for; trying again", "queue", q.Name, "error", err)
	}
}

// sameNode returns the queue, and the others that takes name and that are on its node.
func (s *session) sameNode(ctx context.Context, q *queue) []*queue {
	queues := []*queue{q}
	if s.hints != nil {
		queues = append(queues, s.hints.queues...)
	}
	return pick(queues, s.b.byNode(ctx, queues)[0])
}

// probeUntilUp asks the node of the queues until it answers, or the session or the broker
// is closed.
func (s *session) probeUntilUp(queues []*queue) {
	for pause := minAvoid; ; pause = probePause {
		s.b.clients.Pause(context.Background(), pause)
		if s.isClosed() || s.b.clients.IsClosed() {
			return
		}
		if s.isUp(queues[0]) {
			s.failing.removeNode(queues)
			return
		}
	}
}

// isUp reports whether the node of a queue answers. If not, the next call asks the node that
// has the queue by then.
func (s *session) isUp(q *queue) bool {
	ctx, cancel := context.WithTimeout(context.Background(), min(s.b.cfg.Timeout, probeTime))
	defer cancel()
	if _, err := s.b.clients.Work.Exists(ctx, q.InFlight); err != nil {
		s.b.clients.ReloadSlots(ctx)
		return false
	}
	return true
}
