package runtime

import (
	"context"
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
	s.outcomes.add(items)
}

// storable returns the outcome, or a dead letter instead of a run that no
// broker would take back, however often it is offered.
func (s *session) storable(o broker.Outcome) broker.Outcome {
	if o.Verdict != broker.Retry {
		return o
	}
	if err := o.Run.Validate(); err != nil {
		return s.dead(o.Run, broker.Failure{Kind: string(Failed), Message: fmt.Sprintf("the run cannot be stored for its retry: %v", err)})
	}
	return o
}

// outbox holds outcomes on their way to the broker.
type outbox struct {
	limit int

	mu     sync.Mutex
	items  []broker.Outcome
	spare  []broker.Outcome // its array is used next
	closed bool
	some   chan struct{} // has a token when items came
	space  sync.Cond     // of mu: items went
}

func (o *outbox) init(limit int) {
	o.limit = limit
	o.some = make(chan struct{}, 1)
	o.space.L = &o.mu
}

// put adds an outcome. It blocks while there are too many. Once the outbox is
// closed it forgets them: the run is handed back otherwise.
func (o *outbox) put(item broker.Outcome) {
	o.mu.Lock()
	for len(o.items) >= o.limit && !o.closed {
		o.space.Wait()
	}
	if o.closed {
		o.mu.Unlock()
		return
	}
	o.items = append(o.items, item)
	first := len(o.items) == 1
	o.mu.Unlock()
	if first {
		o.signal()
	}
}

// add is put for many, however many there are already.
func (o *outbox) add(items []broker.Outcome) {
	o.mu.Lock()
	if !o.closed {
		o.items = append(o.items, items...)
	}
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.some <- struct{}{}:
	default:
	}
}

// close ends the taking of outcomes. Those there already can still be got.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.space.Broadcast()
	o.signal()
}

// get waits for outcomes and returns all that are there, none once the outbox
// is closed and empty. What it returned before is used again.
func (o *outbox) get() []broker.Outcome {
	for {
		o.mu.Lock()
		items, closed := o.items, o.closed
		if len(items) > 0 {
			o.items, o.spare = o.spare[:0], items
		}
		o.mu.Unlock()
		if len(items) > 0 {
			o.space.Broadcast()
			return items
		}
		if closed {
			return nil
		}
		<-o.some
	}
}

// finishLoop applies outcomes, as many as there are in one request, until the
// session is closed and the last one is applied, or ctx ends: then the runs
// start elsewhere, whatever became of them here.
func (s *session) finishLoop(ctx context.Context) {
	defer close(s.finished)
	for batch := s.outcomes.get(); batch != nil; batch = s.outcomes.get() {
		for rest := batch; len(rest) > 0; {
			n := portion(rest)
			s.apply(ctx, rest[:n:n])
			rest = rest[n:]
		}
		clear(batch)
	}
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

// apply retries until the broker has answered or ctx ends, also when the lease
// is lost: an outcome that no longer counts is fenced. Each try has a time of
// its own, so that one that hangs does not use up the next one's.
func (s *session) apply(ctx context.Context, batch []broker.Outcome) {
	again := false
	for wait := newBackoff(20*time.Millisecond, time.Second); ; wait.sleep(ctx) {
		try, cancel := context.WithTimeout(ctx, finishTimeout)
		fenced, err := s.lease.Finish(try, batch...)
		cancel()
		if err == nil {
			s.logFenced(fenced, again)
			if slices.ContainsFunc(batch, func(o broker.Outcome) bool { return len(o.Next) > 0 }) {
				s.tellLeftOut()
			}
			return
		}
		if ctx.Err() != nil {
			s.unrecorded += len(batch)
			s.why = err
			s.logger.Error("cannot record the outcome of runs, they may run again", "runs", len(batch), "error", err)
			return
		}
		again = true
		s.logger.Warn("cannot record the outcome of runs, trying again", "runs", len(batch), "error", err)
	}
}
