package redis_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// putBack is how far these tests put the server's clock back. They write the keys that the
// server would have written before.
const putBack = time.Hour

// TestLeasesSurviveAClockThatIsPutBack has sessions whose leases were renewed before the
// clock was put back: a dead one, one that lives, and one of another program whose name
// has no lease.
func TestLeasesSurviveAClockThatIsPutBack(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	c := raw(t, shared)
	const lease = time.Second
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 2)...))
	take := func() (broker.Session, []*broker.TaskRun) {
		s := join(t, b, lease)
		got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 1})
		require.NoError(t, err)
		return s, got
	}
	dead, lost := take()
	alive, kept := take()
	leases := prefix(t) + ":{q}:leases"
	now, err := c.Time(t.Context()).Result()
	require.NoError(t, err)
	for _, s := range []broker.Session{dead, alive} {
		n, err := c.ZAddXX(t.Context(), leases, z(float64(now.Add(putBack+lease).UnixMilli()), s.ID())).Result()
		require.NoError(t, err)
		require.Zero(t, n)
	}
	start, found := time.Now(), 0
	require.Eventually(t, func() bool {
		require.NoError(t, alive.Renew(t.Context()))
		recovered, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		found += recovered.Runs
		return found > 0
	}, 10*time.Second, lease/4)
	require.GreaterOrEqual(t, time.Since(start), lease*9/10, "the dead one had time to renew")
	require.Less(t, time.Since(start), 2*lease+time.Second)
	require.Equal(t, 1, found)
	_, again := take()
	require.Equal(t, ids(lost), ids(again))
	done, err := alive.Finish(t.Context(), succeeded(kept)...)
	require.NoError(t, err)
	require.Empty(t, done.Fenced, "the living one kept its run")

	const foreign = "0123456789abcdef0123456789abcdef"
	require.NoError(t, c.ZAdd(t.Context(), leases, z(float64(now.Add(putBack).UnixMilli()), foreign)).Err())
	require.NoError(t, c.RPush(t.Context(), prefix(t)+":{q}:f:"+foreign+":1", "an element").Err())
	require.NoError(t, c.SAdd(t.Context(), prefix(t)+":{q}:inflight", foreign+":1").Err())
	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	end := c.ZScore(t.Context(), leases, foreign).Val()
	require.InDelta(t, float64(time.Now().UnixMilli()), end, 12_000)
}

// TestRatesSurviveAClockThatIsPutBack has a rate whose starts, and the time to check its
// waiting runs, were noted before the clock was put back.
func TestRatesSurviveAClockThatIsPutBack(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	c, base := raw(t, shared), prefix(t)+":{q}:"
	const per = time.Second
	list := runs("q", 3)
	for _, r := range list {
		r.EnsureRules().Limits = []broker.Limit{{Key: "rate", Max: 1, Per: per}}
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	s := join(t, b, time.Minute)
	take := func() {
		got, err := s.Take(within(t, 10*time.Second), broker.Want{Queues: []string{"q"}, IO: 1})
		require.NoError(t, err)
		require.Len(t, got, 1)
	}
	take()
	_, err := s.Take(within(t, 50*time.Millisecond), broker.Want{Queues: []string{"q"}, IO: 1})
	require.Error(t, err, "the rate holds the others back")

	var before []string
	for _, start := range c.ZRange(t.Context(), base+"starts", 0, -1).Val() {
		if at, err := strconv.ParseInt(start[16:32], 10, 64); err == nil && start[16] != 'p' {
			moved := start[:16] + fmt.Sprintf("%016d", at+putBack.Microseconds()) + start[32:]
			require.NoError(t, c.ZAdd(t.Context(), base+"starts", z(0, moved)).Err())
			require.NoError(t, c.ZRem(t.Context(), base+"starts", start).Err())
			before = append(before, moved)
		}
	}
	require.Len(t, before, 1)
	opens := c.ZRangeWithScores(t.Context(), base+"recheck", 0, -1).Val()
	require.Len(t, opens, 1)
	for _, o := range opens {
		require.NoError(t, c.ZAdd(t.Context(), base+"recheck", goredis.Z{Score: o.Score + float64(putBack.Milliseconds()), Member: o.Member}).Err())
	}
	start := time.Now()
	take()
	require.GreaterOrEqual(t, time.Since(start), per/2, "the start counts from now")
	take()
	require.Less(t, time.Since(start), 2*per+5*time.Second)
}
