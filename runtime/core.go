package runtime

import (
	"context"
	"errors"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// coreSession makes a session of a broker that has only the three core
// methods: what is taken is gone from the broker, so a run is executed at most
// once, and a retry is a new enqueue.
type coreSession struct {
	broker broker.Broker
	kinds  [2]bool // of the consumer's tasks
}

func (s coreSession) ID() string                  { return "core" }
func (s coreSession) Renew(context.Context) error { return nil }
func (s coreSession) Close(context.Context) error { return nil }

// Take asks for as many runs as any mix of kinds has room for: the broker
// cannot tell them apart. While one kind has no room it asks for one run, which
// waits for its slot if it is of that kind, and nothing is taken meanwhile.
func (s coreSession) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	io, cpu := want.IO-want.PrefetchIO, want.CPU-want.PrefetchCPU
	n := max(io, cpu, 1)
	if s.kinds[IO] && s.kinds[CPU] {
		n = max(min(io, cpu), 1)
	}
	runs, err := s.broker.GetTaskRuns(ctx, want.Queues, n)
	for _, run := range runs {
		run.Deliveries = max(run.Deliveries, run.Attempt+1)
	}
	return runs, err
}

func (s coreSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (done broker.Finished, err error) {
	for _, o := range outcomes {
		for i, next := range o.Next {
			if next == nil {
				continue
			}
			err := s.broker.QueueTasks(ctx, next)
			if err != nil && !errors.Is(err, broker.ErrDuplicate) {
				return done, err
			}
			if err != nil { // the live run has its id: such brokers have no unique keys
				done.Skipped = append(done.Skipped, broker.SkippedDuplicate{Run: next, LiveID: next.ID})
			}
			o.Next[i] = nil // for when Finish is tried again because of another
		}
		if o.Verdict != broker.Retry || o.Run.Receipt == queuedAgain {
			continue
		}
		again := *o.Run
		again.Receipt, again.OwnID, again.Delay, again.Due = nil, false, o.Delay, time.Time{}
		if err := s.broker.QueueTasks(ctx, &again); err != nil {
			return done, err
		}
		o.Run.Receipt = queuedAgain
	}
	return done, nil
}

// queuedAgain marks a retry that is done, for when Finish is tried again
// because of another.
const queuedAgain = "queued again"
