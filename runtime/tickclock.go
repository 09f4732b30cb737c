package runtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Clocks of schedulers and of brokers' servers differ by less than clockTolerance. One
// that differs by more is wrong, or was put back.
const (
	clockTolerance = time.Minute
	clockEvery     = 30 * time.Second // between two comparisons
	// A schedule goes on at once, if more of its ticks than this would have to pass
	// until one comes that was not claimed: to stop for so long would be worse than to
	// name an instant twice.
	mostPassed = 4
)

// tickClock is a scheduler's clock, compared with the broker's: one that runs ahead
// must not claim ticks of the future, which nobody could claim any more.
type tickClock struct {
	broker broker.Clock // nil: there is nothing to compare with
	logger *slog.Logger
	wall   func() time.Time

	mu    sync.Mutex
	asked time.Time     // with its monotonic part; zero: never with success
	ahead time.Duration // of the broker's, zero within tolerance
}

func newTickClock(b broker.Broker, logger *slog.Logger) *tickClock {
	c := &tickClock{logger: logger, wall: time.Now}
	c.broker, _ = b.(broker.Clock)
	return c
}

// compare asks the broker for its time, unless it did so a moment ago. Its error is
// nil once that has succeeded.
func (c *tickClock) compare(ctx context.Context) error {
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
		c.asked = time.Now() // as it was, for a while
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

// lead is how far the clock runs ahead.
func (c *tickClock) lead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead
}

// of returns the time by which a schedule goes.
func (c *tickClock) of(e *entry) time.Time { return c.wall().Add(-c.shift(e)) }

// shift is how far the time by which a schedule goes is behind the clock: that of a
// clock that runs ahead is the broker's, unless ticks were claimed that are yet to come
// by that. Then it is the broker's that was put back.
func (c *tickClock) shift(e *entry) time.Duration {
	now, ahead := c.wall(), c.lead()
	if ahead > 0 && e.last.After(now.Add(clockTolerance-ahead)) && !e.last.After(now.Add(clockTolerance)) {
		return 0
	}
	return ahead
}

// passes returns how many ticks there are between two instants, up to one more than
// mostPassed.
func (e *entry) passes(from, to time.Time) (n int) {
	tick, ok := e.table.next(from)
	for ; ok && !tick.After(to) && n <= mostPassed; tick, ok = e.table.next(tick) {
		n++
	}
	return n
}

// resume has a schedule go on whose ticks were claimed up to an instant that is far to
// come: by a clock that ran ahead, or before all were put back.
func (l *line) resume(ctx context.Context, e *entry, now time.Time) error {
	if err := l.lookForClaims(ctx, e, now); err != nil {
		return err
	}
	if !e.last.After(now.Add(clockTolerance)) || e.passes(now, e.last) <= mostPassed {
		return nil
	}
	if clock, ok := l.scheduler.broker.(broker.Clock); ok {
		id := ""
		if e.made != nil {
			id = e.made.ID
		}
		if err := clock.RewindTicks(ctx, e.spec.Queue, e.spec.Name, id, e.last, now); err != nil {
			return err
		}
	}
	l.scheduler.logger.Warn("ticks were claimed that are far to come: a clock ran ahead or was put back; the schedule goes on from now",
		"task", e.spec.Name, "queue", e.spec.Queue, "claimed", e.last.UTC())
	e.last = now
	return nil
}

// lookForClaims reads the last claimed tick of a schedule all of whose ticks were
// somebody else's of late.
func (l *line) lookForClaims(ctx context.Context, e *entry, now time.Time) error {
	schedules, ok := l.scheduler.broker.(broker.Ticks)
	if !ok || e.made != nil || e.others <= mostPassed || now.Sub(e.looked).Abs() < clockTolerance {
		return nil
	}
	last, err := schedules.LastTick(ctx, e.spec.Queue, e.spec.Name)
	if err != nil {
		return err
	}
	e.others, e.looked = 0, now
	e.last = later(e.last, last)
	return nil
}
