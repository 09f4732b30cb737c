package redis_test

import (
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// openClient opens a broker like a client, which it closes before the broker:
// that has connections of its own.
func openClient(t testing.TB, client goredis.UniversalClient, cfg redis.Config) *redis.Broker {
	t.Helper()
	b, err := redis.New(client, cfg)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// allow makes a user "app" of a server. The user has the rights that a broker needs, and no others.
func allow(t testing.TB, server *redistest.Server, more ...string) {
	t.Helper()
	redistest.AllowUser(t, server, "app", more...)
}

// TestFewRights does all there is as a user of few rights.
func TestFewRights(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	allow(t, s)
	url := "redis://app:pass@" + s.Addr()
	useAll(t, openURL(t, url, redis.Config{Prefix: "app"}), someQueues(3))
	redistest.RequireNothingRefused(t, s)

	err := openURL(t, url, redis.Config{Prefix: "other"}).QueueTasks(t.Context(), run("one", "q"))
	require.ErrorContains(t, err, "NOPERM", "keys of another prefix")
	require.NotErrorIs(t, err, broker.ErrOutcomeUnknown)
}

// testFewRightsOnACluster is TestFewRights on a cluster.
func testFewRightsOnACluster(t *testing.T, c *redistest.Cluster) {
	for _, node := range c.Nodes {
		allow(t, node, redistest.ClusterRights()...)
	}
	url := strings.Replace(c.URL(), "//", "//app:pass@", 1)
	useAll(t, openURL(t, url, redis.Config{Prefix: "app"}), someQueues(6))
	redistest.RequireNothingRefused(t, c.Nodes...)
}

// useAll calls every method of a broker, with runs of every kind of end.
func useAll(t *testing.T, b *redis.Broker, queues []string) {
	t.Helper()
	s, late := join(t, b, time.Minute), join(t, b, time.Millisecond)
	for _, queue := range queues {
		list := runs(queue, 10)
		for i, r := range list {
			r.OwnID, r.Keep = i%2 == 0, time.Duration(i%3)*time.Minute
			r.Delay = time.Duration(i%2) * time.Millisecond
			if i%3 == 1 {
				r.Rules = &broker.Rules{Unique: r.ID, UniqueFor: time.Duration(i%4) * time.Hour}
				r.EnsureRules().Limits = []broker.Limit{{Key: "running", Max: 3}, {Key: "rate", Max: 100, Per: time.Minute}}
				r.EnsureRules().Fair = []string{"", "value"}[i%2]
			}
		}
		require.NoError(t, b.QueueTasks(t.Context(), list...))
		require.NoError(t, b.QueueTasks(t.Context(), run("plain", queue)))
		require.ErrorIs(t, b.QueueTasks(t.Context(), list[0]), broker.ErrDuplicate)
		require.NoError(t, b.QueueTick(t.Context(), run("tick", queue), time.Unix(1, 0)))
		last, err := b.LastTick(t.Context(), queue, "task")
		require.NoError(t, err)
		require.Equal(t, time.Unix(1, 0).UTC(), last)
		_, err = b.BeginTicks(t.Context(), queue, "another", last)
		require.NoError(t, err)

		_, err = late.Take(within(t, 5*time.Second), broker.Want{Queues: []string{queue}, IO: 2})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			recovered, err := b.Recover(t.Context(), queues)
			require.NoError(t, err)
			return recovered.Runs == 2
		}, 5*time.Second, 5*time.Millisecond)
		require.ErrorIs(t, late.Renew(t.Context()), broker.ErrLeaseLost)
	}
	ended := 0
	for ended < 12*len(queues) {
		got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: queues, IO: 10, CPU: 1})
		require.NoError(t, err)
		require.NoError(t, s.Renew(t.Context()))
		outcomes := make([]broker.Outcome, len(got))
		for i, r := range got {
			verdict := []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped, broker.Retry}[i%4]
			outcomes[i] = broker.Outcome{Run: r, Verdict: verdict, Delay: time.Duration(i%8) * time.Millisecond / 4}
			if verdict != broker.Retry {
				ended++
			}
		}
		done, err := s.Finish(t.Context(), outcomes...)
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
	}
	for _, queue := range queues {
		useControls(t, b, queue)
		_, err := b.DeadLetters(t.Context(), queue, 10)
		require.NoError(t, err)
		_, err = b.WaitRecord(within(t, 5*time.Second), queue, "run-1")
		require.NoError(t, err)
	}
	require.NoError(t, b.QueueTasks(t.Context(), run("last", queues[0])))
	_, err := b.GetTaskRuns(within(t, 5*time.Second), queues, 10)
	require.NoError(t, err)
	require.NoError(t, b.QueueTasks(t.Context(), runs(queues[1], 3)...))
	_, err = s.Take(within(t, 5*time.Second), broker.Want{Queues: queues, IO: 10})
	require.NoError(t, err)
	require.NoError(t, s.Close(t.Context()))
	lengths, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 3, lengths[queues[1]])
}

// useControls calls all that reads a queue and operates it.
func useControls(t *testing.T, b *redis.Broker, queue string) {
	t.Helper()
	s := join(t, b, time.Minute)
	require.NoError(t, b.Pause(t.Context(), queue, true))
	require.NoError(t, b.Pause(t.Context(), queue, false))
	e := &broker.Schedule{ID: "entry", Spec: "@daily", Run: run("entry", queue)}
	require.NoError(t, b.PutSchedule(t.Context(), e))
	require.NoError(t, b.PutSchedule(t.Context(), e))
	_, err := b.Schedules(t.Context())
	require.NoError(t, err)
	_, err = b.ScheduleChanges(t.Context())
	require.NoError(t, err)
	require.NoError(t, b.DeleteSchedule(t.Context(), queue, "entry"))
	require.NoError(t, b.Disable(t.Context(), queue, "other", true))
	require.NoError(t, b.QueueTasks(t.Context(), runOf("other", "disabled", queue)))
	takesNothing(t, s, queue)
	for _, state := range []broker.State{
		broker.StateQueued, broker.StateDelayed, broker.StateRunning, broker.StateSucceeded, broker.StateFailed,
	} {
		_, err := b.Runs(t.Context(), queue, state, 10)
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, queueInfo(t, b, queue).Queued)
	require.NoError(t, b.Disable(t.Context(), queue, "other", false))
	got := takeAll(t, s, queue, 1)
	_, err = s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
}

// TestTLSByURL has a server whose certificate nobody vouches for.
func TestTLSByURL(t *testing.T) {
	t.Parallel()
	s := redistest.StartTLS(t)
	allow(t, s.Server)
	url := func(password string) string { return "rediss://app:" + password + "@" + s.TLSAddr() }
	_, err := redis.Open(t.Context(), url("s3cr3t"), redis.Config{Prefix: "app"})
	require.ErrorContains(t, err, "certificate signed by unknown authority")
	require.NotContains(t, err.Error(), "s3cr3t")
	b := openURL(t, url("pass")+"?skip_verify=true", redis.Config{Prefix: "app"})
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")))
	_, err = redis.Open(t.Context(), "redis://"+s.TLSAddr(), redis.Config{})
	require.ErrorContains(t, err, "ping server", "without TLS")
}
