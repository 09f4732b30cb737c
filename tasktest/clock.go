package tasktest

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// movedClock is the clock of a kit outside of a bubble: it is ahead of the machine's by what
// Advance has moved it. What runs then runs in a bubble of its own, whose clock it is.
type movedClock struct {
	mu       sync.Mutex
	ahead    time.Duration
	inBubble bool
	last     time.Time
}

// now returns the time. It never goes back: goroutines of the test may ask while a bubble runs.
func (c *movedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now().Round(0)
	if !c.inBubble {
		now = now.Add(c.ahead)
	}
	if now.After(c.last) {
		c.last = now
	}
	return c.last
}

// moved returns by how much the clock is ahead of that of the goroutine.
func (c *movedClock) moved() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inBubble {
		return 0
	}
	return c.ahead
}

func (c *movedClock) set(inBubble bool, end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inBubble = inBubble
	if !inBubble {
		c.ahead = max(0, end.Sub(time.Now().Round(0)))
	}
}

// shift has runs that the test queues be as far ahead as the clock.
func (c *movedClock) shift(runs ...*broker.TaskRun) {
	d := c.moved()
	for _, run := range runs {
		if d == 0 || run == nil {
			continue
		}
		run.QueuedAt = run.QueuedAt.Add(d)
		if !run.Due.IsZero() {
			run.Due = run.Due.Add(d)
		}
	}
}

// Now returns the time by the kit's clock. Outside of a bubble [Kit.Advance] moves it, and not
// that of the test.
func (k *Kit) Now() time.Time {
	if k.clock == nil {
		return time.Now()
	}
	return k.clock.now()
}

// inOwnBubble calls f in a bubble whose clock begins with the kit's.
func (k *Kit) inOwnBubble(t testing.TB, f func(t testing.TB)) {
	t.Helper()
	test, ok := t.(*testing.T)
	switch {
	case k.children:
		t.Fatal("tasktest: Advance excludes Children: time does not advance while a child process works")
	case !ok:
		t.Fatalf("tasktest: Advance moves the clock of testing/synctest, which needs a *testing.T, not a %T", t)
	}
	start := k.clock.now()
	end := start
	defer func() { k.clock.set(false, end) }() // also if f fails the test at once
	synctest.Test(test, func(t *testing.T) {
		time.Sleep(start.Sub(time.Now().Round(0)))
		k.bubble = true
		k.clock.set(true, end)
		defer func() {
			end = time.Now().Round(0)
			k.bubble = false
		}()
		f(t)
	})
}
