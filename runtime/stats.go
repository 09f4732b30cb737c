package runtime

import (
	"cmp"
	"context"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/instance"
	"github.com/taskgen/taskgen/internal/measure"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/ulid"
	"github.com/taskgen/taskgen/internal/worker"
)

// Durations are durations that were counted, for metrics.
type Durations struct {
	// Buckets has how many durations were longer than the bound of the bucket before, and
	// not longer than that of their own, see [DurationBound].
	Buckets [measure.Buckets]int64
	Sum     time.Duration
}

// DurationBound returns the longest duration of a bucket of [Durations]: 250µs of the
// first, twice as long for each further one, and 0 of the last, which has no bound.
func DurationBound(bucket int) time.Duration { return measure.Bound(bucket) }

// Count returns how many durations were counted.
func (d Durations) Count() (n int64) {
	for _, in := range d.Buckets {
		n += in
	}
	return n
}

// ConsumerStats are what a consumer has done since it was made, and what it does now. Its
// counts only grow.
type ConsumerStats struct {
	Slots    [2]broker.Slots // by Kind; a kind of which it has no tasks has none
	Children int             // child processes
	// Kills is how many child processes were killed, by the reason: timeout, cancelled, oom,
	// protocol, or start for one that did not become ready.
	Kills map[string]int64

	LeasesLost int64 // of sessions, and of sessions in one queue
	Fenced     int64 // outcomes that the broker refused, as at RunFenced
	Unrecorded int64 // outcomes that were given up, as the broker did not answer
	Recovered  int64 // runs of dead consumers that this one has returned to their queues
	EventsLost int64 // events that were left out because OnEvent is too slow

	// Operations are the requests to the broker, by their kind: open, renew, finish,
	// heartbeat and recover. Takes are not measured, as they wait for runs.
	Operations map[string]OperationStats
}

// OperationStats are requests to the broker of one kind.
type OperationStats struct {
	Durations       // of all
	Errors    int64 // how many failed
}

// Stats returns what the consumer has done. It does not block, and may be called
// concurrently, also while the consumer does not run.
func (c *Consumer) Stats() ConsumerStats {
	w := c.worker.Stats()
	s := ConsumerStats{
		Slots: w.Slots, LeasesLost: w.LeasesLost, Fenced: w.Fenced, Unrecorded: w.Unrecorded, Recovered: w.Recovered,
		EventsLost: c.events.lostEvents(), Operations: make(map[string]OperationStats, len(w.Operations)),
	}
	for name, o := range w.Operations {
		s.Operations[name] = OperationStats{Durations: Durations(o.Durations), Errors: o.Errors}
	}
	s.Children, s.Kills = c.children.count(), c.children.kills.Counts()
	return s
}

// children are the child processes of a consumer.
type children struct {
	kills subprocess.Kills
	pool  atomic.Pointer[subprocess.Pool] // of Run; nil: it does not run
}

func (c *children) count() int {
	if pool := c.pool.Load(); pool != nil {
		return pool.Children()
	}
	return 0
}

// SchedulerStats are what a scheduler has done since it was made. Its counts only grow.
type SchedulerStats struct {
	Ticks []TickStats // sorted by task and queue
	Lag   Durations   // of ticks that were queued: from the tick to its queueing
}

// TickStats are the ticks of a task in a queue.
type TickStats struct {
	Task, Queue string

	Queued     int64 // by this scheduler
	Claimed    int64 // that another scheduler had queued
	Overlapped int64 // left out, as the run of an earlier one was live
	Missed     int64 // left out, as they were missed
	Failed     int64 // tries that failed
}

// Stats returns what the scheduler has done. It does not block, and may be called
// concurrently.
func (s *Scheduler) Stats() SchedulerStats {
	counts, lag := s.ticks.Stats()
	stats := SchedulerStats{Lag: Durations(lag), Ticks: make([]TickStats, len(counts))}
	for i, c := range counts {
		stats.Ticks[i] = TickStats(c)
	}
	return stats
}

// Health is whether a consumer or a scheduler works, for the probes of whoever runs it.
type Health struct {
	Running  bool // Run goes on
	Stopping bool // the context of Run has ended

	// Live is false if the loops of Run do not turn although they should, so that only a
	// restart of the process can help. It does not depend on the broker, and is true
	// while nothing runs.
	Live bool
	// Ready is whether Run does its work: it is not stopping, and the broker has
	// answered lately. For a consumer, its session was opened or renewed within the time
	// of its lease, and takes do not fail; for a scheduler, all that was due was queued within 45 seconds.
	Ready bool

	Answered time.Time // when the broker answered last, in that sense; zero: not yet
	Reason   string    // why it is not live or not ready; empty if it is both
}

