package runtime

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	maxOutcomes   = 1024            // in one request
	outcomeBytes  = 16 << 20        // in one request, unless one alone has more
	finishTimeout = 5 * time.Second // of one try
)

// finish hands an outcome to the finish loop. It blocks while the broker is
// behind, which keeps the slot and so takes no more runs.
func (s *session) finish(o broker.Outcome) {
	s.outcomes.put(s.storable(o))
}

// giveBack hands runs back that have not started, without waiting for anything.
func (s *session) giveBack(runs []*broker.TaskRun) {
	items := make([]broker.Outcome, 0, len(runs))
	for _, run := range slices.Backward(runs) { // as each goes to the head of its queue
		items = append(items, s.storable(handBack(run, 0)))
	}
	s.outcomes.putAll(items)
}

// storable returns the outcome, or a dead letter instead of a run that no
// broker would take back, however often it is offered.
func (s *session) storable(o broker.Outcome) broker.Outcome {
	if o.Verdict != broker.Retry {
		return o
	}
	if err := o.Run.Validate(); err != nil {
		return s.dead(o.Run, broker.Failure{Kind: Failed, Message: fmt.Sprintf("the run cannot be stored for its retry: %v", err)})
	}
	return o
}

// outbox holds outcomes on their way to the broker, those of each queue apart: a
// queue whose outcomes cannot be recorded holds up no other's.
type outbox struct {
	limit    int             // outcomes of one queue; from half of it on no runs of the queue are taken
	send     func(*outgoing) // sends those of a queue until get has no more
	caughtUp func()          // called when runs of a queue can be taken again

	mu      sync.Mutex
	queues  map[string]*outgoing
	last    *outgoing // of these, the one that was asked for last
	closed  bool
	over    chan struct{}  // closed with it
	senders sync.WaitGroup // goroutines in send
	space   sync.Cond      // of mu: items went
}

// outgoing is the outcomes of one queue. While there are some a goroutine sends them.
type outgoing struct {
	box   *outbox
	queue string
	stays bool          // its goroutine waits for more
	some  chan struct{} // has a token when items came, or there will be no more

	items   []broker.Outcome
	spare   []broker.Outcome // its array is used next
	failing bool             // the last try did
	behind  bool             // there are so many that no more runs of the queue are to be taken
}

// mostStaying is of how many queues the goroutines wait for more outcomes. Those of
// others end, and start again when they come.
const mostStaying = 16

func (o *outbox) init(limit int, send func(*outgoing), caughtUp func()) {
	o.limit, o.send, o.caughtUp = limit, send, caughtUp
	o.queues = make(map[string]*outgoing)
	o.over = make(chan struct{})
	o.space.L = &o.mu
}

// put adds an outcome. It blocks while there are too many of its queue. Once the
// outbox is closed it forgets them: the run is handed back otherwise.
func (o *outbox) put(item broker.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed {
		// Again each time: the queue's goroutine may have ended meanwhile.
		if q := o.of(item.Run.Queue); q == nil || len(q.items) < o.limit {
			o.add(item)
			return
		}
		o.space.Wait()
	}
}

// putAll is put for many, however many there are already.
func (o *outbox) putAll(items []broker.Outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	for _, item := range items {
		o.add(item)
	}
}

// of returns the outcomes of a queue, nil if there are none. The lock is held.
func (o *outbox) of(queue string) *outgoing {
	if o.last == nil || o.last.queue != queue {
		o.last = o.queues[queue]
	}
	return o.last
}

// add adds an outcome, and has its queue's be sent. The lock is held.
func (o *outbox) add(item broker.Outcome) {
	q := o.of(item.Run.Queue)
	if q == nil {
		q = &outgoing{box: o, queue: item.Run.Queue, stays: len(o.queues) < mostStaying, some: make(chan struct{}, 1)}
		o.queues[q.queue] = q
		o.senders.Go(func() { o.send(q) })
	}
	q.items = append(q.items, item)
	if len(q.items) == 1 {
		q.signal()
	}
	q.behind = len(q.items) >= o.limit/2
}

func (q *outgoing) signal() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// close ends the taking of outcomes. Those there already are still sent.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	close(o.over)
	o.space.Broadcast()
	for _, q := range o.queues {
		q.signal()
	}
}

// wait returns once the outbox is closed and all is sent.
func (o *outbox) wait() {
	<-o.over
	o.senders.Wait()
}

// get waits for outcomes and returns all that are there, none when wake has a value, and
// false when the sending is to end: not while there is a wake, unless the outbox is
// closed. What it returned before is used again.
func (q *outgoing) get(wake <-chan time.Time) (some []broker.Outcome, more bool) {
	o := q.box
	for {
		o.mu.Lock()
		items, end, behind := q.items, o.closed || !q.stays && wake == nil, q.behind
		switch {
		case len(items) > 0:
			q.items, q.spare, q.behind = q.spare[:0], items, false
		case end:
			delete(o.queues, q.queue)
			o.last = nil
		}
		o.mu.Unlock()
		switch {
		case len(items) > 0:
			o.space.Broadcast()
			if behind {
				o.caughtUp()
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

// fails notes whether the last try to record outcomes failed, and reports whether
// that is another answer than before.
func (q *outgoing) fails(failing bool) bool {
	q.box.mu.Lock()
	defer q.box.mu.Unlock()
	changed := q.failing != failing
	q.failing = failing
	return changed
}

// recordable returns those of the queues whose outcomes can be recorded, as far as is
// known: a run of another would only wait with its outcome.
func (o *outbox) recordable(queues []string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, q := range o.queues {
		if q.failing || q.behind {
			return slices.DeleteFunc(queues, func(name string) bool {
				q := o.queues[name]
				return q != nil && (q.failing || q.behind)
			})
		}
	}
	return queues
}

// finishLoop has outcomes applied until the session is closed and the last one is
// applied.
func (s *session) finishLoop() {
	defer close(s.finished)
	s.outcomes.wait()
}

// portion is how many outcomes go into one request, so that many large ones
// together are not more than a broker takes at once.
func portion(outcomes []broker.Outcome) int {
	size := 0
	for i := range min(len(outcomes), maxOutcomes) {
		o := &outcomes[i]
		size += len(o.Result)
		for _, next := range o.Next {
			size += len(next.Payload)
		}
		if o.Verdict == broker.Dead || o.Verdict == broker.Retry {
			size += len(o.Run.Payload)
		}
		if size > outcomeBytes && i > 0 {
			return i
		}
	}
	return min(len(outcomes), maxOutcomes)
}

// giveUp counts outcomes that are not recorded.
func (s *session) giveUp(n int, why error) {
	s.outcomes.mu.Lock()
	defer s.outcomes.mu.Unlock()
	s.unrecorded += n
	s.why = why
}

// askAgain ends the taker's request for runs of the queues that it knew of.
func (s *session) askAgain() {
	if ask := s.retake.Load(); ask != nil {
		(*ask)()
	}
}
