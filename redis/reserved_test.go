package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// dieUndecided has a producer store the pages of a large call, and die before its
// commit.
func dieUndecided(t *testing.T) {
	t.Helper()
	other, l := openLossy(t, shared)
	l.cut(commit, true)
	require.ErrorIs(t, other.QueueTasks(t.Context(), largeCall()...), broker.ErrOutcomeUnknown)
}

// claimsOfLargeCalls are ways to be in the way of a run of a large call.
var claimsOfLargeCalls = map[string]func(r *broker.TaskRun){
	"own id":     func(r *broker.TaskRun) { r.ID, r.OwnID = "run-7", true },
	"unique key": func(r *broker.TaskRun) { r.EnsureRules().Unique = "key-7" },
}

// TestRunThatFollowsWaitsForALargeCallThatIsNotDecided: the run that it would be a
// duplicate of may never be, and nobody would queue it again.
func TestRunThatFollowsWaitsForALargeCallThatIsNotDecided(t *testing.T) {
	t.Parallel()
	for name, claim := range claimsOfLargeCalls {
		for _, from := range []string{"q", "p"} {
			t.Run(name+" from "+from, func(t *testing.T) {
				b, client := open(t, shared, redis.Config{}), raw(t, shared)
				s := join(t, b, time.Minute)
				require.NoError(t, b.QueueTasks(t.Context(), run("first", from)))
				first := takeAll(t, s, from, 1)
				dieUndecided(t)
				next := run("next", "q")
				next.Keep = time.Minute
				claim(next)
				_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: []*broker.TaskRun{next}})
				require.NoError(t, err)
				require.Len(t, elementsAt(t, client, prefix(t)+":{"+from+"}:outbox"), 1)

				endTime(t, client)
				_, err = b.Recover(t.Context(), []string{"p", "q"})
				require.NoError(t, err)
				got := takeAll(t, s, "q", 1)
				require.Equal(t, []string{next.ID}, ids(got))
				finishAll(t, s, got)
				require.Empty(t, elementsAt(t, client, prefix(t)+":{"+from+"}:outbox"))
				require.NoError(t, b.QueueTasks(t.Context(), largeCall()...), "nothing is reserved")
				requireAllOnce(t, b)
			})
		}
	}
}

// TestRunThatFollowsIsLeftOutForALargeCallThatIsStored, before its runs were moved.
func TestRunThatFollowsIsLeftOutForALargeCallThatIsStored(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	first := takeAll(t, s, "q", 1)
	other, l := openLossy(t, shared)
	l.cut(aMove, true)
	require.NoError(t, other.QueueTasks(t.Context(), largeCall()...))
	next := run("next", "q")
	next.EnsureRules().Unique, next.Keep = "key-7", time.Minute
	_, err := s.Finish(t.Context(), broker.Outcome{Run: first[0], Next: []*broker.TaskRun{next}})
	require.NoError(t, err)
	require.Equal(t, broker.StateFailed, record(t, b, "q", "next").State)
	require.NoError(t, s.Leave(t.Context()))
	requireAllOnce(t, b)
}

// TestReservationThatComesToNothingRefusesNobody: what a call reserved that was never
// stored is in nobody's way.
func TestReservationThatComesToNothingRefusesNobody(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error{
		"queued": func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error {
			return b.QueueTasks(t.Context(), r)
		},
		"tick": func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error {
			return b.QueueTick(t.Context(), r, time.Now())
		},
		"dead letter": func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error {
			n, err := b.Redo(t.Context(), "q", broker.RedoRetry, r.ID)
			require.Equal(t, 1, n, err)
			return err
		},
		"run of a group": func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error {
			gathering, members := group("q", "q", 1)
			gathering.ID, gathering.OwnID, gathering.Rules = r.ID, r.OwnID, r.Rules
			return b.QueueGroup(t.Context(), gathering, members...)
		},
	}
	for what, claim := range claimsOfLargeCalls {
		for name, way := range ways {
			t.Run(name+" with "+what, func(t *testing.T) {
				b := open(t, shared, redis.Config{})
				r := run("mine", "q")
				claim(r)
				if name == "dead letter" {
					require.NoError(t, b.QueueTasks(t.Context(), r))
					s := join(t, b, time.Minute)
					_, err := s.Finish(t.Context(), broker.Outcome{Run: takeAll(t, s, "q", 1)[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: "failed"}})
					require.NoError(t, err)
					raw(t, shared).Del(t.Context(), prefix(t)+":{q}:id:"+r.ID) // it remembers the run's end for a while
				}
				dieUndecided(t)
				endTime(t, raw(t, shared))
				require.NoError(t, way(t, b, r))
				require.Equal(t, 1, length(t, b, "q"))
			})
		}
	}
}

// TestReservationOfALostCallRefusesNobody: of the call there is nothing but what it
// reserved.
func TestReservationOfALostCallRefusesNobody(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	for key, value := range map[string]string{"id:run-7": "stage:lost.1", "u:key-8": "run-8 stage:lost.1"} {
		require.NoError(t, client.Set(t.Context(), prefix(t)+":{q}:"+key, value, 0).Err())
	}
	require.NoError(t, b.QueueTasks(t.Context(), largeCall()[7], largeCall()[8]))
	require.NoError(t, b.QueueTasks(t.Context(), run("else", "q")))
	require.NoError(t, client.Set(t.Context(), prefix(t)+":{q}:id:run-9", "stage:lost.2", 0).Err())
	require.NoError(t, b.QueueTasks(t.Context(), largeCall()[9:]...))
	require.Equal(t, 3+largeSize-9, length(t, b, "q"))
}
