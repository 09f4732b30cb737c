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
	processes     int            // child processes; 0 is the default
	started       chan time.Time // gets the time of each start of a noop, unless it is nil
}

// work is which task is queued. All of them do nothing but count.
type work int

const (
	noop work = iota // carries a 16-byte id and a number
	kept             // the same, and its outcome is kept for an hour
	blob             // carries what is 100 bytes on the wire
)

// blobSize is the bytes of a blob's payload as it is stored, the MessagePack
// around them included; blobData is what is left for the parameter itself.
const (
	blobSize = 100
	blobData = blobSize - len("\x81\xa4data\xc4\x5c")
)

// producer queues tasks. Its methods may be called concurrently.
type producer interface {
	// queue queues one task with one call.
	queue(ctx context.Context, w work, n int64) error
	// queueBatch queues several noops with one call, or as the system does
	// that best.
	queueBatch(ctx context.Context, n, size int64) error
	close()
}

// consumer executes them.
type consumer interface {
	handled() int64
	stop() error
}
