package runtime

import (
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/counting"
	"github.com/taskgen/taskgen/internal/worker"
)

// counter counts runs for an observer that counts by itself. Its methods may be called
// concurrently.
type counter struct {
	counting.Counter
	last atomic.Pointer[countedSeries]
}

// countedSeries is what counts the runs of a task in a queue.
type countedSeries struct {
	task, queue string
	counting.Series
}

// of returns what counts a run. The runs that follow each other are mostly of one task and
// queue, so it remembers the last.
func (c *counter) of(run *broker.TaskRun) counting.Series {
	if s := c.last.Load(); s != nil && s.task == run.Task && s.queue == run.Queue {
		return s.Series
	}
	s := &countedSeries{run.Task, run.Queue, c.Series(run.Task, run.Queue)}
	c.last.Store(s)
	return s.Series
}

// split returns the counters of those observers that count by themselves, and the others.
func split(observers []Observer) (counters []*counter, others []Observer) {
	for _, o := range observers {
		if by, ok := o.(counting.Observer); ok {
			counters = append(counters, &counter{Counter: by.Counter()})
			continue
		}
		others = append(others, o)
	}
	return counters, others
}

func (n *notifier) countStart(x *execution) {
	for _, c := range n.counters {
		c.of(x.stored).Started(x.Waited())
	}
}

func (n *notifier) countEnd(o *broker.Outcome, x *execution, took time.Duration) {
	if o.Verdict == broker.Retry && o.Failure == nil {
		return // it goes back
	}
	for _, c := range n.counters {
		c.of(x.stored).Ended(took)
	}
}

// countRecorded counts the outcomes that the broker has recorded.
func (n *notifier) countRecorded(outcomes []broker.Outcome, how func(*broker.TaskRun) worker.Reply) {
	if len(n.counters) == 0 || len(outcomes) == 0 {
		return
	}
	now := time.Now()
	for i := range outcomes {
		o := &outcomes[i]
		if how(o.Run) != worker.Recorded {
			continue
		}
		for _, c := range n.counters {
			c.of(o.Run).Recorded(o, now)
		}
	}
}
