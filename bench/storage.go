package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// bytesQueued measures how much the server's memory grows with each waiting task.
func bytesQueued(ctx context.Context, e *environment, s system) (sample, error) {
	const producers = 64
	p, err := s.open(ctx, e.server.addr, producers)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.queue(ctx, blob, 0); err != nil { // one-time allocations do not count
		return nil, err
	}
	empty, err := e.server.memory(ctx)
	if err != nil {
		return nil, err
	}
	var next atomic.Int64
	err = callers(ctx, producers, func(ctx context.Context) error {
		for next.Add(1) <= e.drain {
			if err := p.queue(ctx, blob, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	full, err := e.server.memory(ctx)
	return sample{bytesRun: (full - empty) / float64(e.drain)}, err
}

// How many runs a session takes and finishes before the queue is filled again.
const (
	depthBatch   = 64
	depthBatches = 8
)

// takeAndAck measures the cost of taking and finishing while depth runs wait. It uses
// the broker's contract directly: no handler, one caller, batches of 64. Filling the
// queue between measurements does not count.
func takeAndAck(depth int64) func(context.Context, *environment) (sample, error) {
	return func(ctx context.Context, e *environment) (sample, error) {
		ours := taskgenSystem{}
		if err := e.fill(ctx, ours, depth); err != nil {
			return nil, err
		}
		p, err := ours.open(ctx, e.server.addr, 1)
		if err != nil {
			return nil, err
		}
		defer p.close()
		b, closer, err := ours.connect(ctx, e.server.addr)
		if err != nil {
			return nil, err
		}
		defer closer()
		leaser, ok := b.(broker.Leaser)
		if !ok {
			return nil, fmt.Errorf("use %T: it has no leases", b)
		}
		session, err := leaser.OpenSession(ctx, time.Minute)
		if err != nil {
			return nil, err
		}
		var d depthSpent
		for start := time.Now(); time.Since(start) < e.length; {
			if err := d.round(ctx, e, session); err != nil {
				return nil, err
			}
			if err := p.queueBatch(ctx, 0, depthBatch*depthBatches); err != nil {
				return nil, err
			}
		}
		return sample{tasksRate: d.tasks / d.took.Seconds(), redisCPU: d.cpu * 1e6 / d.tasks}, session.Close(ctx)
	}
}

// depthSpent is the usage of the rounds so far.
type depthSpent struct {
	tasks float64
	took  time.Duration
	cpu   float64 // CPU seconds of the server
}

func (d *depthSpent) round(ctx context.Context, e *environment, session broker.Session) error {
	var u [3]usage // asking costs too: the cost is the difference of the first two
	for i := range 2 {
		var err error
		if u[i], err = e.server.usage(ctx); err != nil {
			return err
		}
	}
	start := time.Now()
	for range depthBatches {
		finished, err := takeAndFinish(ctx, session, broker.Want{Queues: []string{taskrt.DefaultQueue}, IO: depthBatch})
		if err != nil {
			return err
		}
		d.tasks += float64(finished)
	}
	d.took += time.Since(start)
	var err error
	if u[2], err = e.server.usage(ctx); err != nil {
		return err
	}
	d.cpu += (u[2].cpu - u[1].cpu) - (u[1].cpu - u[0].cpu)
	return nil
}
