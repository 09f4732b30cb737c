// Package tasks is the work that the benchmark queues and runs.
package tasks

import (
	"context"
	"sync/atomic"
	"time"
)

// Counter is what the tasks work on.
type Counter struct {
	Done    atomic.Int64
	Started chan time.Time // gets the time of each start unless it is nil
}

// Noop does nothing but count: a task with all defaults.
//
//task:io
func (c *Counter) Noop(ctx context.Context, id [16]byte, n int) error {
	if c.Started != nil {
		c.Started <- time.Now()
	}
	c.Done.Add(1)
	return nil
}

// Kept is Noop with its result kept for an hour.
//
//task:io
//task:result 1h
func (c *Counter) Kept(ctx context.Context, id [16]byte, n int) error {
	c.Done.Add(1)
	return nil
}

// Blob is Noop with more to carry.
//
//task:io
func (c *Counter) Blob(ctx context.Context, data []byte) error {
	c.Done.Add(1)
	return nil
}

// Sleep takes the given time.
//
//task:io
func (c *Counter) Sleep(ctx context.Context, d time.Duration) error {
	time.Sleep(d)
	c.Done.Add(1)
	return nil
}
