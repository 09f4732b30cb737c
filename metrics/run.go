package metrics

import (
	"context"
	"sync"

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
	switch e.Err.Kind {
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
