package redis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// moved returns the keys of a queue that were quarantined, by their names behind its hash
// tag.
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

// TestKeysOfRunsInFlightThatAreOfAWrongType has ends meet such keys, which are
// quarantined. The next try records the end.
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
			done, err := s.Finish(t.Context(), succeeded(got)...)
			require.NoError(t, err)
			require.Empty(t, done.Fenced)
			require.Equal(t, broker.StateSucceeded, record(t, b, "q", r.ID).State)
			require.Equal(t, broker.StateSucceeded, record(t, b, "q", "plain").State)
		})
	}
}

// TestABatchOfAWrongType has an end meet such a batch. It is quarantined, and counts at no
// limit any more.
func TestABatchOfAWrongType(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	r := run("limited", "q")
	r.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1}}
	require.NoError(t, b.QueueTasks(t.Context(), r))
	got := takeAll(t, s, "q", 1)
	members := c.SMembers(t.Context(), prefix(t)+":{q}:inflight").Val()
	require.Len(t, members, 1)
	require.NoError(t, c.Set(t.Context(), prefix(t)+":{q}:f:"+members[0], "x", 0).Err())

	_, err := s.Finish(t.Context(), succeeded(got)...)
	require.ErrorContains(t, err, "WRONGTYPE")
	require.Equal(t, []string{"f:" + members[0]}, moved(t, b))
	done, err := s.Finish(t.Context(), succeeded(got)...)
	require.NoError(t, err)
	require.Equal(t, []string{"limited"}, ids(done.Fenced), "it is not known any more whose run it is")
	next := run("next", "q")
	next.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1}}
	require.NoError(t, b.QueueTasks(t.Context(), next))
	require.Equal(t, []string{"next"}, ids(takeAll(t, s, "q", 1)), "the limit is free")
}

// TestBacklogNumbersThatAreUsedUp queues a run that needs such a number, and all are given
// anew.
func TestBacklogNumbersThatAreUsedUp(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	require.NoError(t, c.HSet(t.Context(), prefix(t)+":{q}:policy", "back", "99999999999999999", "front", "1").Err())
	fair := run("fair", "q")
	fair.EnsureRules().Fair = "a"
	require.NoError(t, b.QueueTasks(t.Context(), fair))
	require.Len(t, b.Damaged(), 1)
	require.Equal(t, []string{"fair"}, ids(takeAll(t, join(t, b, time.Minute), "q", 1)))
}

// TestKeysOfAQueueThatAreOfAWrongTypeStopNoFollowUp has a follow-up meet such keys, which
// are quarantined. A wake set of a wrong type costs only a wake-up.
func TestKeysOfAQueueThatAreOfAWrongTypeStopNoFollowUp(t *testing.T) {
	for _, key := range []string{"wake:io", "delayed", "io:1", "backlogs", "policy"} {
		for _, queue := range []string{"q", "other"} {
			t.Run(strings.ReplaceAll(key, ":", " ")+" of "+queue, func(t *testing.T) {
				b, c := open(t, shared, redis.Config{}), raw(t, shared)
				s := join(t, b, time.Minute)
				require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
				first := takeAll(t, s, "q", 1)
				broken := prefix(t) + ":{" + queue + "}:" + key
				require.NoError(t, c.Del(t.Context(), broken).Err())
				require.NoError(t, c.Set(t.Context(), broken, "x", 0).Err())
				next := []*broker.TaskRun{ownKept("a", queue), run("b", queue)}
				_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: next})
				require.NoError(t, err)
				if key != "wake:io" {
					require.Equal(t, []string{key}, moved(t, b))
				}
				require.Zero(t, c.Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
				require.ElementsMatch(t, []string{"a", "b"}, ids(takeAll(t, s, queue, 2)))
			})
		}
	}
}

