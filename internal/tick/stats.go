package tick

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/internal/measure"
)

// Count is what became of the ticks of a task in a queue.
type Count struct {
	Task, Queue string

	Queued     int64
	Claimed    int64
	Overlapped int64
	Missed     int64
	Failed     int64
}

// counts are what became of ticks. Its methods may be called concurrently.
type counts struct {
	lag measure.Counter // of queued ticks

	mu sync.Mutex
	of map[countKey]*Count
}

type countKey struct{ task, queue string }

// add adds to the count of a schedule's task.
func (c *counts) add(s *schedule, field func(*Count) *int64, n int) {
	if n == 0 {
		return
	}
	key := countKey{s.task.Name, s.queue}
	c.mu.Lock()
	defer c.mu.Unlock()
	count := c.of[key]
	if count == nil {
		if c.of == nil {
			c.of = make(map[countKey]*Count)
		}
		count = &Count{Task: key.task, Queue: key.queue}
		c.of[key] = count
	}
	*field(count) += int64(n)
}

func queued(c *Count) *int64     { return &c.Queued }
func claimed(c *Count) *int64    { return &c.Claimed }
func overlapped(c *Count) *int64 { return &c.Overlapped }
func missed(c *Count) *int64     { return &c.Missed }
func failed(c *Count) *int64     { return &c.Failed }

// Stats returns what became of ticks, sorted by task and queue, and how long after their
// instants ticks were queued.
func (s *Scheduler) Stats() ([]Count, measure.Durations) {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	list := make([]Count, 0, len(s.counts.of))
	for _, c := range s.counts.of {
		list = append(list, *c)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Task, b.Task), cmp.Compare(a.Queue, b.Queue))
	})
	return list, s.counts.lag.Durations()
}

// Health is whether a scheduler works.
type Health struct {
	Status
	Running  bool      // Run goes on
	Stopping bool      // its context has ended
	Turned   time.Time // when the slowest loop last turned; zero: there is no loop, or none has run
	Slowest  string    // the queue of that loop
}

// Health returns whether the scheduler works.
func (s *Scheduler) Health() Health {
	h := Health{Status: s.Status()}
	if ctx := s.running.Load(); ctx != nil {
		h.Running, h.Stopping = true, (*ctx).Err() != nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.loops {
		if at := l.turned.Load(); at != 0 && (h.Turned.IsZero() || at < h.Turned.UnixNano()) {
			h.Turned, h.Slowest = time.Unix(0, at), l.queue
		}
	}
	return h
}

// Queues returns the queues of the schedules.
func (s *Scheduler) Queues() (queues []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.loops {
		if l.size.Load() > 0 {
			queues = append(queues, l.queue)
		}
	}
	return queues
}

func (s *Scheduler) setRunning(ctx context.Context) (end func()) {
	s.running.Store(&ctx)
	return func() { s.running.Store(nil) }
}

// maxCounted bounds how many missed ticks are counted at once.
const maxCounted = 10_000

// countMissed counts the ticks of a schedule between the last one that was processed and
// the first that is due now.
func (l *queueLoop) countMissed(s *schedule, first time.Time) {
	n, from := 0, s.last
	if s.counted.After(from) {
		from = s.counted.Add(-1) // it was not queued, or the last would not be before it
	}
	s.counted = first
	for tick, ok := s.table.Next(from); ok && tick.Before(first) && n < maxCounted; tick, ok = s.table.Next(tick) {
		n++
	}
	l.scheduler.counts.add(s, missed, n)
}
