package metrics

import (
	"context"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/counting"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// The outcomes of attempts.
const (
	succeeded = iota
	retried
	failed
	timedOut
	crashed
	oom
	cancelled
	expired
	schema
	givenBack
)

var outcomes = [...]string{
	succeeded: "succeeded", retried: "retried", failed: "failed", timedOut: "timeout", crashed: "crashed",
	oom: "oom", cancelled: "cancelled", expired: "expired", schema: "schema", givenBack: "given_back",
}

// verdictOutcome returns what became of an attempt whose outcome the broker has recorded.
func verdictOutcome(o *broker.Outcome) int {
	switch {
	case o.Verdict == broker.Succeeded:
		return succeeded
	case o.Verdict == broker.Retry && o.Failure == nil:
		return givenBack
	case o.Verdict == broker.Retry:
		return retried
	case o.Failure == nil:
		return failed
	}
	return failure(o.Failure.Kind)
}

// outcome returns what became of an attempt.
func outcome(e *taskrt.Event) int {
	switch e.Outcome {
	case taskrt.RunSucceeded:
		return succeeded
	case taskrt.RunRetried:
		return retried
	case taskrt.RunReturned:
		return givenBack
	}
	if e.Err == nil {
		return failed
	}
	return failure(e.Err.Kind)
}

// failure returns the outcome of an attempt with which its run failed for good.
func failure(kind taskrt.FailureKind) int {
	switch kind {
	case taskrt.Timeout:
		return timedOut
	case taskrt.Crashed, taskrt.Lost:
		return crashed
	case taskrt.OOM:
		return oom
	case taskrt.Cancelled:
		return cancelled
	case taskrt.Expired:
		return expired
	case taskrt.Schema:
		return schema
	}
	return failed
}

// Middleware counts and measures attempts, for Middleware of [taskrt.ConsumerConfig]. It
// sees no run that ends without an attempt, such as one that expired. A recorder in
// Observers of the same config sees these too, and the middleware then does nothing.
func (r *Recorder) Middleware(next taskrt.Handler) taskrt.Handler {
	return func(ctx context.Context, run *taskrt.Run) error {
		taskrt.Observe(ctx, r)
		return next(ctx, run)
	}
}

// Observe implements [taskrt.Observer]: it counts and measures attempts, and the runs that
// end without one. It is for Observers of [taskrt.ConsumerConfig].
func (r *Recorder) Observe(e taskrt.Event) {
	switch e.Kind {
	case taskrt.RunStarted:
		s := r.of(e.Run.Task, e.Run.Queue)
		s.mu.Lock()
		s.wait.observe(e.Waited, r.bounds)
		s.mu.Unlock()
	case taskrt.RunRecorded:
		r.recorded(&e)
	case taskrt.RunDropped:
		if e.Err != nil && e.Err.Kind == taskrt.Duplicate {
			s := r.of(e.Run.Task, e.Run.Queue)
			s.mu.Lock()
			s.refused[refusedDuplicate]++
			s.mu.Unlock()
		}
	}
}

// Counter has package runtime count runs without an [taskrt.Event] for each, if the recorder
// is in Observers of [taskrt.ConsumerConfig]. Only that package calls it.
func (r *Recorder) Counter() counting.Counter { return runCounter{r} }

// runCounter counts the runs of a consumer.
type runCounter struct{ *Recorder }

func (c runCounter) Series(task, queue string) counting.Series {
	return &runSeries{c.of(task, queue), c.Recorder}
}

// runSeries counts the runs of a task in a queue.
type runSeries struct {
	*series
	recorder *Recorder
}

func (s *runSeries) Started(waited time.Duration) {
	s.mu.Lock()
	s.wait.observe(waited, s.recorder.bounds)
	s.mu.Unlock()
}

func (s *runSeries) Ended(took time.Duration) {
	s.mu.Lock()
	s.took.observe(took, s.recorder.bounds)
	s.mu.Unlock()
}

func (s *runSeries) Recorded(o *broker.Outcome, at time.Time) {
	became := verdictOutcome(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[became]++
	if became == retried || became == givenBack {
		return
	}
	s.total.observe(at.Sub(o.Run.QueuedAt), s.recorder.bounds)
	if became == succeeded && at.After(s.success) {
		s.success = at
	}
}

// recorded counts a recorded outcome.
func (r *Recorder) recorded(e *taskrt.Event) {
	o := outcome(e)
	s := r.of(e.Run.Task, e.Run.Queue)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[o]++
	if o == givenBack {
		return
	}
	if !e.Began.IsZero() {
		s.took.observe(e.Took, r.bounds)
	}
	if o == retried {
		return
	}
	s.total.observe(e.Total, r.bounds)
	if o == succeeded {
		if end := e.Began.Add(e.Took); end.After(s.success) {
			s.success = end
		}
	}
}

// Default returns the recorder that [NewCollector], [Middleware] and [QueueMiddleware] use.
var Default = sync.OnceValue(func() *Recorder {
	r, _ := NewRecorder(Config{}) // the zero value works
	return r
})

// Middleware is [Recorder.Middleware] of the default recorder.
func Middleware(next taskrt.Handler) taskrt.Handler { return Default().Middleware(next) }

// QueueMiddleware is [Recorder.QueueMiddleware] of the default recorder.
func QueueMiddleware(next taskrt.QueueHandler) taskrt.QueueHandler {
	return Default().QueueMiddleware(next)
}
