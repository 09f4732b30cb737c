package broker_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

func TestHistogramBuckets(t *testing.T) {
	var h broker.Histogram
	last := len(h) - 1
	for d, want := range map[time.Duration]int{
		math.MinInt64: 0, 0: 0, time.Millisecond: 0, time.Millisecond + 1: 1, 2 * time.Millisecond: 1, 2*time.Millisecond + 1: 2,
		time.Second: 10, 1<<22*time.Millisecond + 1: last, math.MaxInt64: last,
	} {
		require.Equal(t, want, h.Bucket(d), "bucket of %v", d)
	}
	for i := range last {
		require.Equal(t, i, h.Bucket(time.Millisecond<<i), "bucket of the longest duration of bucket %d", i)
		require.Equal(t, i+1, h.Bucket(time.Millisecond<<i+1), "bucket of the next duration")
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h broker.Histogram
	require.Zero(t, h.Quantile(0.5), "of no durations")
	for range 90 {
		h.Observe(3 * time.Millisecond)
	}
	for range 10 {
		h.Observe(time.Hour)
	}
	require.EqualValues(t, 100, h.Count())
	require.Greater(t, h.Quantile(0.5), 2*time.Millisecond)
	require.LessOrEqual(t, h.Quantile(0.9), 4*time.Millisecond)
	require.Greater(t, h.Quantile(0.95), 30*time.Minute)
	require.LessOrEqual(t, h.Quantile(0.5), h.Quantile(0.7))
	require.Zero(t, h.Quantile(0))
}

func TestTallyAddAndValidate(t *testing.T) {
	minute := time.Unix(1_700_000_040, 0).UTC()
	tally := broker.Tally{Queue: "q", Task: "t", Minute: minute, Succeeded: 1, Retried: 2, Dead: 3, Dropped: 4}
	tally.Waits.Observe(time.Second)
	tally.Times.Observe(time.Minute)
	sum := tally
	sum.Add(&tally)
	require.Equal(t, []int64{2, 4, 6, 8, 2, 2}, []int64{sum.Succeeded, sum.Retried, sum.Dead, sum.Dropped, sum.Waits.Count(), sum.Times.Count()})
	require.NoError(t, sum.Validate())
	for want, edit := range map[string]func(*broker.Tally){
		"the queue name is empty":                     func(t *broker.Tally) { t.Queue = "" },
		`the task name "a b"`:                         func(t *broker.Tally) { t.Task = "a b" },
		"the tally of task t has no minute":           func(t *broker.Tally) { t.Minute = time.Time{} },
		"counted in the year 1969":                    func(t *broker.Tally) { t.Minute = time.Unix(-1, 0) },
		"the tally of task t has a count of -3":       func(t *broker.Tally) { t.Dead = -3 },
		"the tally of task t has a count of -1000000": func(t *broker.Tally) { t.Waits[5] = -1_000_000 },
	} {
		bad := tally
		edit(&bad)
		require.ErrorContains(t, bad.Validate(), want)
	}
}
