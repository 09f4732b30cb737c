package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestManyQueuesCostFewCommands reads 200 queues with many runs in all, 100 consumers and 10,000
// dead letters, as the command line does. Without TASKGEN_SOAK there are fewer of these.
func TestManyQueuesCostFewCommands(t *testing.T) {
	const queues, consumers = 200, 100
	each, dead := soakSize(5000, 60), soakSize(50, 5)
	server := redistest.Start(t)
	b := open(t, server, redis.Config{})
	names := someQueues(queues)
	var sessions []broker.Session
	for range consumers {
		sessions = append(sessions, join(t, b, time.Minute))
	}
	for i, name := range names {
		fill(t, b, name, dead, func(i int) string { return fmt.Sprint("dead-", i) }, func(r *broker.TaskRun) { r.Keep = time.Hour })
		var outcomes []broker.Outcome
		s := sessions[i%consumers]
		for _, r := range takeAll(t, s, name, dead) {
			outcomes = append(outcomes, broker.Outcome{Run: r, Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed, Message: "it was to fail"}})
		}
		_, err := s.Finish(t.Context(), outcomes...)
		require.NoError(t, err)
		fill(t, b, name, each, func(i int) string { return fmt.Sprint("run-", i) }, func(r *broker.TaskRun) { r.QueuedAt = time.Now() })
		_, err = s.Take(t.Context(), broker.Want{Queues: []string{name}, IO: 3})
		require.NoError(t, err)
	}
	survey := func(what string, most int, f func()) {
		n := redistest.SentCommands(t, server, f)
		seen, start := slowest(t, server), time.Now()
		f() // again: MONITOR delays each command of a script
		took := time.Since(start)
		worst, _ := seen()
		t.Logf("%s: %d commands, %v; the longest script %v", what, n, took.Round(time.Millisecond), worst)
		require.Positive(t, n, what)
		require.LessOrEqual(t, n, most, what)
	}
	ctx := t.Context()
	survey("queues", 10, func() {
		all, err := b.QueueNames(ctx)
		require.NoError(t, err)
		require.Len(t, all, queues)
		require.NoError(t, b.SurveyQueues(ctx, names, func(p maintenance.Part[*broker.QueueInfo]) {
			require.False(t, p.Apart)
			require.Equal(t, int64(each-3), p.Found.Queued)
			require.Equal(t, int64(3), p.Found.Running)
			require.Equal(t, int64(dead), p.Found.Dead)
			require.WithinDuration(t, time.Now(), p.Found.Oldest, 10*time.Minute)
		}))
	})
	for _, state := range []broker.State{broker.StateRunning, broker.StateQueued, broker.StateDelayed} {
		survey("runs "+string(state), 20, func() {
			require.NoError(t, b.SurveyRuns(ctx, names, state, 51, nil, func(p maintenance.Part[[]*broker.RunInfo]) {
				require.False(t, p.Apart)
				want := map[broker.State]int{broker.StateRunning: 3, broker.StateQueued: min(51, each-3)}[state]
				require.Len(t, p.Found, want)
			}))
		})
	}
	survey("runs failed", 40, func() {
		found := 0
		require.NoError(t, b.SurveyRuns(ctx, names, broker.StateFailed, 51, nil, func(p maintenance.Part[[]*broker.RunInfo]) {
			require.False(t, p.Apart)
			found += len(p.Found) // of the first queues
		}))
		require.Greater(t, found, 51)
	})
	survey("dead letters", 20, func() {
		require.NoError(t, b.SurveyDeadLetters(ctx, names, func(p maintenance.Part[[]*broker.DeadLetter]) {
			require.False(t, p.Apart)
			require.Len(t, p.Found, dead)
		}))
	})
	survey("a page of runs", 6, func() {
		page, err := b.FindRuns(ctx, names[7], broker.StateQueued, broker.RunSearch{Max: 50})
		require.NoError(t, err)
		require.Len(t, page.Runs, 50)
		require.Equal(t, int64(each-3), page.Total)
	})
	putSchedules(t, b, names)
	survey("schedules", 6, func() {
		list, err := b.Schedules(ctx, names...)
		require.NoError(t, err)
		require.Len(t, list, queues)
		require.ElementsMatch(t, names, queuesOf(list))
		require.WithinDuration(t, time.Now(), list[0].Last, time.Hour)
	})
}

// putSchedules puts a schedule into each of the queues.
func putSchedules(t *testing.T, b *redis.Broker, queues []string) {
	t.Helper()
	for _, name := range queues {
		s := &broker.Schedule{ID: "s", Spec: "@every 1h", Run: &broker.TaskRun{ID: "s", Task: "report", Queue: name}}
		require.NoError(t, b.PutSchedule(t.Context(), s))
		tick := time.Now().Truncate(time.Second)
		require.NoError(t, b.QueueScheduleTick(t.Context(), s, &broker.TaskRun{ID: "tick", Task: "report", Queue: name, QueuedAt: tick}, tick))
	}
}

func queuesOf(list []*broker.Schedule) (names []string) {
	for _, s := range list {
		names = append(names, s.Run.Queue)
	}
	return names
}

// TestSchedulesOfOddQueuesAreReadBesideOthers has one queue with many schedules, one with large
// ones, and some whose keys are of a wrong type.
func TestSchedulesOfOddQueuesAreReadBesideOthers(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := open(t, s, redis.Config{})
	put := func(queue string, n, bytes int) {
		for i := range n {
			id := fmt.Sprint("s", i)
			require.NoError(t, b.PutSchedule(t.Context(), &broker.Schedule{ID: id, Spec: "@every 1h", Run: &broker.TaskRun{ID: id, Task: "report", Queue: queue, Payload: make([]byte, bytes)}}))
		}
	}
	put("few", 3, 10)
	put("many", 1500, 10)
	put("large", 3, 200_000)
	put("odd", 1, 10)
	put("oddticks", 1, 10)
	c := raw(t, s)
	for _, key := range []string{prefix(t) + ":{odd}:schedules", prefix(t) + ":{oddticks}:ticks"} {
		require.NoError(t, c.Del(t.Context(), key).Err())
		require.NoError(t, c.Set(t.Context(), key, "odd", 0).Err())
	}
	list, err := b.Schedules(t.Context(), "few", "many", "large", "none", "odd", "oddticks")
	require.ErrorContains(t, err, "read schedules of queue odd: ")
	count := map[string]int{}
	for _, s := range list {
		require.Equal(t, "@every 1h", s.Spec)
		require.NotZero(t, s.Since)
		count[s.Run.Queue]++
	}
	require.Equal(t, map[string]int{"few": 3, "many": 1500, "large": 3, "oddticks": 1}, count)
	for _, queue := range []string{"few", "many"} {
		alone, err := b.Schedules(t.Context(), queue)
		require.NoError(t, err)
		for _, s := range alone {
			require.Contains(t, list, s)
		}
	}
}
