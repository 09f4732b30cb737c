package runtime

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// queueLeases is in which queues a session cannot renew its lease, while it can in others:
// those of a node that is down. The lease of such a queue is lost apart.
type queueLeases struct {
	mu     sync.Mutex
	sent   time.Time              // when the last renewal was sent that succeeded somewhere
	behind map[string]*time.Timer // by queue: when its lease is given up
}

// keepQueueLeases deals with the queues in which a renewal that was sent then failed, and
// returns nil if it succeeded in others. It returns other errors as they are.
func (s *session) keepQueueLeases(ctx context.Context, sent time.Time, err error) error {
	var failed broker.QueueErrors
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	t := &s.queueLeases
	t.mu.Lock()
	before, late := t.sent, !sent.After(t.sent) // the replies to two can come in either order
	back := false
	if !late {
		t.sent = sent
	}
	for queue, timer := range t.behind {
		if failed[queue] == nil && !late {
			back = !timer.Stop() || back
			delete(t.behind, queue)
		}
	}
	var lost []string
	for queue, why := range failed {
		switch {
		case errors.Is(why, broker.ErrLeaseLost):
			lost = append(lost, queue)
		case t.behind[queue] == nil && !late:
			s.logger.Warn("cannot renew the lease in a queue, trying again", "queue", queue, "error", why)
			if t.behind == nil {
				t.behind = make(map[string]*time.Timer)
			}
			t.behind[queue] = time.AfterFunc(time.Until(before.Add(s.cfg.Lease*9/10)), func() { s.loseQueue(queue) })
		}
	}
	t.mu.Unlock()
	for _, queue := range lost {
		s.loseQueue(queue)
	}
	if back || len(lost) > 0 {
		s.reportAlive(ctx, finishTimeout)
	}
	return nil
}

// loseQueue ends the runs of a queue whose lease cannot be trusted any more: those that
// execute are cancelled, those that have not started go back. The others go on.
func (s *session) loseQueue(queue string) {
	if s.base.Err() != nil {
		return
	}
	s.logger.Error("lease lost in a queue: its running tasks were cancelled, those of other queues go on", "queue", queue, "session", s.lease.ID())
	for _, l := range s.slots {
		s.giveBack(l.takeBackOf(s, queue))
	}
	for _, l := range s.slots {
		for _, x := range l.executions(s) {
			if x.stored.Queue == queue {
				x.stop(errLeaseLost)
			}
		}
	}
}

// begin notes when the session joined.
func (t *queueLeases) begin(joined time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent = joined
}

// end stops the timers.
func (t *queueLeases) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, timer := range t.behind {
		timer.Stop()
	}
	t.behind = nil
}
