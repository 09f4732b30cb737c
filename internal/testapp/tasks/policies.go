package tasks

import (
	"context"
	"fmt"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Once is Record, with one live run for each note.
//
//task:io
//task:unique 10m by=note
func (r *Recorder) Once(ctx context.Context, note string, n int) error { return r.record(ctx, note) }

// Brief is Record, not started after an hour.
//
//task:io
//task:expire 1h
func (r *Recorder) Brief(ctx context.Context, note string) error { return r.record(ctx, note) }

// Waiting is Record, with one waiting run for each note.
//
//task:io
//task:unique 10m by=note until=start
func (r *Recorder) Waiting(ctx context.Context, note string, n int) error {
	return r.record(ctx, note)
}

// Smooth is Record, evenly ten in a second.
//
//task:io
//task:rate 10/1s smooth
func (r *Recorder) Smooth(ctx context.Context, note string) error { return r.record(ctx, note) }

// Limited is Record, two at once for each tenant.
//
//task:io
//task:concurrency 2 by=tenant
func (r *Recorder) Limited(ctx context.Context, tenant string, n int) error {
	return r.record(ctx, tenant)
}

// Guarded is Record, one at once for each tenant and one in an hour for each card.
//
//task:io
//task:concurrency 1 by=tenant
//task:rate 1/1h by=card
//task:secret card
func (r *Recorder) Guarded(ctx context.Context, tenant, card string) error {
	return r.record(ctx, tenant)
}

// Rated is Record, three in a second.
//
//task:io
//task:rate 3/1s
func (r *Recorder) Rated(ctx context.Context, note string) error { return r.record(ctx, note) }

// Shared is Record, round-robin over tenants.
//
//task:io
//task:queue shared
//task:fair tenant
func (r *Recorder) Shared(ctx context.Context, tenant string, n int) error {
	return r.record(ctx, tenant)
}

// Half halves a number, which must be even.
//
//task:io
//task:retry 0
func Half(ctx context.Context, n int64) (int64, error) {
	if n%2 != 0 {
		return 0, fmt.Errorf("%d is odd", n)
	}
	return n / 2, nil
}

// Sum adds numbers up.
//
//task:io
//task:queue sums
func Sum(ctx context.Context, parts []int64, title string) (string, error) {
	sum := int64(0)
	for _, n := range parts {
		sum += n
	}
	return fmt.Sprintf("%s: %d of %d", title, sum, len(parts)), nil
}

// Work reports progress until it is stopped.
//
//task:cpu
//task:result 1m
func Work(ctx context.Context, steps int64) error {
	taskrt.Progress(ctx, 1, steps, "begun")
	<-ctx.Done()
	return context.Cause(ctx)
}
