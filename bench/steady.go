package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// maxAhead is how far producers may be ahead of the handlers: enough to keep
// them busy, so little that both sides always work.
const maxAhead = 4096

// keepBusy calls enqueue from the given number of goroutines for d, then waits
// until everything was handled, and returns how much that was and how long it
// took altogether.
func keepBusy(ctx context.Context, producers int, d time.Duration, handled *atomic.Int64, enqueue func(ctx context.Context, n int64) error) (int64, time.Duration, error) {
	var queued atomic.Int64
	start := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range producers {
		wg.Go(func() {
			for ctx.Err() == nil && time.Since(start) < d {
				if queued.Load()-handled.Load() > maxAhead {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				if err := enqueue(ctx, queued.Add(1)); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	for handled.Load() < queued.Load() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return handled.Load(), time.Since(start), context.Cause(ctx)
}