// Health returns whether the consumer works. It does not block, and may be called
// concurrently.
func (c *Consumer) Health() Health {
	w, now := c.worker.Health(), time.Now()
	h := Health{Running: w.Running, Stopping: w.Stopping, Live: true, Answered: w.Answered}
	switch {
	case !w.Running:
		h.Reason = "the consumer does not run"
	case now.Sub(w.Turned) > c.cfg.Lease+worker.MaxPause:
		h.Live = false
		h.Reason = "the loop that renews the lease hangs"
	case w.Stopping:
		h.Reason = "the consumer stops"
	case w.Session == "":
		h.Reason = "the consumer has no session with the broker"
	case now.Sub(w.Answered) >= c.cfg.Lease:
		h.Reason = "the broker does not renew the lease"
	case !w.Failed.IsZero() && now.Sub(w.Failed) < maxTakeSilence:
		h.Reason = "the broker does not hand out runs"
	default:
		h.Ready = true
	}
	return h
}

// maxTakeSilence is for how long a take that failed counts, unless a later one returns: takes
// are tried again each five seconds, but one that works may wait for ever.
const maxTakeSilence = 30 * time.Second

// Bounds of a scheduler's health. A loop sleeps for at most 30 seconds, and one schedule
// takes 10 at most.
const (
	maxTickSilence = 45 * time.Second
	maxTickPause   = 2 * time.Minute
)

// Health returns whether the scheduler works. It does not block, and may be called
// concurrently. A scheduler without schedules is ready.
func (s *Scheduler) Health() Health {
	status, now := s.ticks.Health(), time.Now()
	h := Health{Running: status.Running, Stopping: status.Stopping, Live: true, Answered: status.LastSuccess}
	switch {
	case !status.Running:
		h.Reason = "the scheduler does not run"
	case !status.Turned.IsZero() && now.Sub(status.Turned) > maxTickPause:
		h.Live = false
		h.Reason = "the loop of queue " + status.Slowest + " hangs"
	case status.Stopping:
		h.Reason = "the scheduler stops"
	case !status.LastSuccess.IsZero() && now.Sub(status.LastSuccess) > maxTickSilence:
		h.Reason = "ticks that are due cannot be queued"
	default:
		h.Ready = true
	}
	return h
}

// Scraped notes that the metrics of the consumer's process are read. Package metrics calls it,
// at each scrape. The broker's [broker.Instance] has since when they are read regularly: of those
// processes one shows the fleet. It does not block, and may be called concurrently.
func (c *Consumer) Scraped() {
	if c.scrapes.Add(time.Now()) {
		c.change()
	}
}

// Scraped notes that the metrics of the scheduler's process are read, as [Consumer.Scraped] does.
func (s *Scheduler) Scraped() { s.scrapes.Add(time.Now()) }

// change has the consumer announce itself again. It does not block.
func (c *Consumer) change() {
	select {
	case c.changes <- struct{}{}:
	default:
	}
}

// announce announces the consumer to the broker until the returned function is called. It does
// not block; loops ends when the consumer is withdrawn.
func (c *Consumer) announce(ctx context.Context, loops *sync.WaitGroup) (withdraw func()) {
	announcing, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	stopped := context.AfterFunc(ctx, c.change)
	self := newInstance(broker.RoleConsumer, c.cfg.Version, c.cfg.Address)
	loops.Go(func() {
		defer stopped()
		instance.Announce(announcing, c.broker, c.logger, c.changes, func() *broker.Instance {
			i, health, stats := *self, c.worker.Health(), c.worker.Stats()
			i.Stopping, i.Scraped = ctx.Err() != nil, c.scrapes.Since(time.Now())
			i.Session, i.Slots, i.Children, i.Queues = health.Session, stats.Slots, c.children.count(), c.worker.Queues()
			return &i
		})
	})
	return withdraw
}

// announce announces the scheduler as [Consumer.announce] does.
func (s *Scheduler) announce(ctx context.Context, loops *sync.WaitGroup) (withdraw func()) {
	announcing, withdraw := context.WithCancel(context.WithoutCancel(ctx))
	changes := make(chan struct{}, 1)
	stopped := context.AfterFunc(ctx, func() { changes <- struct{}{} })
	self := newInstance(broker.RoleScheduler, s.cfg.Version, s.cfg.Address)
	loops.Go(func() {
		defer stopped()
		instance.Announce(announcing, s.broker, s.cfg.Logger, changes, func() *broker.Instance {
			i := *self
			i.Stopping, i.Scraped = ctx.Err() != nil, s.scrapes.Since(time.Now())
			i.Queues = make(map[string]int)
			for _, queue := range s.ticks.Queues() {
				i.Queues[queue] = 1
			}
			return &i
		})
	})
	return withdraw
}

// newInstance returns what stays the same of an instance that starts.
func newInstance(role broker.Role, version, address string) *broker.Instance {
	now := time.Now()
	return &broker.Instance{
		ID: ulid.New(now), Role: role, Host: instance.Host(), PID: os.Getpid(), Started: now,
		Version: cmp.Or(version, instance.Version()), Address: instance.Reachable(address),
	}
}
