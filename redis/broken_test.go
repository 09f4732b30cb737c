package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// moved returns the keys of a queue that were put aside, by what followed its hash tag.
func moved(t *testing.T, b *redis.Broker) (keys []string) {
	t.Helper()
	for _, d := range b.Damaged() {
		if d.Moved != "" {
			_, rest, _ := strings.Cut(d.Key, "}:")
			keys = append(keys, rest)
		}
	}
	return keys
}

// TestKeysOfRunsInFlightThatAreOfAWrongType are put aside when an end meets them, and
// the end is recorded by the next try.
func TestKeysOfRunsInFlightThatAreOfAWrongType(t *testing.T) {
	own, unique := run("mine", "q"), run("only", "q")
	own.OwnID, unique.EnsureRules().Unique = true, "key"
	member := run("member", "q")
	member.Links = &broker.Links{Group: "many"}
	for key, r := range map[string]*broker.TaskRun{"id:mine": own, "u:key": unique, "group:many": member} {
		t.Run(strings.ReplaceAll(key, ":", " "), func(t *testing.T) {
			b, c := open(t, shared, redis.Config{}), raw(t, shared)
			s := join(t, b, time.Minute)
			r.Keep = time.Hour
			plain := run("plain", "q")
			plain.Keep = time.Hour
			require.NoError(t, b.QueueTasks(t.Context(), r, plain))
			got := takeAll(t, s, "q", 2)
			broken := prefix(t) + ":{q}:" + key
			require.NoError(t, c.Del(t.Context(), broken).Err())
			require.NoError(t, c.LPush(t.Context(), broken, "x").Err())

			_, err := s.Finish(t.Context(), succeeded(got)...)
			require.ErrorContains(t, err, "WRONGTYPE")
			require.Equal(t, []string{key}, moved(t, b))
			fenced, err := s.Finish(t.Context(), succeeded(got)...)
			require.NoError(t, err)
			require.Empty(t, fenced)
			require.Equal(t, broker.StateSucceeded, record(t, b, "q", r.ID).State)
			require.Equal(t, broker.StateSucceeded, record(t, b, "q", "plain").State)
		})
	}
}

// TestABatchOfAWrongType is put aside when an end meets it, and counts at no limit any more.
func TestABatchOfAWrongType(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	r := run("limited", "q")
	r.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1}}
	require.NoError(t, b.QueueTasks(t.Context(), r))
	got := takeAll(t, s, "q", 1)
	members := c.SMembers(t.Context(), prefix(t)+":{q}:flights").Val()
	require.Len(t, members, 1)
	require.NoError(t, c.Set(t.Context(), prefix(t)+":{q}:f:"+members[0], "x", 0).Err())

	_, err := s.Finish(t.Context(), succeeded(got)...)
	require.ErrorContains(t, err, "WRONGTYPE")
	require.Equal(t, []string{"f:" + members[0]}, moved(t, b))
	fenced, err := s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
	require.Equal(t, []string{"limited"}, ids(fenced), "nobody can tell any more whose it is")
	next := run("next", "q")
	next.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1}}
	require.NoError(t, b.QueueTasks(t.Context(), next))
	require.Equal(t, []string{"next"}, ids(takeAll(t, s, "q", 1)), "the limit is free")
}

// TestNumbersOfLinesThatAreUsedUp are given anew when a run that is queued needs one.
func TestNumbersOfLinesThatAreUsedUp(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	require.NoError(t, c.HSet(t.Context(), prefix(t)+":{q}:policy", "back", "99999999999999999", "front", "1").Err())
	fair := run("fair", "q")
	fair.EnsureRules().Fair = "a"
	require.NoError(t, b.QueueTasks(t.Context(), fair))
	require.Len(t, b.Damaged(), 1)
	require.Equal(t, []string{"fair"}, ids(takeAll(t, join(t, b, time.Minute), "q", 1)))
}