// TestKeysOfARunThatWaitsForAGroupThatAreOfAWrongType has members end. The keys are
// quarantined, and the pending run is queued.
func TestKeysOfARunThatWaitsForAGroupThatAreOfAWrongType(t *testing.T) {
	for _, kind := range []string{"pending:", "id:", "rec:", "pending: alone"} {
		for _, then := range []string{"q", "other"} {
			t.Run(kind+" in "+then, func(t *testing.T) {
				b, c := open(t, shared, redis.Config{}), raw(t, shared)
				gathering, members := group("q", then, 2)
				kind, alone := strings.CutSuffix(kind, " alone")
				gathering.OwnID = !alone
				if alone {
					gathering.Keep = 0
				}
				require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
				broken := prefix(t) + ":{" + then + "}:" + kind + "gathering"
				require.NoError(t, c.Del(t.Context(), broken).Err())
				require.NoError(t, c.LPush(t.Context(), broken, "x").Err())
				s := join(t, b, time.Minute)
				finishAll(t, s, takeAll(t, s, "q", 2))
				require.Equal(t, []string{kind + "gathering"}, moved(t, b))
				require.Zero(t, c.Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
				finishAll(t, s, takeAll(t, s, then, 1))
				if !alone {
					require.Equal(t, broker.StateSucceeded, record(t, b, then, "gathering").State)
				}
				require.Zero(t, c.Exists(t.Context(), prefix(t)+":{"+then+"}:pending:gathering").Val(), "its place is not kept")
				_, err := b.Recover(t.Context(), []string{"q", then})
				require.NoError(t, err)
			})
		}
	}
}

// TestKeysThatMembersOfAGroupMeet has such keys quarantined, and the group stored.
func TestKeysThatMembersOfAGroupMeet(t *testing.T) {
	for _, key := range []string{"io:1", "id:member-1"} {
		t.Run(strings.ReplaceAll(key, ":", " "), func(t *testing.T) {
			b, c := open(t, shared, redis.Config{}), raw(t, shared)
			require.NoError(t, c.HSet(t.Context(), prefix(t)+":{q}:"+key, "x", "y").Err())
			gathering, members := group("q", "q", 2)
			members[1].OwnID = true
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			require.Equal(t, []string{key}, moved(t, b))
			requireGroupRuns(t, b, "q")
		})
	}
}

// TestBatchNumbersThatNoTakeUsed has the server reply that it knows such numbers. The
// session goes on behind them, or the server puts them right, and the damage is reported.
func TestBatchNumbersThatNoTakeUsed(t *testing.T) {
	for _, number := range []string{"9007199254740993", "1e300", "inf", "nan", "1000000000", "70"} {
		t.Run(number, func(t *testing.T) {
			b, c := open(t, shared, redis.Config{}), raw(t, shared)
			s, base := join(t, b, time.Minute), prefix(t)+":{q}:"
			for i := range 3 {
				require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")))
				one := takeAll(t, s, "q", 1)
				require.NoError(t, c.HSet(t.Context(), base+"takes", s.ID(), number).Err())
				require.NoError(t, b.QueueTasks(t.Context(), run("two", "q")))
				two := takeAll(t, s, "q", 1)
				require.Equal(t, []string{"two"}, ids(two))
				told := b.Damaged()
				require.LessOrEqual(t, len(told), 1)
				if i == 0 {
					require.Len(t, told, 1)
					require.Equal(t, base+"takes", told[0].Key)
				}
				finishAll(t, s, append(one, two...))
				require.NoError(t, s.Renew(t.Context()))
			}
			require.Zero(t, length(t, b, "q"))
			require.Empty(t, c.SMembers(t.Context(), base+"inflight").Val())
		})
	}
}

// TestAReadyListThatAnotherQuarantines meanwhile is in no call's way.
func TestAReadyListThatAnotherQuarantines(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	ready := prefix(t) + ":{q}:io:1"
	b.Instrument(`if 'NAME' == 'repair' then redis.call('DEL', '` + ready + `') end`)
	require.NoError(t, c.Set(t.Context(), ready, "x", 0).Err())
	require.NoError(t, b.QueueTasks(t.Context(), run("plain", "q")))
	require.Equal(t, 1, length(t, b, "q"))
}

// TestARefusedRunLeavesNoRecord has a ready list that cannot be quarantined, which the
// error names.
func TestARefusedRunLeavesNoRecord(t *testing.T) {
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	b.Unrepairable()
	damage(t, "q")
	kept := run("kept", "q")
	kept.Keep = time.Hour
	require.ErrorContains(t, b.QueueTasks(t.Context(), kept), "the key "+damagedList(t, "q")+" is a string, not a list")
	require.Zero(t, c.Exists(t.Context(), prefix(t)+":{q}:rec:kept").Val())
}
