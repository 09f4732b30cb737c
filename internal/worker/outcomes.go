package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// putOutcome queues an outcome for recording. It blocks while too many outcomes of the run's
// queue wait.
func (s *session) putOutcome(o broker.Outcome) {
	if o = s.storableOutcome(o); !s.outcomes.put(o) {
		s.exec.Replied([]broker.Outcome{o}, unknown)
	}
}

// putReturned queues the outcomes of runs that have not started and go back. It does not
// block.
func (s *session) putReturned(runs []*broker.TaskRun) {
	items := make([]broker.Outcome, 0, len(runs))
	for _, run := range slices.Backward(runs) { // each goes to the head of its queue
		items = append(items, s.storableOutcome(ReturnOutcome(run, 0)))
	}
	s.outcomes.putAll(items)
}

// storableOutcome returns the outcome. If no broker would store the run for a retry, it
// returns that of a dead letter instead.
func (s *session) storableOutcome(o broker.Outcome) broker.Outcome {
	if o.Verdict != broker.Retry {
		return o
	}
	if err := o.Run.Validate(); err != nil {
		return s.DeadOutcome(context.Background(), o.Run, broker.Failure{Kind: broker.FailureFailed, Message: fmt.Sprintf("the run cannot be stored for its retry: %v", err)})
	}
	return o
}

// outcomeQueues hold outcomes on their way to the broker, by the queues of their runs: a
// queue whose outcomes cannot be recorded delays no other's.
type outcomeQueues struct {
	limit    int                  // outcomes of one queue; from half of it on, no runs of the queue are taken
	send     func(*queueOutcomes) // records the outcomes of a queue until get has no more
	caughtUp func()               // called when runs of a queue may be taken again

	mu      sync.Mutex
	queues  map[string]*queueOutcomes
	last    *queueOutcomes // the one that was asked for last
	closed  bool
	done    chan struct{}  // closed when closed is set
	senders sync.WaitGroup // goroutines in send
	space   sync.Cond      // of mu: outcomes were removed
}

// queueOutcomes are the outcomes of one queue. While there are some, a goroutine sends
// them.
type queueOutcomes struct {
	all   *outcomeQueues
	queue string
	stays bool          // its goroutine waits for more outcomes
	some  chan struct{} // has a value when there are outcomes, or will be no more

	items   []broker.Outcome
	spare   []broker.Outcome // its array is used next
	failing bool             // the last try to record failed
	behind  bool             // there are so many that no more runs of the queue may be taken
}

// maxStaying is of how many queues the goroutines wait for more outcomes. Those of other
// queues end, and start again when there are some.
const maxStaying = 16

func (oq *outcomeQueues) init(limit int, send func(*queueOutcomes), caughtUp func()) {
	oq.limit, oq.send, oq.caughtUp = limit, send, caughtUp
	oq.queues = make(map[string]*queueOutcomes)
	oq.done = make(chan struct{})
	oq.space.L = &oq.mu
}

// put adds an outcome. It blocks while there are too many of its queue. After close it
// drops the outcome and returns false: the run then starts again when the lease ends.
func (oq *outcomeQueues) put(item broker.Outcome) bool {
	oq.mu.Lock()
	defer oq.mu.Unlock()
	for !oq.closed {
		// of is called each time: the queue's goroutine may have ended.
		if q := oq.of(item.Run.Queue); q == nil || len(q.items) < oq.limit {
			oq.add(item)
			return true
		}
		oq.space.Wait()
	}
	return false
}

// putAll adds outcomes. It does not block.
func (oq *outcomeQueues) putAll(items []broker.Outcome) {
	oq.mu.Lock()
	defer oq.mu.Unlock()
	if oq.closed {
		return
	}
	for _, item := range items {
		oq.add(item)
	}
}

// of returns the outcomes of a queue, nil if there are none. The lock is held.
func (oq *outcomeQueues) of(queue string) *queueOutcomes {
	if oq.last == nil || oq.last.queue != queue {
		oq.last = oq.queues[queue]
	}
	return oq.last
}

// add adds an outcome, and starts its queue's goroutine if there is none. The lock is
// held.
func (oq *outcomeQueues) add(item broker.Outcome) {
	q := oq.of(item.Run.Queue)
	if q == nil {
		q = &queueOutcomes{all: oq, queue: item.Run.Queue, stays: len(oq.queues) < maxStaying, some: make(chan struct{}, 1)}
		oq.queues[q.queue] = q
		oq.senders.Go(func() { oq.send(q) })
	}
	q.items = append(q.items, item)
	if len(q.items) == 1 {
		q.signal()
	}
	q.behind = len(q.items) >= oq.limit/2
}

func (q *queueOutcomes) signal() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// close makes later puts drop their outcomes. Those that wait are still sent.
func (oq *outcomeQueues) close() {
	oq.mu.Lock()
	defer oq.mu.Unlock()
	if oq.closed {
		return
	}
	oq.closed = true
	close(oq.done)
	oq.space.Broadcast()
	for _, q := range oq.queues {
		q.signal()
	}
}

// wait blocks until close was called and all outcomes are sent.
func (oq *outcomeQueues) wait() {
	<-oq.done
	oq.senders.Wait()
}

// get blocks until there are outcomes and removes them, or until wake has a value. It
// returns false when the goroutine has to end: not while there is a wake, unless close
// was called. The next get uses the returned array again.
func (q *queueOutcomes) get(wake <-chan time.Time) (some []broker.Outcome, more bool) {
	oq := q.all
	for {
		oq.mu.Lock()
		items, end, behind := q.items, oq.closed || !q.stays && wake == nil, q.behind
		switch {
		case len(items) > 0:
			q.items, q.spare, q.behind = q.spare[:0], items, false
		case end:
			delete(oq.queues, q.queue)
			oq.last = nil
		}
		oq.mu.Unlock()
		switch {
		case len(items) > 0:
			oq.space.Broadcast()
			if behind {
				oq.caughtUp()
			}
			return items, true
		case end:
			return nil, false
		}
		select {
		case <-q.some:
		case <-wake:
			return nil, true
		}
	}
}

// setFailing sets whether the last try to record outcomes failed. It reports whether
// that is a change.
func (q *queueOutcomes) setFailing(failing bool) bool {
	q.all.mu.Lock()
	defer q.all.mu.Unlock()
	changed := q.failing != failing
	q.failing = failing
	return changed
}

// withoutBlocked removes the queues whose outcomes the broker does not record, or not as
// fast as they come. Runs of these would only wait with their outcomes.
func (oq *outcomeQueues) withoutBlocked(queues []string) []string {
	oq.mu.Lock()
	defer oq.mu.Unlock()
	for _, q := range oq.queues {
		if q.failing || q.behind {
			return slices.DeleteFunc(queues, func(name string) bool {
				q := oq.queues[name]
				return q != nil && (q.failing || q.behind)
			})
		}
	}
	return queues
}
