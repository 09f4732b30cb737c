package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/bench/tasks"
	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// drainBeside measures a drain while limited runs of a task that allows two at once
// wait in the same queue.
func drainBeside(limited int) func(context.Context, *environment) (sample, error) {
	const slots, held = 64, 2
	return func(ctx context.Context, e *environment) (sample, error) {
		ours := taskgenSystem{}
		b, closer, err := ours.connect(ctx, e.server.addr)
		if err != nil {
			return nil, err
		}
		defer closer()
		controls, ok := b.(broker.Controls)
		if !ok {
			return nil, fmt.Errorf("use %T: it has no controls", b)
		}
		counter := &tasks.Counter{Release: make(chan struct{})}
		used := slots
		if limited > 0 {
			used += held
			queue := taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
			if _, err := tasks.QueueCounterHeldBatch(queue, make([]tasks.CounterHeldParams, limited)); err != nil {
				return nil, err
			}
		}
		c, err := ours.serve(ctx, e.server.addr, consumeOptions{slots: used, queues: 1}, counter)
		if err != nil {
			return nil, err
		}
		for limited > 0 && counter.Holding.Load() < held {
			time.Sleep(time.Millisecond)
		}
		// A task queued after them has run once all of them are held back.
		if err := errors.Join(e.fill(ctx, ours, 1), handled(ctx, c, 1)); err != nil {
			return nil, err
		}
		out, err := e.drainPaused(ctx, controls, c)
		if err != nil {
			return nil, err
		}
		close(counter.Release) // runs that still start end at once
		return out, c.stop()
	}
}

// drainPaused fills the queue while it is paused, and measures its drain. The consumer
// has executed one task before.
func (e *environment) drainPaused(ctx context.Context, controls broker.Controls, c consumer) (sample, error) {
	if err := controls.Pause(ctx, taskrt.DefaultQueue, true); err != nil {
		return nil, err
	}
	if err := e.fill(ctx, taskgenSystem{}, e.drain); err != nil {
		return nil, err
	}
	return e.timed(ctx, e.perTask, func() (int64, error) {
		if err := controls.Pause(ctx, taskrt.DefaultQueue, false); err != nil {
			return 0, err
		}
		return e.drain, handled(ctx, c, 1+e.drain)
	})

}
