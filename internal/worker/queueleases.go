package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// queueLeases are the queues in which a session cannot renew its lease, while it can in
// others: those of a server that is away. The lease of such a queue is lost alone.
type queueLeases struct {
	mu     sync.Mutex
	sent   time.Time              // when the last renewal was sent that succeeded in some queue
	behind map[string]*time.Timer // by queue: calls loseQueue
}

// keepQueueLeases handles the queues in which a renewal failed. It returns nil if the
// renewal succeeded in others, and other errors as they are.
func (s *session) keepQueueLeases(ctx context.Context, sent time.Time, err error) error {
	var failed broker.QueueErrors
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	back, lost := s.updateQueueLeases(sent, failed)
	for _, queue := range lost {
		s.loseQueue(queue)
	}
	if back || len(lost) > 0 {
		s.reportAlive(ctx, finishTimeout)
	}
	return nil
}

// updateQueueLeases notes the queues in which a renewal failed. It reports whether a
// queue is back whose lease was given up, and returns the queues whose lease the broker
// has ended.
func (s *session) updateQueueLeases(sent time.Time, failed broker.QueueErrors) (back bool, lost []string) {
	ql := &s.queueLeases
	ql.mu.Lock()
	defer ql.mu.Unlock()
	before, late := ql.sent, !sent.After(ql.sent) // replies can come in any order
	if !late {
		ql.sent = sent
	}
	for queue, timer := range ql.behind {
		if failed[queue] == nil && !late {
			back = !timer.Stop() || back
			delete(ql.behind, queue)
		}
	}
	for queue, why := range failed {
		switch {
		case errors.Is(why, broker.ErrLeaseLost):
			lost = append(lost, queue)
		case ql.behind[queue] == nil && !late:
			s.logger.Warn("cannot renew the lease in a queue, trying again", "queue", queue, "error", why)
			if ql.behind == nil {
				ql.behind = make(map[string]*time.Timer)
			}
			ql.behind[queue] = time.AfterFunc(time.Until(before.Add(s.cfg.Lease*9/10)), func() { s.loseQueue(queue) })
		}
	}
	return back, lost
}

// loseQueue cancels the runs of a queue whose lease may be over, and gives back those
// that have not started. Runs of other queues go on.
func (s *session) loseQueue(queue string) {
	if s.base.Err() != nil {
		return
	}
	s.count.leasesLost.Add(1)
	s.logger.Error("lease lost in a queue: its running tasks were cancelled, those of other queues go on", "queue", queue, "session", s.membership.ID())
	for _, p := range s.slots {
		s.putReturned(p.withdrawQueue(s, queue))
	}
	for _, p := range s.slots {
		for _, a := range p.attempts(s) {
			if a.run.Queue == queue {
				a.execution.Stop(ErrLeaseLost)
			}
		}
	}
}

// start sets when the session was opened.
func (ql *queueLeases) start(opened time.Time) {
	ql.mu.Lock()
	defer ql.mu.Unlock()
	ql.sent = opened
}

// stop stops the timers.
func (ql *queueLeases) stop() {
	ql.mu.Lock()
	defer ql.mu.Unlock()
	for _, timer := range ql.behind {
		timer.Stop()
	}
	ql.behind = nil
}
