package metrics

import (
	"context"
	"errors"
	"time"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// The reasons for which runs are not queued.
const (
	refusedDuplicate = iota
	refusedFull
	refusedTooLarge
	refusedUnavailable
	refusedUnknown
	refusedCancelled
	refusedOther
)

var reasons = [...]string{
	refusedDuplicate:   "duplicate",
	refusedFull:        "queue_full",
	refusedTooLarge:    "too_large",
	refusedUnavailable: "unavailable",
	refusedUnknown:     "outcome_unknown", // the reply was lost: it may be queued
	refusedCancelled:   "cancelled",       // the caller's context ended
	refusedOther:       "other",
}

// reason returns why runs were not queued.
func reason(err error) int {
	switch {
	case errors.Is(err, taskrt.ErrDuplicate):
		return refusedDuplicate
	case errors.Is(err, taskrt.ErrQueueFull):
		return refusedFull
	case errors.Is(err, taskrt.ErrPayloadTooLarge), errors.Is(err, broker.ErrBatchTooLarge):
		return refusedTooLarge
	case errors.Is(err, taskrt.ErrOutcomeUnknown):
		return refusedUnknown
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return refusedCancelled
	case errors.Is(err, broker.ErrUnavailable):
		return refusedUnavailable
	}
	return refusedOther
}

// QueueMiddleware counts the runs that a client queues, or that were refused, for
// Middleware of [taskrt.ClientConfig]. Runs that follow others, and members of groups, count
// when their call is queued. The runs that child processes queue pass the client of their
// consumer, and are counted there, once. What the client refuses before it asks the broker,
// such as parameters that are too large, does not pass a middleware and is not counted.
//
// It is to be the last of the middleware, next to the broker.
func (r *Recorder) QueueMiddleware(next taskrt.QueueHandler) taskrt.QueueHandler {
	return func(ctx context.Context, runs ...*broker.TaskRun) error {
		began := time.Now()
		err := next(ctx, runs...)
		took := time.Since(began)
		r.requesting.Lock()
		r.requests.observe(took, r.bounds)
		r.requesting.Unlock()
		r.queued(runs, err)
		return err
	}
}

// queued counts the runs of a call.
func (r *Recorder) queued(runs []*broker.TaskRun, err error) {
	accepted := err == nil || errors.Is(err, taskrt.ErrNotReplicated)
	for len(runs) > 0 {
		n := 1
		for n < len(runs) && runs[n].Task == runs[0].Task && runs[n].Queue == runs[0].Queue {
			n++
		}
		s := r.of(runs[0].Task, runs[0].Queue)
		s.mu.Lock()
		if accepted {
			s.queued += uint64(n)
		} else {
			s.refused[reason(err)] += uint64(n)
		}
		s.mu.Unlock()
		runs = runs[n:]
	}
}
