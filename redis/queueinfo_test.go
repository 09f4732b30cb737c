package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis"
)

// TestAQueueSaysSinceWhenARunWaits has runs wait in every place.
func TestAQueueSaysSinceWhenARunWaits(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	oldest := func(queue string) time.Time {
		t.Helper()
		info, err := b.Queue(t.Context(), queue)
		require.NoError(t, err)
		return info.Oldest
	}
	require.Zero(t, oldest("ready"))
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d).Truncate(time.Millisecond).UTC() }
	queue := func(queue, id string, queued time.Time, change ...func(*broker.TaskRun)) {
		r := run(id, queue)
		r.QueuedAt = queued
		for _, f := range change {
			f(r)
		}
		require.NoError(t, b.QueueTasks(t.Context(), r))
	}
	large := func(r *broker.TaskRun) { r.Payload = make([]byte, 100_000) }
	queue("ready", "low", ago(time.Hour), func(r *broker.TaskRun) { r.Priority = broker.Low }, large)
	queue("ready", "high", ago(time.Minute), func(r *broker.TaskRun) { r.Priority = broker.High })
	require.WithinDuration(t, ago(time.Hour), oldest("ready"), time.Second)

	queue("held", "fair", ago(2*time.Hour), withFair("f"))
	require.WithinDuration(t, ago(2*time.Hour), oldest("held"), time.Second)

	queue("delayed", "later", ago(time.Hour), func(r *broker.TaskRun) { r.Delay = 2 * time.Hour })
	require.Zero(t, oldest("delayed"), "it is not due")
	queue("delayed", "due", ago(time.Hour), func(r *broker.TaskRun) { r.Due = ago(time.Minute) })
	require.WithinDuration(t, ago(time.Minute), oldest("delayed"), time.Second)

	// A retry waits since it is due again.
	queue("retried", "retried", ago(time.Hour))
	s := join(t, b, time.Minute)
	r := takeAll(t, s, "retried", 1)[0]
	require.Zero(t, oldest("retried"), "it is in flight")
	r.Attempt++
	r.History = &broker.History{Due: ago(time.Second)}
	_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Retry})
	require.NoError(t, err)
	require.Equal(t, ago(0).Add(-time.Second).Truncate(time.Minute), oldest("retried").Add(0).Truncate(time.Minute))

	require.NoError(t, b.Disable(t.Context(), "off", "task", true))
	queue("off", "deferred", ago(time.Hour))
	_, err = s.Take(within(t, 10*time.Millisecond), broker.Want{Queues: []string{"off"}, IO: 1})
	require.Error(t, err)
	require.WithinDuration(t, ago(time.Hour), oldest("off"), time.Second)
}

// TestAQueueSaysWhatALimitHoldsBack has runs wait for limits on runs in flight and for a rate.
func TestAQueueSaysWhatALimitHoldsBack(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	for i := range 5 {
		r := run(fmt.Sprint("slots-", i), "q")
		withLimited("slots", 2, 0)(r)
		require.NoError(t, b.QueueTasks(t.Context(), r))
	}
	for i := range 4 {
		r := run(fmt.Sprint("rate-", i), "q")
		withLimited("rate", 1, time.Hour)(r)
		withFair(fmt.Sprint("f", i%2))(r)
		require.NoError(t, b.QueueTasks(t.Context(), r))
	}
	s := join(t, b, time.Minute)
	takeAll(t, s, "q", 3)
	require.Eventually(t, func() bool { // a take looks at some backlogs
		_, _ = s.Take(within(t, 10*time.Millisecond), broker.Want{Queues: []string{"q"}, IO: 10})
		info, err := b.Queue(t.Context(), "q")
		require.NoError(t, err)
		require.Equal(t, int64(6), info.Held)
		require.Equal(t, int64(6), info.Queued)
		return len(info.Limits) == 2 && info.Limits[0].Waiting+info.Limits[1].Waiting == 6
	}, 10*time.Second, time.Millisecond)
	info, err := b.Queue(t.Context(), "q")
	require.NoError(t, err)
	for i := range info.Limits {
		require.NotNil(t, info.Limits[i].Run)
		info.Limits[i].Run = nil
	}
	require.Equal(t, []broker.LimitInfo{
		{Limit: broker.Limit{Key: "rate", Max: 1, Per: time.Hour}, Used: 1, Waiting: 3},
		{Limit: broker.Limit{Key: "slots", Max: 2}, Used: 2, Waiting: 3},
	}, info.Limits)
}

// TestASurveyLeavesQueuesWithLargeRunsApart has more than one command reads.
func TestASurveyLeavesQueuesWithLargeRunsApart(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	names := someQueues(5)
	for _, name := range names {
		r := run("large", name)
		r.QueuedAt, r.Payload = time.Now(), make([]byte, 700_000)
		require.NoError(t, b.QueueTasks(t.Context(), r))
	}
	apart := 0
	require.NoError(t, b.SurveyQueues(t.Context(), names, func(p maintenance.Part[*broker.QueueInfo]) {
		require.NoError(t, p.Err)
		if p.Apart {
			apart++
			return
		}
		require.NotZero(t, p.Found.Oldest)
	}))
	require.Equal(t, 4, apart)
	for _, name := range names {
		info, err := b.Queue(t.Context(), name)
		require.NoError(t, err)
		require.NotZero(t, info.Oldest)
	}
}
