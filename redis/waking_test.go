package redis_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

func TestCloseEndsBlockedCalls(t *testing.T) {
	clean(t, shared)
	cfg := redis.Config{Prefix: prefix(t)}
	b, err := redis.Open(t.Context(), shared.URL(), cfg)
	require.NoError(t, err)
	kept := run("kept", "q")
	kept.Keep = time.Hour
	kept.Delay = time.Hour
	require.NoError(t, b.QueueTasks(t.Context(), kept))
	s := join(t, b, time.Second)
	ended := make(chan error, 3)
	go func() { _, err := b.GetTaskRuns(t.Context(), []string{"q"}, 1); ended <- err }()
	go func() { _, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1}); ended <- err }()
	go func() { _, err := b.WaitRecord(t.Context(), "q", "kept"); ended <- err }()
	client := raw(t, shared)
	awaitBlocked(t, client, 2) // takes share one connection, records have one
	start := time.Now()
	require.NoError(t, b.Close())
	for range 3 {
		require.ErrorIs(t, <-ended, broker.ErrClosed)
	}
	require.Less(t, time.Since(start), time.Second)
	require.ErrorIs(t, b.QueueTasks(t.Context(), run("late", "q")), broker.ErrClosed)
	_, err = b.Join(t.Context(), time.Second)
	require.ErrorIs(t, err, broker.ErrClosed)
	require.NoError(t, b.Close(), "closing again")
}

// awaitBlocked waits until so many clients of the server have sent a blocking
// read.
func awaitBlocked(t testing.TB, c *goredis.Client, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		list, err := c.ClientList(t.Context()).Result()
		return err == nil && strings.Count(list, "cmd=blmpop") >= n
	}, 5*time.Second, time.Millisecond)
}

// TestIdleConsumersSendLittle counts what the server is sent while five
// sessions wait for five seconds, and that a run wakes one of them at once.
func TestIdleConsumersSendLittle(t *testing.T) {
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	const sessions = 5
	type taken struct {
		runs []*broker.TaskRun
		at   time.Time
		err  error
	}
	got := make(chan taken, sessions)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for range sessions {
		s := join(t, b, time.Minute)
		waiting.Go(func() {
			runs, err := s.Take(ctx, broker.Want{Queues: []string{"a", "b"}, IO: 1, CPU: 1})
			got <- taken{runs, time.Now(), err}
		})
	}
	awaitBlocked(t, client, 1)
	before := commands(t, client)
	timer := time.NewTimer(5 * time.Second)
	<-timer.C
	sent := commands(t, client) - before
	// Every two seconds one look into each queue a session, one blocking read.
	require.LessOrEqual(t, sent, 3*(sessions*2+1)+5, "commands in 5 s")
	require.GreaterOrEqual(t, sent, 1)

	start := time.Now()
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "b")))
	first := <-got
	require.NoError(t, first.err)
	require.Equal(t, []string{"one"}, ids(first.runs))
	t.Logf("%d commands in 5 s; woken after %v", sent, first.at.Sub(start))
	require.Less(t, first.at.Sub(start), time.Second, "sooner than by looking again")
	require.NoError(t, b.QueueTasks(t.Context(), runs("a", sessions-1)...))
	for range sessions - 1 {
		next := <-got
		require.NoError(t, next.err)
		require.Len(t, next.runs, 1)
		require.Less(t, next.at.Sub(start), time.Second, "a wake-up is passed on")
	}
	cancel()
	waiting.Wait()
}

// commands is how many calls the server has counted, those of the asking
// client not.
func commands(t testing.TB, c *goredis.Client) int {
	t.Helper()
	info, err := c.InfoMap(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	total := 0
	for name, stats := range info["Commandstats"] {
		if name != "cmdstat_evalsha" && name != "cmdstat_blmpop" && name != "cmdstat_eval" {
			continue // within scripts, or of the test
		}
		calls, _, _ := strings.Cut(strings.TrimPrefix(stats, "calls="), ",")
		n, err := strconv.Atoi(calls)
		require.NoError(t, err)
		total += n
	}
	return total
}

func TestDelayedRunWakesSleepers(t *testing.T) {
	b := open(t, shared, redis.Config{})
	other := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	got := make(chan error, 1)
	var at time.Time
	go func() {
		_, err := s.Take(within(t, 10*time.Second), broker.Want{Queues: []string{"q"}, IO: 1})
		at = time.Now()
		got <- err
	}()
	awaitBlocked(t, raw(t, shared), 1)
	soon := run("soon", "q")
	soon.Delay = 100 * time.Millisecond
	start := time.Now()
	require.NoError(t, other.QueueTasks(t.Context(), soon))
	require.NoError(t, <-got)
	require.GreaterOrEqual(t, at.Sub(start), soon.Delay)
	require.Less(t, at.Sub(start), time.Second)
}
