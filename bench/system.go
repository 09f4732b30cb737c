package main

import (
	"context"
	"time"
)

// system is a task queue under test.
type system interface {
	name() string
	// open connects producers. callers is how many there will be at once.
	open(ctx context.Context, addr string, callers int) (producer, error)
	// consume starts a consumer of the given number of slots on so many
	// queues, of which the first is the one that producers use.
	consume(ctx context.Context, addr string, o consumeOptions) (consumer, error)
}

type consumeOptions struct {
	slots, queues int
	kept          bool           // the tasks keep their results for an hour
	started       chan time.Time // gets the time of each start, unless it is nil
}

// producer queues no-op tasks with a 16-byte id and a number.
type producer interface {
	// queue queues one task with one call.
	queue(ctx context.Context, n int64) error
	// queueKept queues one whose result is kept for an hour.
	queueKept(ctx context.Context, n int64) error
	// queueBatch queues several with one call, or as the system does that best.
	queueBatch(ctx context.Context, n, size int64) error
	close()
}

// consumer executes them.
type consumer interface {
	handled() int64
	stop() error
}
