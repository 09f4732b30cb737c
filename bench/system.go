package main

import (
	"context"
	"time"
)

// system is a task queue to measure.
type system interface {
	name() string
	// open connects producers for a number of concurrent callers.
	open(ctx context.Context, addr string, callers int) (producer, error)
	// consume starts a consumer with the given slots and queues. Producers use the
	// first queue.
	consume(ctx context.Context, addr string, o consumeOptions) (consumer, error)
}

type consumeOptions struct {
	slots, queues int
	processes     int            // child processes; 0 is the default
	started       chan time.Time // receives the start time of each noop, unless it is nil
}

// work selects the task to queue. Every task only counts.
type work int

const (
	noop work = iota // has a 16-byte id and a number
	kept             // noop, and its outcome is kept for an hour
	blob             // has 100 bytes on the wire
)

// blobSize is the stored size of a blob's payload, including its MessagePack.
// blobData is the size of the parameter.
const (
	blobSize = 100
	blobData = blobSize - len("\x81\xa4data\xc4\x5c")
)

// producer queues tasks. Its methods may be called concurrently.
type producer interface {
	// queue queues one task with one call.
	queue(ctx context.Context, w work, n int64) error
	// queueBatch queues several noops with one call, or in the system's best way.
	queueBatch(ctx context.Context, n, size int64) error
	close()
}

// consumer executes tasks.
type consumer interface {
	handled() int64
	stop() error
}
