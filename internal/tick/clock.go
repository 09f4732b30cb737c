package tick

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	// clockTolerance is the difference between the clocks of schedulers and servers
	// beyond which one of them is wrong, or was put back.
	clockTolerance = time.Minute
	clockEvery     = 30 * time.Second // between two comparisons
	// maxSkipped is how many claimed ticks a schedule waits out after a clock was put
	// back. With more it goes on at once: a long stop would be worse than a tick twice.
	maxSkipped = 4
)

// clock is the scheduler's clock, compared with the broker's: a clock that runs ahead
// must not claim ticks of the future, because a claimed tick is never queued again.
type clock struct {
	broker broker.Clock // nil: the broker has no clock
	logger *slog.Logger
	wall   func() time.Time

	mu    sync.Mutex
	asked time.Time     // when the clocks were last compared, with the monotonic part; zero: never
	ahead time.Duration // by how much this clock is ahead of the broker's; 0 within the tolerance
}

func newClock(b broker.Broker, logger *slog.Logger) *clock {
	c := &clock{logger: logger, wall: time.Now}
	c.broker, _ = b.(broker.Clock)
	return c
}

// compare reads the broker's time, unless it did so within clockEvery. It returns an
// error only until the first success.
func (c *clock) compare(ctx context.Context) error {
	if c.broker == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() && time.Since(c.asked) < clockEvery {
		return nil
	}
	before, start := c.wall(), time.Now()
	now, err := c.broker.Now(ctx)
	if err != nil {
		if c.asked.IsZero() {
			return err
		}
		c.asked = time.Now() // ahead stays as it was until the next comparison
		return nil
	}
	c.asked = time.Now()
	ahead := before.Round(0).Add(time.Since(start) / 2).Sub(now)
	if ahead <= clockTolerance {
		ahead = 0
	}
	if (ahead == 0) != (c.ahead == 0) {
		c.logger.Warn("the clock of this process runs ahead of the broker's, or no longer does: ticks go by the broker's unless others do not", "ahead", ahead.Round(time.Second))
	}
	c.ahead = ahead
	return nil
}

// lead returns how far the clock runs ahead.
func (c *clock) lead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

// of returns a schedule's time.
func (c *clock) of(s *schedule) time.Time { return c.wall().Add(-c.shift(s)) }

// shift returns how far a schedule's time is behind the clock. If the clock runs ahead,
// a schedule goes by the broker's time, unless ticks are claimed that are in the
// future by it: then the broker's clock was put back.
func (c *clock) shift(s *schedule) time.Duration {
	now, ahead := c.wall(), c.lead()
	if ahead > 0 && s.last.After(now.Add(clockTolerance-ahead)) && !s.last.After(now.Add(clockTolerance)) {
		return 0
	}
	return ahead
}

// resume makes a schedule go on from now if its ticks are claimed far into the future:
// by a clock that ran ahead, or before all clocks were put back.
func (l *queueLoop) resume(ctx context.Context, s *schedule, now time.Time) error {
	if err := l.readLastClaim(ctx, s, now); err != nil {
		return err
	}
	if !s.last.After(now.Add(clockTolerance)) || s.countTicks(now, s.last) <= maxSkipped {
		return nil
	}
	if clock, ok := l.scheduler.broker.(broker.Clock); ok {
		id := ""
		if s.dynamic != nil {
			id = s.dynamic.ID
		}
		if err := clock.RewindTicks(ctx, s.queue, s.task.Name, id, s.last, now); err != nil {
			return err
		}
	}
	l.scheduler.logger.Warn("ticks were claimed that are far to come: a clock ran ahead or was put back; the schedule goes on from now",
		"task", s.task.Name, "queue", s.queue, "claimed", s.last.UTC())
	s.last = now
	return nil
}

// readLastClaim reads the last claimed tick of a schedule, if other schedulers claimed
// its latest ticks.
func (l *queueLoop) readLastClaim(ctx context.Context, s *schedule, now time.Time) error {
	ticks, ok := l.scheduler.broker.(broker.Ticks)
	if !ok || s.dynamic != nil || s.others <= maxSkipped || now.Sub(s.claimRead).Abs() < clockTolerance {
		return nil
	}
	last, err := ticks.LastTick(ctx, s.queue, s.task.Name)
	if err != nil {
		return err
	}
	s.others, s.claimRead = 0, now
	s.last = Later(s.last, last)
	return nil
}
