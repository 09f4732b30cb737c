package metrics

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/fleet"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// maxQueues is how many queues of the fleet are told apart. Others are the queue "other".
const maxQueues = 1000

// Collector is a [prometheus.Collector] of what a process measured, and of the fleet. Its
// methods may be called concurrently.
//
// The fleet is shown once, although each process is scraped. If the broker knows its
// instances, as Redis does, then of those that are scraped (Scraped of [broker.Instance])
// the one that has been for the longest shows the fleet. When it ends, the next one does: at
// once, or within 20 seconds after a crash. When it is no longer scraped, the next one does
// after two and a half minutes. A process that nobody scrapes hides the fleet from nobody, nor
// does a single look at its metrics.
//
// More than one can show the fleet: each does until one has been scraped twice, and so does a
// process whose consumers and schedulers are not known to [Collector.Watch], such as one that
// only queues. So queries take the maximum by queue and state, which is right in each case.
//
// Each process shows taskgen_up. If the broker does not reply, or not within three seconds,
// that is 0. A queue that cannot be read, such as one with a key of a wrong type, counts as
// taskgen_queues_unread. What could not be read is not shown: no number is older than a second.
type Collector struct {
	recorder *Recorder
	fleet    *fleet.Reader

	mu         sync.Mutex
	consumers  []*taskrt.Consumer
	schedulers []*taskrt.Scheduler
}

// NewCollector returns a collector of a broker's fleet and of what the package's default
// recorder counted. sets are the tasks of the program, see [Recorder.Know]. A registry takes
// one collector of a recorder.
func NewCollector(b broker.Broker, sets ...[]taskrt.Task) *Collector {
	return Default().NewCollector(b, sets...)
}

// NewCollector returns a collector of a broker's fleet and of what the recorder counted. sets
// are the tasks of the program, see [Recorder.Know].
func (r *Recorder) NewCollector(b broker.Broker, sets ...[]taskrt.Task) *Collector {
	r.Know(sets...)
	var queues []string
	for _, set := range sets {
		for _, t := range set {
			queues = append(queues, t.Spec().Queues()...)
		}
	}
	slices.Sort(queues)
	return &Collector{recorder: r, fleet: fleet.NewReader(b, slices.Compact(queues)...)}
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range allFamilies {
		ch <- f.Desc
	}
}

// Collect implements [prometheus.Collector]. It blocks for at most three seconds.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	e := emitter(ch)
	c.noteScrape()
	c.recorder.collect(e)
	c.collectWatched(e)
	c.collectFleet(e)
}

// collectFleet shows the fleet, or that the broker is away.
func (c *Collector) collectFleet(e emitter) {
	f := c.fleet.Read(context.Background())
	e.flag(up, f.Replied())
	if !c.shows(f) {
		return
	}
	if f.Replied() {
		e.gauge(unread, float64(len(f.Unread)))
	}
	for _, v := range views(f) {
		if f.Counted {
			e.gauge(queueRuns, float64(v.ready), v.queue, "waiting")
			continue
		}
		e.gauge(queueRuns, float64(v.ready), v.queue, "ready")
		e.gauge(queueRuns, float64(v.held), v.queue, "held")
		e.gauge(queueRuns, float64(v.delayed), v.queue, "delayed")
		e.gauge(queueRuns, float64(v.running), v.queue, "running")
		e.gauge(queueRuns, float64(v.dead), v.queue, "dead")
		e.gauge(queueOldest, v.oldest.Seconds(), v.queue)
		e.flag(queuePaused, v.paused, v.queue)
		e.counter(deadDropped, uint64(v.trimmed), v.queue)
	}
}

// noteScrape has the instances of this process announce that they are scraped.
func (c *Collector) noteScrape() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, consumer := range c.consumers {
		consumer.Scraped()
	}
	for _, scheduler := range c.schedulers {
		scheduler.Scraped()
	}
}

// shows reports whether this process shows the fleet.
func (c *Collector) shows(f *fleet.Fleet) bool {
	c.mu.Lock()
	watches := len(c.consumers)+len(c.schedulers) > 0
	c.mu.Unlock()
	by := f.ShownBy()
	if !watches || by == nil {
		return true
	}
	host, err := os.Hostname()
	return err != nil || by.Host == host && by.PID == os.Getpid()
}

// queueView is a queue as the metrics show it.
type queueView struct {
	queue                         string
	ready, held, delayed, running int64
	dead, trimmed                 int64
	oldest                        time.Duration
	paused                        bool
}

// views returns the queues of the fleet. Those that are too many are one.
func views(f *fleet.Fleet) []*queueView {
	var list []*queueView
	by := make(map[string]*queueView)
	for _, info := range f.Queues {
		name := label(info.Queue)
		if by[name] == nil && len(list) >= maxQueues {
			name = other
		}
		v := by[name]
		if v == nil {
			v = &queueView{queue: name}
			by[name], list = v, append(list, v)
		}
		held := min(info.Held, info.Queued)
		v.ready += info.Queued - held
		v.held += held
		v.delayed += info.Delayed
		v.running += info.Running
		v.dead += info.Dead
		v.trimmed += info.Trimmed
		v.oldest = max(v.oldest, f.Oldest(info))
		v.paused = v.paused || info.Paused
	}
	return list
}

// collect shows what the recorder counted.
func (r *Recorder) collect(e emitter) {
	byTask := make(map[string]*series)
	var order []*series
	for _, s := range r.all() {
		t := byTask[s.task]
		if t == nil {
			t = &series{pair: pair{task: s.task}}
			byTask[s.task], order = t, append(order, t)
		}
		s.mu.Lock()
		e.counter(runsQueued, s.queued, s.task, s.queue)
		for i, n := range s.attempts {
			e.counter(attempts, n, s.task, s.queue, outcomes[i])
		}
		e.histogram(waits, s.wait.proto(r.bounds, r.created), s.task, s.queue)
		t.add(s)
		s.mu.Unlock()
	}
	for _, t := range order {
		if t.refused != [len(reasons)]uint64{} {
			for i, n := range t.refused {
				e.counter(runsRefused, n, t.task, reasons[i])
			}
		}
		e.histogram(took, t.took.proto(r.bounds, r.created), t.task)
		e.histogram(totals, t.total.proto(r.bounds, r.created), t.task)
		if !t.success.IsZero() {
			e.gauge(successes, float64(t.success.UnixMilli())/1e3, t.task)
		}
	}
	r.requesting.Lock()
	defer r.requesting.Unlock()
	e.histogram(requests, r.requests.proto(r.bounds, r.created), "queue")
}

// add adds what is counted by task, and not by queue.
func (s *series) add(o *series) {
	for i, n := range o.refused {
		s.refused[i] += n
	}
	s.took.add(&o.took)
	s.total.add(&o.total)
	if o.success.After(s.success) {
		s.success = o.success
	}
}
