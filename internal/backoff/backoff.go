// Package backoff spaces out tries at something that fails.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is an exponential wait with jitter. It is not for concurrent use.
type Backoff struct{ min, max, next time.Duration }

// New returns a Backoff whose waits grow from minimum to maximum.
func New(minimum, maximum time.Duration) *Backoff {
	return &Backoff{min: minimum, max: maximum, next: minimum}
}

// Reset makes the next wait the shortest.
func (b *Backoff) Reset() { b.next = b.min }

// Next returns the next wait: between half and the whole of the current maximum,
// which then doubles.
func (b *Backoff) Next() time.Duration {
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, b.max)
	return d
}

// Sleep blocks for the next wait, less if ctx ends.
func (b *Backoff) Sleep(ctx context.Context) { b.SleepUnless(ctx, nil) }

// SleepUnless is Sleep, and returns also when closed is.
func (b *Backoff) SleepUnless(ctx context.Context, closed <-chan struct{}) {
	timer := time.NewTimer(b.Next())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-closed:
	}
}
