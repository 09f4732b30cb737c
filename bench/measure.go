package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/broker/memory"
)

// sample is the result of one measurement, by figure.
type sample map[string]float64

// subject is what a scenario measures of one system. After an error it leaves running
// what it has started, because the command ends.
type subject struct {
	name    string
	measure func(ctx context.Context, e *environment) (sample, error)
}

// of returns the subjects of a scenario that does the same with each system.
func of(measure func(context.Context, *environment, system) (sample, error), systems ...system) []subject {
	subjects := make([]subject, len(systems))
	for i, s := range systems {
		subjects[i] = subject{s.name(), func(ctx context.Context, e *environment) (sample, error) { return measure(ctx, e, s) }}
	}
	return subjects
}

// environment is shared by all measurements.
type environment struct {
	server *redisServer
	rounds int
	length time.Duration // length of measurements bounded by time
	drain  int64         // tasks of measurements bounded by number

	connections bool // run only the scenarios that compare connections
}

// maxAhead is how far producers may be ahead of the handlers: far enough to keep them
// busy, and near enough that both sides always work.
const maxAhead = 4096

// steady keeps producers and slots busy at the same time. It measures from the first
// handled task on.
func steady(producers, slots int, w work) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		p, err := s.open(ctx, e.server.addr, producers)
		if err != nil {
			return nil, err
		}
		defer p.close()
		c, err := s.consume(ctx, e.server.addr, consumeOptions{slots: slots, queues: 1})
		if err != nil {
			return nil, err
		}
		if err = p.queue(ctx, w, 0); err == nil {
			err = handled(ctx, c, 1)
		}
		if err != nil {
			return nil, err
		}
		out, err := e.timed(ctx, e.perTask, func() (int64, error) {
			queued, err := e.queueAhead(ctx, producers, p, w, c)
			if err == nil {
				err = handled(ctx, c, 1+queued)
			}
			return queued, err
		})
		if err != nil {
			return nil, err
		}
		return out, c.stop()
	}
}

// queueAhead queues tasks for the length of a measurement, at most maxAhead before their
// consumer, and returns how many.
func (e *environment) queueAhead(ctx context.Context, producers int, p producer, w work, c consumer) (int64, error) {
	var queued atomic.Int64
	start := time.Now()
	err := callers(ctx, producers, func(ctx context.Context) error {
		for time.Since(start) < e.length {
			if queued.Load()-c.handled() > maxAhead {
				time.Sleep(100 * time.Microsecond)
				continue
			}
			if err := p.queue(ctx, w, queued.Add(1)); err != nil {
				return err
			}
		}
		return nil
	})
	return queued.Load(), err
}

// drain queues tasks while nothing consumes, and measures how fast they are executed
// from the start of the consumer on.
func drain(slots int) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		if err := e.fill(ctx, s, e.drain); err != nil {
			return nil, err
		}
		var c consumer
		out, err := e.timed(ctx, e.perTask, func() (n int64, err error) {
			if c, err = s.consume(ctx, e.server.addr, consumeOptions{slots: slots, queues: 1}); err != nil {
				return 0, err
			}
			return e.drain, handled(ctx, c, e.drain)
		})
		if err != nil {
			return nil, err
		}
		return out, c.stop()
	}
}

// embedded measures this project without a server: producers and consumer share the
// embedded broker.
func embedded(measure func(context.Context, *environment, system) (sample, error)) []subject {
	return []subject{{"taskgen", func(ctx context.Context, e *environment) (sample, error) {
		b := memory.New()
		out, err := measure(ctx, e, taskgenSystem{embedded: b})
		if err != nil {
			return nil, err
		}
		delete(out, redisCPU) // there is no server
		delete(out, commands)
		return out, b.Close()
	}}}
}

// fill queues n noops as fast as possible.
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

// enqueue measures producers alone. A batch of 1 is one call a task.
func enqueue(producers int, batch int64) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		p, err := s.open(ctx, e.server.addr, producers)
		if err != nil {
			return nil, err
		}
		defer p.close()
		queue := func(ctx context.Context, n int64) error { return p.queueBatch(ctx, n, batch) }
		if batch == 1 {
			queue = func(ctx context.Context, n int64) error { return p.queue(ctx, noop, n) }
		}
		return e.timed(ctx, e.perTask, func() (int64, error) {
			var queued atomic.Int64
			start := time.Now()
			err := callers(ctx, producers, func(ctx context.Context) error {
				for time.Since(start) < e.length {
					if err := queue(ctx, queued.Add(batch)); err != nil {
						return err
					}
				}
				return nil
			})
			return queued.Load(), err
		})
	}
}

// callers runs f on n goroutines and returns the first error, which stops the others.
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

// spending is the usage of both ends so far.
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

// timed measures the rate of the tasks that f queues or executes, and what they cost by
// cost, which is perTask or perTaskWithScripts.
func (e *environment) timed(ctx context.Context, cost costOf, f func() (tasks int64, err error)) (sample, error) {
	before, err := e.spent(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	tasks, err := f()
	if err != nil {
		return nil, err
	}
	took := time.Since(start)
	out, err := cost(ctx, before, tasks)
	if err != nil {
		return nil, err
	}
	out[tasksRate] = float64(tasks) / took.Seconds()
	return out, nil
}

// costOf returns what so many tasks have cost since before.
type costOf func(ctx context.Context, before spending, tasks int64) (sample, error)

// perTask returns what each of so many tasks has cost since before, at both ends.
func (e *environment) perTask(ctx context.Context, before spending, tasks int64) (sample, error) {
	after, err := e.spent(ctx)
	if err != nil {
		return nil, err
	}
	n := float64(tasks)
	return sample{
		redisCPU:  (after.server.cpu - before.server.cpu) * 1e6 / n,
		commands:  (after.server.commands - before.server.commands) / n,
		clientCPU: (after.client - before.client).Seconds() * 1e6 / n,
	}, nil
}
