package measure_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/measure"
)

// TestADurationIsInTheFirstBucketThatHoldsIt tries each bound and the duration after it.
func TestADurationIsInTheFirstBucketThatHoldsIt(t *testing.T) {
	bucketOf := func(d time.Duration) int {
		var c measure.Counter
		c.Observe(d)
		counted := c.Durations()
		require.Equal(t, max(d, 0), counted.Sum)
		for i, n := range counted.Buckets {
			if n == 1 {
				return i
			}
		}
		require.Fail(t, "it was not counted", d.String())
		return -1
	}
	require.Zero(t, bucketOf(-time.Second), "a clock that was put back")
	require.Zero(t, bucketOf(0))
	for i := range measure.Buckets - 1 {
		require.Equal(t, i, bucketOf(measure.Bound(i)))
		require.Equal(t, i+1, bucketOf(measure.Bound(i)+1))
	}
	require.Equal(t, measure.Buckets-1, bucketOf(1000*time.Hour))
	require.Zero(t, measure.Bound(measure.Buckets-1), "it has no bound")
	require.Equal(t, 32768*time.Millisecond, measure.Bound(measure.Buckets-2))
}
