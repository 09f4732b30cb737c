package worker

import (
	"context"
	"errors"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// leaselessSession makes a session of a broker that has only three methods. Such a broker
// keeps nothing of a run that was taken, so a run is delivered at most once, and its
// retry is queued as a new run.
type leaselessSession struct {
	broker broker.Broker
	kinds  [2]bool // of the worker's tasks
}

func (ls leaselessSession) ID() string                  { return "core" }
func (ls leaselessSession) Renew(context.Context) error { return nil }
func (ls leaselessSession) Close(context.Context) error { return nil }

// Take takes as many runs as there is capacity for in any mix of kinds: the broker does
// not distinguish them. While one kind has no capacity, Take takes one run. If that is of
// this kind, it waits for its slot, and no more runs are taken.
func (ls leaselessSession) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	io, cpu := want.IO-want.PrefetchIO, want.CPU-want.PrefetchCPU
	n := max(io, cpu, 1)
	if ls.kinds[broker.IO] && ls.kinds[broker.CPU] {
		n = max(min(io, cpu), 1)
	}
	runs, err := ls.broker.GetTaskRuns(ctx, want.Queues, n)
	for _, run := range runs {
		run.Deliveries = max(run.Deliveries, run.Attempt+1)
	}
	return runs, err
}

// Finish queues follow-ups and retries. After an error it can be called again with the
// same outcomes.
func (ls leaselessSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (done broker.Finished, err error) {
	for _, o := range outcomes {
		skipped, err := ls.queueNext(ctx, o)
		done.Skipped = append(done.Skipped, skipped...)
		if err != nil {
			return done, err
		}
		if o.Verdict != broker.Retry || o.Run.Receipt == queuedAgain {
			continue
		}
		again := *o.Run
		again.Receipt, again.OwnID, again.Delay, again.Due = nil, false, o.Delay, time.Time{}
		if err := ls.broker.QueueTasks(ctx, &again); err != nil {
			return done, err
		}
		o.Run.Receipt = queuedAgain
	}
	return done, nil
}

// queuedAgain is the receipt of a run whose retry is queued, in case Finish is called
// again.
const queuedAgain = "queued again"

// queueNext queues the follow-ups of an outcome, and returns those that are duplicates. It
// sets those to nil that it is done with, in case Finish is called again.
func (ls leaselessSession) queueNext(ctx context.Context, o broker.Outcome) (skipped []broker.SkippedDuplicate, err error) {
	for i, next := range o.Next {
		if next == nil {
			continue
		}
		err := ls.broker.QueueTasks(ctx, next)
		if err != nil && !errors.Is(err, broker.ErrDuplicate) {
			return skipped, err
		}
		if err != nil { // such brokers have no unique keys, so the live run has its id
			skipped = append(skipped, broker.SkippedDuplicate{Run: next, LiveID: next.ID})
		}
		o.Next[i] = nil
	}
	return skipped, nil
}
