package redis

import (
	"context"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// coalescer lets concurrent callers share one command, without handing their work to
// another goroutine. A caller that finds it idle runs at once. Callers that arrive
// meanwhile wait together, and one of them runs for all. Only run has to be set.
type coalescer[T comparable] struct {
	run func(ctx context.Context, items []T) // leaves each item's result in it

	mu      sync.Mutex
	busy    bool                 // someone runs, or was given the turn
	waiting []*pendingCommand[T] // the first one is next
}

// pendingCommand is the callers that will share a command.
type pendingCommand[T comparable] struct {
	items   []T
	weight  int
	turn    chan struct{} // gets one value: the caller that receives it runs for all
	given   bool          // the turn was given
	started bool
	done    chan struct{} // closed when the command has ended
}

// do runs item, alone or with others, and blocks until its result is in it. If do returns
// an error, the item was not run, or the error wraps [broker.ErrOutcomeUnknown].
func (c *coalescer[T]) do(ctx context.Context, clients *conn.Clients, item T, weight int) error {
	c.mu.Lock()
	if !c.busy {
		c.busy = true
		c.mu.Unlock()
		defer c.next()
		c.run(ctx, []T{item})
		return nil
	}
	g := c.join(item, weight)
	c.mu.Unlock()

	select {
	case <-g.turn:
		return c.lead(ctx, clients, g)
	case <-g.done:
		return nil
	case <-ctx.Done():
		return c.abandon(g, item, ctx.Err())
	case <-clients.Closed:
		return c.abandon(g, item, broker.ErrClosed)
	}
}

// join adds the item to the last pending command, or starts one. The lock is held.
func (c *coalescer[T]) join(item T, weight int) *pendingCommand[T] {
	if n := len(c.waiting); n > 0 {
		if g := c.waiting[n-1]; g.weight+weight <= maxWeight && len(g.items) < maxCoalesced {
			g.items = append(g.items, item)
			g.weight += weight
			return g
		}
	}
	g := &pendingCommand[T]{
		items:  []T{item},
		weight: weight,
		turn:   make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	c.waiting = append(c.waiting, g)
	return g
}

// lead runs for all callers of a pending command. Neither the leader nor the others are to
// suffer from each other's context: a leader whose context can end leaves the work to a
// goroutine.
func (c *coalescer[T]) lead(ctx context.Context, clients *conn.Clients, g *pendingCommand[T]) error {
	goruntime.Gosched() // those whose work was just done may be about to bring more
	c.mu.Lock()
	c.waiting = c.waiting[1:]
	g.started = true
	items := g.items
	c.mu.Unlock()

	work := func() {
		defer c.next()
		defer close(g.done)
		c.run(context.WithoutCancel(ctx), items)
	}
	if ctx.Done() == nil || !clients.Spawn(work) {
		work()
		return nil
	}
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		return outwait(g.done, nil, ctx.Err())
	}
}

// outwait waits a last moment for a command that was sent, for a caller whose wait has ended
// because of why. If the command ends in time, outwait returns what result points to, or nil
// without a result. Otherwise its error wraps [broker.ErrOutcomeUnknown] and why.
func outwait(done <-chan struct{}, result *error, why error) error {
	timer := time.NewTimer(conn.Grace)
	defer timer.Stop()
	select {
	case <-done:
		if result == nil {
			return nil
		}
		return *result
	case <-timer.C:
		return fmt.Errorf("%w: %w", broker.ErrOutcomeUnknown, why)
	}
}

// abandon ends the wait for an item with err.
func (c *coalescer[T]) abandon(g *pendingCommand[T], item T, err error) error {
	c.mu.Lock()
	if g.started {
		c.mu.Unlock()
		return outwait(g.done, nil, err)
	}
	defer c.mu.Unlock()
	g.items = slices.DeleteFunc(g.items, func(other T) bool { return other == item })
	if len(g.items) == 0 {
		c.waiting = slices.DeleteFunc(c.waiting, func(other *pendingCommand[T]) bool { return other == g })
		if g.given {
			c.pass()
		}
	}
	return err
}

// next passes the turn on after a command.
func (c *coalescer[T]) next() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass()
}

func (c *coalescer[T]) pass() {
	if len(c.waiting) == 0 {
		c.busy = false
		return
	}
	g := c.waiting[0]
	g.given = true
	g.turn <- struct{}{}
}

// Bounds of a command that callers share.
const (
	maxCoalesced = 8192    // items
	maxWeight    = 1 << 20 // bytes
)
