package redis_test

import (
	goruntime "runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// TestAnOutcomeThatFailsTakesNothingFromTheOthers has the outcome of one run fail for a
// reason that nobody repairs, in one call and one batch with others.
func TestAnOutcomeThatFailsTakesNothingFromTheOthers(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	gathering, members := group("q", "q", 2)
	nameGroup("g", gathering, members)
	require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
	good := run("good", "q")
	good.Keep = time.Minute
	require.NoError(t, b.QueueTasks(t.Context(), good, run("plain", "q")))
	// The last member's end has the group expire then.
	require.NoError(t, client.HSet(t.Context(), base+"group:g", "keep", "1e99").Err())
	require.NoError(t, client.HSet(t.Context(), base+"waiters", "good", "somebody").Err())

	s := join(t, b, time.Minute)
	got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 4})
	require.NoError(t, err)
	require.Len(t, got, 4)
	outcomes := succeeded(got)
	outcomes[2].Next = []*broker.TaskRun{run("next", "q")}
	for range 2 { // the second call repeats outcomes that the first one applied
		done, err := s.Finish(t.Context(), outcomes...)
		require.ErrorContains(t, err, "not an integer")
		require.Empty(t, done.Fenced)
	}
	record, err := b.Record(t.Context(), "q", "good")
	require.NoError(t, err)
	require.Equal(t, broker.StateSucceeded, record.State)
	told, err := client.LRange(t.Context(), base+"wait:somebody", 0, -1).Result()
	require.NoError(t, err)
	require.Equal(t, []string{"good"}, told, "who waits for the run")
	require.Equal(t, "next", takeAll(t, join(t, b, time.Minute), "q", 1)[0].ID)
	for _, n := range []int{0, 3} { // fenced by this, and not by the outcomes that the calls applied
		done, err := s.Finish(t.Context(), outcomes[0], outcomes[2], outcomes[3])
		require.NoError(t, err)
		require.Len(t, done.Fenced, n)
	}

	require.NoError(t, client.HDel(t.Context(), base+"group:g", "keep").Err())
	done, err := s.Finish(t.Context(), outcomes[1])
	require.NoError(t, err)
	require.Empty(t, done.Fenced)
	require.NoError(t, s.Renew(t.Context()))
	require.Equal(t, "gathering", takeAll(t, s, "q", 1)[0].ID)
}

// TestAnOutcomeThatFailsLeavesTheUniqueKeyItsTime has an outcome fail after the operation that
// frees the unique key. The key then expires when it would have expired, or never.
func TestAnOutcomeThatFailsLeavesTheUniqueKeyItsTime(t *testing.T) {
	t.Parallel()
	for name, unique := range map[string]time.Duration{"for an hour": time.Hour, "until the end": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, client := open(t, shared, redis.Config{}), raw(t, shared)
			base := prefix(t) + ":{q}:"
			gathering, members := group("q", "q", 1)
			nameGroup("g", gathering, members)
			members[0].EnsureRules().Unique, members[0].Rules.UniqueFor = "key", unique
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			require.NoError(t, client.HSet(t.Context(), base+"group:g", "keep", "1e99").Err())
			s := join(t, b, time.Minute)
			got := takeAll(t, s, "q", 1)
			before, owner := client.PTTL(t.Context(), base+"u:key").Val(), client.Get(t.Context(), base+"u:key").Val()
			require.NotEmpty(t, owner)

			_, err := s.Finish(t.Context(), succeeded(got)...)
			require.ErrorContains(t, err, "not an integer")
			require.Equal(t, owner, client.Get(t.Context(), base+"u:key").Val())
			after := client.PTTL(t.Context(), base+"u:key").Val()
			require.Equal(t, before < 0, after < 0, "expires in %v, before in %v", after, before)
			require.LessOrEqual(t, after, before)

			require.NoError(t, client.HDel(t.Context(), base+"group:g", "keep").Err())
			finishAll(t, s, got)
			require.NoError(t, b.QueueTasks(t.Context(), withUniqueKey("again", "key")))
		})
	}
}

func withUniqueKey(id, key string) *broker.TaskRun {
	r := run(id, "q")
	r.EnsureRules().Unique = key
	return r
}

// TestATakenRunThatCannotBeForgottenKeepsNoOthersBack is the same for GetTaskRuns.
func TestATakenRunThatCannotBeForgottenKeepsNoOthersBack(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	gathering, members := group("q", "other", 2)
	nameGroup("g", gathering, members)
	require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
	require.NoError(t, b.QueueTasks(t.Context(), run("good", "q")))
	require.NoError(t, client.HSet(t.Context(), prefix(t)+":{q}:group:g", "keep", "1e99").Err())
	got, err := b.GetTaskRuns(t.Context(), []string{"q"}, 3)
	require.NoError(t, err)
	require.Len(t, got, 2, "all but the last of the group")
	require.NoError(t, b.QueueTasks(t.Context(), run("later", "q")))
	got, err = b.GetTaskRuns(t.Context(), []string{"q"}, 3)
	require.NoError(t, err)
	require.Equal(t, "later", got[0].ID)
}

// TestRunsThatAreTakenForGoodLeaveNoMemory: nobody ever asks for their ends again.
func TestRunsThatAreTakenForGoodLeaveNoMemory(t *testing.T) {
	b := open(t, shared, redis.Config{})
	used := func() int {
		var stats goruntime.MemStats
		goruntime.GC() // the second one empties pools
		goruntime.GC()
		goruntime.ReadMemStats(&stats)
		return int(stats.HeapAlloc)
	}
	var before int
	for round := range 10 {
		require.NoError(t, b.QueueTasks(t.Context(), setAll(runs("q", 1000), largeKinds["unique"])...))
		got, err := b.GetTaskRuns(t.Context(), []string{"q"}, 1000)
		require.NoError(t, err)
		require.Len(t, got, 1000)
		if round == 0 {
			before = used()
		}
	}
	require.Less(t, used()-before, 1<<20, "bytes")
}
