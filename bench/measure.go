package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sample is what one measurement gave, by the figure's name.
type sample map[string]float64

// scenario is one thing that is measured of each system in turn.
type scenario struct {
	name    string
	systems []system
	measure func(ctx context.Context, e *environment, s system) (sample, error)
}

// environment is what the measurements share.
type environment struct {
	server *redisServer
	length time.Duration // of a measurement that is bounded by time
	drain  int64         // tasks of one that is bounded by number
}

// maxAhead is how far producers may be ahead of the handlers: enough to keep
// them busy, so little that both sides always work.
const maxAhead = 4096

// steady keeps producers and handler slots busy at the same time.
func steady(producers, slots int, kept bool) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		p, err := s.open(ctx, e.server.addr, producers)
		if err != nil {
			return nil, err
		}
		defer p.close()
		c, err := s.consume(ctx, e.server.addr, consumeOptions{slots: slots, queues: 1, kept: kept})
		if err != nil {
			return nil, err
		}
		queue := p.queue
		if kept {
			queue = p.queueKept
		}
		before, err := e.spent(ctx)
		if err != nil {
			return nil, err
		}
		var queued atomic.Int64
		ahead := func() bool { return queued.Load()-c.handled() > maxAhead }
		start := time.Now()
		err = callers(ctx, producers, func(ctx context.Context) error {
			for time.Since(start) < e.length {
				if ahead() {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				if err := queue(ctx, queued.Add(1)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if err := handled(ctx, c, queued.Load()); err != nil {
			return nil, err
		}
		took := time.Since(start)
		out, err := e.perTask(ctx, before, queued.Load())
		if err != nil {
			return nil, err
		}
		out["tasks/s"] = float64(queued.Load()) / took.Seconds()
		return out, c.stop()
	}
}

// drain queues tasks while nobody consumes, and measures how fast they are
// executed to the end, from the start of the consumer on.
func drain(slots int) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		memory, err := e.server.memory(ctx)
		if err != nil {
			return nil, err
		}
		if err := e.fill(ctx, s, e.drain); err != nil {
			return nil, err
		}
		full, err := e.server.memory(ctx)
		if err != nil {
			return nil, err
		}
		before, err := e.spent(ctx)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		c, err := s.consume(ctx, e.server.addr, consumeOptions{slots: slots, queues: 1})
		if err != nil {
			return nil, err
		}
		if err := handled(ctx, c, e.drain); err != nil {
			return nil, err
		}
		took := time.Since(start)
		out, err := e.perTask(ctx, before, e.drain)
		if err != nil {
			return nil, err
		}
		out["tasks/s"] = float64(e.drain) / took.Seconds()
		out["bytes/task"] = (full - memory) / float64(e.drain)
		return out, c.stop()
	}
}

func (e *environment) fill(ctx context.Context, s system, n int64) error {
	const producers, batch = 64, 100
	p, err := s.open(ctx, e.server.addr, producers)
	if err != nil {
		return err
	}
	defer p.close()
	var next atomic.Int64
	return callers(ctx, producers, func(ctx context.Context) error {
		for {
			from := next.Add(batch) - batch
			if from >= n {
				return nil
			}
			if err := p.queueBatch(ctx, from, min(batch, n-from)); err != nil {
				return err
			}
		}
	})
}

// enqueue measures producers alone; a batch of 1 is one call a task.
func enqueue(producers int, batch int64) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		p, err := s.open(ctx, e.server.addr, producers)
		if err != nil {
			return nil, err
		}
		defer p.close()
		before, err := e.spent(ctx)
		if err != nil {
			return nil, err
		}
		var queued atomic.Int64
		start := time.Now()
		err = callers(ctx, producers, func(ctx context.Context) error {
			for time.Since(start) < e.length {
				n := queued.Add(batch)
				err := error(nil)
				if batch == 1 {
					err = p.queue(ctx, n)
				} else {
					err = p.queueBatch(ctx, n, batch)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		took := time.Since(start)
		out, err := e.perTask(ctx, before, queued.Load())
		if err != nil {
			return nil, err
		}
		out["tasks/s"] = float64(queued.Load()) / took.Seconds()
		return out, nil
	}
}

// pickup measures how long after the call that queues it a task starts when
// the consumer is idle.
func pickup(ctx context.Context, e *environment, s system) (sample, error) {
	const tasks = 200
	started := make(chan time.Time, 1)
	c, err := s.consume(ctx, e.server.addr, consumeOptions{slots: 10, queues: 1, started: started})
	if err != nil {
		return nil, err
	}
	p, err := s.open(ctx, e.server.addr, 1)
	if err != nil {
		return nil, err
	}
	defer p.close()
	var waits []time.Duration
	for end := time.Now().Add(2 * e.length); len(waits) < tasks && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // the consumer is to be idle again
		before := time.Now()
		if err := p.queue(ctx, int64(len(waits))); err != nil {
			return nil, err
		}
		select {
		case at := <-started:
			waits = append(waits, at.Sub(before))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	slices.Sort(waits)
	ms := func(q float64) float64 {
		return waits[int(q*float64(len(waits)-1))].Seconds() * 1e3
	}
	return sample{"p50 ms": ms(0.5), "p99 ms": ms(0.99)}, c.stop()
}

// idle measures what a consumer without work asks of the server.
func idle(queues int) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		c, err := s.consume(ctx, e.server.addr, consumeOptions{slots: 10, queues: queues})
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Second) // it settles
		before, err := e.server.usage(ctx)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		time.Sleep(2 * e.length)
		after, err := e.server.usage(ctx)
		if err != nil {
			return nil, err
		}
		seconds := time.Since(start).Seconds()
		return sample{"commands/s": (after.commands - before.commands - 1) / seconds}, c.stop()
	}
}

// callers runs f on n goroutines and returns the first error, which stops the
// others.
func callers(ctx context.Context, n int, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// handled waits until the consumer has executed n tasks.
func handled(ctx context.Context, c consumer, n int64) error {
	for c.handled() < n {
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d tasks are done: %w", c.handled(), n, ctx.Err())
		}
		time.Sleep(500 * time.Microsecond)
	}
	return nil
}

// spending is what both ends have used so far.
type spending struct {
	server usage
	client time.Duration // CPU time of this process
}

func (e *environment) spent(ctx context.Context) (spending, error) {
	u, err := e.server.usage(ctx)
	if err != nil {
		return spending{}, err
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return spending{}, err
	}
	return spending{u, time.Duration(r.Utime.Nano() + r.Stime.Nano())}, nil
}

func (e *environment) perTask(ctx context.Context, before spending, tasks int64) (sample, error) {
	after, err := e.spent(ctx)
	if err != nil {
		return nil, err
	}
	n := float64(tasks)
	return sample{
		"Redis µs/task":  (after.server.cpu - before.server.cpu) * 1e6 / n,
		"commands/task":  (after.server.commands - before.server.commands) / n,
		"client µs/task": (after.client - before.client).Seconds() * 1e6 / n,
	}, nil
}
