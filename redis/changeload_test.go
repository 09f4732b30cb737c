package redis_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// soakSize returns the size of a test with TASKGEN_SOAK, or a smaller one.
func soakSize(most, few int) int {
	if os.Getenv("TASKGEN_SOAK") != "" {
		return most
	}
	return few
}

// fill queues runs with ids that count from 0.
func fill(t testing.TB, b *redis.Broker, queue string, n int, id func(i int) string, change func(r *broker.TaskRun)) {
	t.Helper()
	const page = 2000
	for i := 0; i < n; i += page {
		var some []*broker.TaskRun
		for j := i; j < min(i+page, n); j++ {
			r := run(id(j), queue)
			if change != nil {
				change(r)
			}
			some = append(some, r)
		}
		require.NoError(t, b.QueueTasks(t.Context(), some...))
	}
}

// slowest watches how long the server was held up by one command; it returns what it has seen.
func slowest(t testing.TB, server *redistest.Server) func() (worst time.Duration, by string) {
	t.Helper()
	c := raw(t, server)
	require.NoError(t, c.ConfigSet(t.Context(), "slowlog-log-slower-than", "1000").Err())
	require.NoError(t, c.ConfigSet(t.Context(), "slowlog-max-len", "100000").Err())
	require.NoError(t, c.Do(t.Context(), "slowlog", "reset").Err())
	return func() (worst time.Duration, by string) {
		log, err := c.SlowLogGet(t.Context(), -1).Result()
		require.NoError(t, err)
		var longest goredis.SlowLog
		for _, entry := range log {
			if strings.HasPrefix(strings.ToLower(entry.Args[0]), "eval") && entry.Duration > longest.Duration {
				longest = entry
			}
		}
		return longest.Duration, fmt.Sprintf("%.60v, of %d commands over 1 ms", longest.Args, len(log))
	}
}

// TestManyRunsAreCancelled cancels 20,000 runs of a queue: alone, and spread among 1,000,000 others.
// Without TASKGEN_SOAK there are fewer. It logs how long that takes, and holds up the server.
func TestManyRunsAreCancelled(t *testing.T) {
	server := redistest.Start(t)
	b := open(t, server, redis.Config{})
	many, others := soakSize(20_000, 2000), soakSize(1_000_000, 20_000)
	const match = "cancel-"
	cancelAll := func(queue string) {
		seen, start := slowest(t, server), time.Now()
		changed, stayed := changeAll(t, b, queue, broker.StateQueued, broker.RunSearch{
			Match: func(r *broker.RunInfo) bool { return strings.HasPrefix(r.Run.ID, match) },
		}, cancelled, nil)
		took := time.Since(start)
		worst, by := seen()
		t.Logf("queue %s: %d runs cancelled in %v; the longest script took %v: %s", queue, changed, took.Round(time.Millisecond), worst, by)
		require.Equal(t, many, changed)
		require.Empty(t, stayed)
	}
	fill(t, b, "alone", many, func(i int) string { return fmt.Sprint(match, i) }, func(r *broker.TaskRun) { r.Keep, r.OwnID = time.Hour, true })
	cancelAll("alone")
	require.Zero(t, length(t, b, "alone"))

	every := (many + others) / many
	fill(t, b, "spread", many*every, func(i int) string {
		if i%every == 0 {
			return fmt.Sprint(match, i)
		}
		return fmt.Sprint("other-", i)
	}, nil)
	cancelAll("spread")
	require.Equal(t, many*(every-1), length(t, b, "spread"))
}
