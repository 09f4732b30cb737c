// Package measure counts durations for metrics.
package measure

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is how many buckets there are.
const Buckets = 19

const shortest = 250 * time.Microsecond

// Bound returns the longest duration of a bucket: 250µs of the first, and twice as long
// for each further one. The last, of all that are longer, has none: Bound returns 0.
func Bound(bucket int) time.Duration {
	if bucket >= Buckets-1 {
		return 0
	}
	return shortest << bucket
}

// Durations are durations that were counted.
type Durations struct {
	Buckets [Buckets]int64 // not cumulative
	Sum     time.Duration
}

// Counter counts durations. Its zero value is ready. Its methods may be called concurrently.
type Counter struct {
	buckets [Buckets]atomic.Int64
	sum     atomic.Int64
}

// Observe counts a duration.
func (c *Counter) Observe(d time.Duration) {
	bucket := 0
	if d > shortest {
		bucket = min(bits.Len64(uint64((d-1)/shortest)), Buckets-1)
	}
	c.buckets[bucket].Add(1)
	c.sum.Add(int64(max(d, 0)))
}

// Durations returns what was counted so far.
func (c *Counter) Durations() (d Durations) {
	for i := range c.buckets {
		d.Buckets[i] = c.buckets[i].Load()
	}
	d.Sum = time.Duration(c.sum.Load())
	return d
}
