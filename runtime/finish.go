package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	maxOutcomes   = 1024            // in one request
	finishTimeout = 5 * time.Second // of one try
)

// finish hands an outcome to the finish loop. It blocks while the broker is
// behind, which keeps the slot and so takes no more runs.
func (s *session) finish(o broker.Outcome) {
	if o.Verdict == broker.Retry {
		if err := o.Run.Validate(); err != nil {
			// No broker would take it back, however often it is offered.
			o = s.dead(o.Run, broker.Failure{Kind: string(Failed), Message: fmt.Sprintf("the run cannot be stored for its retry: %v", err)})
		}
	}
	select {
	case s.outcomes <- o:
	case <-s.closed: // handed back already
	}
}

// finishLoop applies outcomes, as many as there are in one request, until the
// session is closed and the last one is applied, or ctx ends: then the runs
// start elsewhere, whatever became of them here.
func (s *session) finishLoop(ctx context.Context) {
	defer close(s.finished)
	batch := make([]broker.Outcome, 0, maxOutcomes)
	for open := true; open; {
		select {
		case o := <-s.outcomes:
			batch = append(batch, o)
		case <-s.closed:
			open = false
		}
		for batch = s.gather(batch); len(batch) > 0; batch = s.gather(batch[:0]) {
			s.apply(ctx, batch)
			clear(batch)
		}
	}
}

// gather appends the outcomes that are there without waiting.
func (s *session) gather(batch []broker.Outcome) []broker.Outcome {
	for len(batch) < maxOutcomes {
		select {
		case o := <-s.outcomes:
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
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
			logFenced(s.logger, fenced, again)
			return
		}
		if ctx.Err() != nil {
			s.logger.Error("cannot record the outcome of runs, they will run again", "runs", len(batch), "error", err)
			return
		}
		again = true
		s.logger.Warn("cannot record the outcome of runs, trying again", "runs", len(batch), "error", err)
	}
}
