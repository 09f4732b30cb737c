// Package tasks is the work that the benchmark queues and runs.
package tasks

import (
	"context"
	"sync/atomic"
)

//go:generate go tool taskgen

// Counter counts executed runs.
type Counter struct{ Done atomic.Int64 }

// Noop does nothing but count.
//
//task:io
func (c *Counter) Noop(ctx context.Context, id [16]byte, n int) error {
	c.Done.Add(1)
	return nil
}
