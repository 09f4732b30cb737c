package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// deadSession takes the runs in queue q, calls a function, and lets its lease end.
func deadSession(t *testing.T, b *redis.Broker, n int, do func(s broker.Session, runs []*broker.TaskRun)) {
	t.Helper()
	s := join(t, b, 20*time.Millisecond)
	do(s, takeAll(t, s, "q", n))
	back := 0
	require.Eventually(t, func() bool {
		recovered, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		back += recovered.Runs
		return back == n
	}, 5*time.Second, time.Millisecond)
}

func begins(t *testing.T, s broker.Session, r *broker.TaskRun) {
	t.Helper()
	held, err := s.(poison.Tracker).Begin(t.Context(), r)
	require.NoError(t, err)
	require.True(t, held)
}

func TestDeliveriesOfRunsThatComeBack(t *testing.T) {
	t.Parallel()
	nothing := func(broker.Session, []*broker.TaskRun) {}
	begin := func(s broker.Session, runs []*broker.TaskRun) { begins(t, s, runs[0]) }
	handBack := func(s broker.Session, r *broker.TaskRun) {
		r.Deliveries--
		done, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Retry})
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
	}
	for _, c := range []struct {
		name string
		// between the first death and the last
		then  func(t *testing.T, b *redis.Broker)
		again int // further deaths without a begin
		want  int // deliveries, the last included
	}{
		{"it never begins", func(*testing.T, *redis.Broker) {}, 14, 2},
		{"it is near too often", func(*testing.T, *redis.Broker) {}, 15, 3},
		{"it begins", func(t *testing.T, b *redis.Broker) { deadSession(t, b, 1, begin) }, 5, 3},
		{"it begins twice", func(t *testing.T, b *redis.Broker) { deadSession(t, b, 1, begin); deadSession(t, b, 1, begin) }, 5, 4},
		{"it is given back", func(t *testing.T, b *redis.Broker) {
			s := join(t, b, time.Minute)
			handBack(s, takeAll(t, s, "q", 1)[0])
		}, 5, 2},
		{"it begins and is given back", func(t *testing.T, b *redis.Broker) {
			s := join(t, b, time.Minute)
			r := takeAll(t, s, "q", 1)[0]
			begins(t, s, r)
			handBack(s, r)
		}, 5, 2},
		{"it begins and its session leaves", func(t *testing.T, b *redis.Broker) {
			s := join(t, b, time.Minute)
			begins(t, s, takeAll(t, s, "q", 1)[0])
			require.NoError(t, s.Close(t.Context()))
		}, 5, 2},
		{"an attempt fails", func(t *testing.T, b *redis.Broker) {
			s := join(t, b, time.Minute)
			r := takeAll(t, s, "q", 1)[0]
			begins(t, s, r)
			r.Attempt++
			_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Retry, Delay: time.Millisecond})
			require.NoError(t, err)
		}, 5, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t, shared, redis.Config{})
			r := run("a", "q")
			r.Keep = time.Hour
			require.NoError(t, b.QueueTasks(t.Context(), r))
			deadSession(t, b, 1, nothing)
			c.then(t, b)
			for range c.again {
				deadSession(t, b, 1, nothing)
			}
			s := join(t, b, time.Minute)
			got := takeAll(t, s, "q", 1)
			require.Equal(t, c.want, got[0].Deliveries)
			done, err := s.Finish(t.Context(), succeeded(got)...)
			require.NoError(t, err)
			require.Empty(t, done.Fenced)
		})
	}
}

