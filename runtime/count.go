package runtime

import (
	"sync"
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

// Observe implements [Observer], and does nothing: a counter is called for what it counts.
func (c *counter) Observe(Event) {}

// runCounters are the counters of runs whose middleware asks for that. Their methods may be
// called concurrently.
type runCounters struct {
	mu    sync.Mutex
	made  map[counting.Observer]*counter
	ended map[*broker.TaskRun]runObservers // of which the broker has not replied yet
}

// of returns the counter of an observer.
func (r *runCounters) of(by counting.Observer) *counter {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.made[by]
	if c == nil {
		if r.made == nil {
			r.made = make(map[counting.Observer]*counter)
		}
		c = &counter{Counter: by.Counter()}
		r.made[by] = c
	}
	return c
}

// end keeps what counts a run until the broker has replied.
func (r *runCounters) end(run *broker.TaskRun, by runObservers) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == nil {
		r.ended = make(map[*broker.TaskRun]runObservers)
	}
	r.ended[run] = by
}

// take removes what counts each of some runs, and calls do with it. do does not block.
func (r *runCounters) take(outcomes []broker.Outcome, do func(i int, by runObservers)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range outcomes {
		if len(r.ended) == 0 {
			return
		}
		if by, ok := r.ended[outcomes[i].Run]; ok {
			delete(r.ended, outcomes[i].Run)
			do(i, by)
		}
	}
}

// countRun has an observer that counts by itself count a run whose middleware asks for that.
func (n *notifier) countRun(x *execution, by counting.Observer) {
	c := n.ofRuns.of(by)
	if !x.observers.has(c) {
		x.observers.add(c)
		c.of(x.stored).Started(x.Waited())
	}
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
	if goesBack(o) {
		n.countGoingBack(o, &x.observers)
		return
	}
	asked := false
	x.observers.counters(func(*counter) { asked = true })
	if asked {
		n.ofRuns.end(o.Run, x.observers)
	}
	for _, c := range n.counters {
		c.of(x.stored).Ended(took)
	}
	x.observers.counters(func(c *counter) { c.of(x.stored).Ended(took) })
}

// goesBack reports whether a run goes back as if it had not started.
func goesBack(o *broker.Outcome) bool { return o.Verdict == broker.Retry && o.Failure == nil }

// countGoingBack has a run counted that goes back after it began, or was to begin. Those that are
// taken and go back before that are not counted. of are the observers of the run; it may be nil.
func (n *notifier) countGoingBack(o *broker.Outcome, of *runObservers) {
	var all runObservers
	for _, c := range n.counters {
		all.add(c)
	}
	if of != nil {
		of.counters(func(c *counter) { all.add(c) })
	}
	if all.first != nil {
		n.ofRuns.end(o.Run, all)
	}
}

// countRecorded counts the outcomes that the broker has recorded.
func (n *notifier) countRecorded(outcomes []broker.Outcome, how func(*broker.TaskRun) worker.Reply) {
	now := time.Now()
	n.ofRuns.take(outcomes, func(i int, by runObservers) {
		if o := &outcomes[i]; how(o.Run) == worker.Recorded {
			by.counters(func(c *counter) { c.of(o.Run).Recorded(o, now) })
		}
	})
	if len(n.counters) == 0 {
		return
	}
	for i := range outcomes {
		o := &outcomes[i]
		if goesBack(o) || how(o.Run) != worker.Recorded {
			continue
		}
		for _, c := range n.counters {
			c.of(o.Run).Recorded(o, now)
		}
	}
}
