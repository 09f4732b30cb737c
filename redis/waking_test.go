package redis_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	_, err = b.OpenSession(t.Context(), time.Second)
	require.ErrorIs(t, err, broker.ErrClosed)
	require.NoError(t, b.Close(), "closing again")
}

// awaitBlocked waits until so many clients of the server have sent a blocking
// read.
func awaitBlocked(t testing.TB, c *goredis.Client, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		list, err := c.ClientList(t.Context()).Result()
		return err == nil && blocked(list) >= n
	}, 5*time.Second, time.Millisecond)
}

// blocked counts the connections in a list of clients whose last command was a blocking
// read of tokens.
func blocked(list string) int {
	return strings.Count(list, "cmd=bzmpop") + strings.Count(list, "cmd=blmpop")
}

// TestIdleConsumersSendLittle counts the commands that the server executes, within scripts
// too, while a session waits for six seconds and its consumer recovers every second. A run
// then wakes the session at once.
func TestIdleConsumersSendLittle(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 10} {
		t.Run(fmt.Sprintf("%d queues", n), func(t *testing.T) {
			server := redistest.Start(t)
			b, client := open(t, server, redis.Config{}), raw(t, server)
			queues := make([]string, n)
			for i := range queues {
				queues[i] = fmt.Sprintf("q%d", i)
			}
			s := join(t, b, 10*time.Second)
			got := make(chan error, 1)
			var at time.Time
			want := broker.Want{Queues: slices.Clone(queues), IO: 1, CPU: 1}
			go func() {
				_, err := s.Take(t.Context(), want)
				at = time.Now()
				got <- err
			}()
			awaitBlocked(t, client, 1)
			before := commands(t, client)
			tick := time.NewTicker(time.Second)
			defer tick.Stop()
			const seconds = 6
			for range seconds {
				<-tick.C
				slices.Reverse(queues)
				require.NoError(t, s.Renew(t.Context()))
				_, err := b.Recover(t.Context(), queues)
				require.NoError(t, err)
			}
			sent := commands(t, client) - before
			t.Logf("%d commands in %d s", sent, seconds)
			require.LessOrEqual(t, sent, 2*seconds+2, "commands in %d s", seconds)

			start := time.Now()
			require.NoError(t, b.QueueTasks(t.Context(), run("one", queues[n-1])))
			require.NoError(t, <-got)
			require.Less(t, at.Sub(start), time.Second, "sooner than by looking again")
		})
	}
}

// TestWaitersAreAllWoken lets five sessions wait and queues a run for each.
func TestWaitersAreAllWoken(t *testing.T) {
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	const sessions = 5
	got := make(chan error, sessions)
	for range sessions {
		s := join(t, b, time.Minute)
		go func() {
			list, err := s.Take(t.Context(), broker.Want{Queues: []string{"a", "b"}, IO: 1, CPU: 1})
			if err == nil && len(list) != 1 {
				err = fmt.Errorf("took %d runs", len(list))
			}
			got <- err
		}()
	}
	awaitBlocked(t, client, 1)
	start := time.Now()
	require.NoError(t, b.QueueTasks(t.Context(), runs("a", sessions)...))
	for range sessions {
		require.NoError(t, <-got)
	}
	require.Less(t, time.Since(start), time.Second, "a wake-up is passed on")
}

// TestLostWakeUpIsMadeGood removes the wake token of a run, as a process does that dies on
// the way.
func TestLostWakeUpIsMadeGood(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	want := broker.Want{Queues: []string{"q"}, IO: 1}
	for i := range 2 {
		got := make(chan error, 1)
		go func() { _, err := s.Take(within(t, 10*time.Second), want); got <- err }()
		awaitBlocked(t, client, 1)
		require.NoError(t, client.Del(t.Context(), prefix(t)+":{q}:idle:io").Err())
		start := time.Now()
		own := run(fmt.Sprintf("unheard-%d", i), "q") // whose enqueue asks whether somebody waits
		own.OwnID = true
		require.NoError(t, b.QueueTasks(t.Context(), own))
		require.NoError(t, <-got)
		require.Less(t, time.Since(start), 4*time.Second)
	}
	_, err := s.Take(within(t, 50*time.Millisecond), want)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualValues(t, 1, client.Exists(t.Context(), prefix(t)+":{q}:idle:io").Val(), "it says again that it waits")
}

// TestPlainEnqueueIsCheap counts the commands of the most common enqueue.
func TestPlainEnqueueIsCheap(t *testing.T) {
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	before := commands(t, client)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 1)...))
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 10_000)...))
	require.LessOrEqual(t, commands(t, client)-before, 2*3, "commands of two enqueues, 10,001 runs")
	require.Equal(t, 10_002, length(t, b, "q"))
}

// commands is how many commands the server has executed, those within scripts
// included, those of the asking client not.
func commands(t testing.TB, c *goredis.Client) int {
	t.Helper()
	info, err := c.InfoMap(t.Context(), "stats", "commandstats").Result()
	require.NoError(t, err)
	total, err := strconv.Atoi(info["Stats"]["total_commands_processed"])
	require.NoError(t, err)
	for name, stats := range info["Commandstats"] {
		if name == "cmdstat_info" || name == "cmdstat_client|list" || name == "cmdstat_hello" || name == "cmdstat_ping" {
			calls, _, _ := strings.Cut(strings.TrimPrefix(stats, "calls="), ",")
			n, err := strconv.Atoi(calls)
			require.NoError(t, err)
			total -= n
		}
	}
	return total
}

func TestDelayedRunWakesWaiters(t *testing.T) {
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

// TestWaitersShareOneRead blocks for the same queues in every order, as
// consumers with weighted queues do.
func TestWaitersShareOneRead(t *testing.T) {
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	s := join(t, b, time.Minute)
	for _, queues := range [][]string{
		{"a", "b", "c"}, {"a", "c", "b"}, {"b", "a", "c"}, {"b", "c", "a"}, {"c", "a", "b"}, {"c", "b", "a"},
	} {
		_, err := s.Take(within(t, 50*time.Millisecond), broker.Want{Queues: queues, IO: 1, CPU: 1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
	list, err := client.ClientList(t.Context()).Result()
	require.NoError(t, err)
	require.Equal(t, 1, blocked(list), "blocked connections:\n%s", list)
}