// TestSparedDeliveriesAreKeptAsLongAsTheirRunLives has a session lose its lease while its
// consumer lives, and then delays the run for longer than anything else is kept.
func TestSparedDeliveriesAreKeptAsLongAsTheirRunLives(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * time.Hour
	b := open(t, shared, redis.Config{Prefix: "spared"})
	c := raw(t, shared)
	spared := func() []string {
		keys, err := c.Keys(t.Context(), "*spared*spared:a").Result()
		require.NoError(t, err)
		return keys
	}
	require.NoError(t, b.QueueTasks(t.Context(), run("a", "q")))
	var lost broker.Session
	deadSession(t, b, 1, func(s broker.Session, _ []*broker.TaskRun) { lost = s })
	require.NoError(t, lost.(poison.Survivor).Survived(t.Context()))
	require.Len(t, spared(), 1)

	s := join(t, b, time.Minute)
	r := takeAll(t, s, "q", 1)[0]
	require.Equal(t, 2, r.Deliveries)
	r.Deliveries-- // it is put off
	_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Retry, Delay: 10 * week})
	require.NoError(t, err)
	left, err := c.PTTL(t.Context(), spared()[0]).Result()
	require.NoError(t, err)
	require.Greater(t, left, 10*week)

	require.NoError(t, b.QueueTasks(t.Context(), run("b", "q")))
	deadSession(t, b, 1, func(s broker.Session, _ []*broker.TaskRun) { lost = s })
	require.NoError(t, lost.(poison.Survivor).Survived(t.Context()))
	r = takeAll(t, s, "q", 1)[0]
	n, err := s.(poison.Survivor).Spared(t.Context(), r)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	r.Attempt++
	_, err = s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Succeeded})
	require.NoError(t, err)
	n, err = s.(poison.Survivor).Spared(t.Context(), r)
	require.NoError(t, err)
	require.Zero(t, n, "it has ended")
}

// TestARunThatBeganAgainWaitsWhenItComesBack has many deliveries, so that the longest wait
// can be drawn. A wait that is drawn can be next to nothing, but hardly thrice.
func TestARunThatBeganAgainWaitsWhenItComesBack(t *testing.T) {
	for _, withPolicies := range []bool{false, true} {
		t.Run(fmt.Sprintf("policies %v", withPolicies), func(t *testing.T) {
			var state broker.State
			for try := 0; try < 3 && state != broker.StateDelayed; try++ {
				state = comesBackBegun(t, withPolicies)
			}
			require.Equal(t, broker.StateDelayed, state)
		})
	}
}

// comesBackBegun has a run begin in a session that is not its first, and come back. It
// returns the run's state then.
func comesBackBegun(t *testing.T, withPolicies bool) broker.State {
	t.Helper()
	b := open(t, shared, redis.Config{})
	r := run("a", "q")
	r.Keep, r.Deliveries = time.Hour, 20
	if withPolicies {
		r.Rules = &broker.Rules{Limits: []broker.Limit{{Key: "l", Max: 1}}}
	}
	require.NoError(t, b.QueueTasks(t.Context(), r))
	deadSession(t, b, 1, func(broker.Session, []*broker.TaskRun) {})
	started := time.Now()
	deadSession(t, b, 1, func(s broker.Session, runs []*broker.TaskRun) { begins(t, s, runs[0]) })
	waiting, err := b.Runs(t.Context(), "q", broker.StateDelayed, 10)
	require.NoError(t, err)
	record, err := b.Record(t.Context(), "q", "a")
	require.NoError(t, err)
	if record.State == broker.StateDelayed {
		require.Len(t, waiting, 1)
		require.WithinRange(t, waiting[0].Due, started, time.Now().Add(time.Minute))
		require.Equal(t, 22, waiting[0].Run.Deliveries)
	}
	require.NoError(t, b.Cancel(t.Context(), "q", "a", broker.Failure{Kind: broker.FailureCancelled}))
	return record.State
}

// TestTheEndOfAFirstDeliveryDeletesNoSparedDeliveries: no delivery came before it, so
// its end costs the server the same whether or not the consumer counts attempts.
func TestTheEndOfAFirstDeliveryDeletesNoSparedDeliveries(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, c := open(t, server, redis.Config{}), raw(t, server)
	require.NoError(t, b.QueueTasks(t.Context(), run("a", "q"), run("b", "q"), run("c", "q")))
	s := join(t, b, time.Minute)
	runs := takeAll(t, s, "q", 3)
	before := calls(t, c, "del")[0]
	finishAll(t, s, runs)
	require.LessOrEqual(t, calls(t, c, "del")[0]-before, 1, "of the batch alone")
}
