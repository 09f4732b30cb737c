package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
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

// TestFollowUpWaitsForALargeCallThatIsNotDecided: the run of which it would be a duplicate
// may never be queued, and nobody would queue the follow-up again.
func TestFollowUpWaitsForALargeCallThatIsNotDecided(t *testing.T) {
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
				require.Len(t, storedAt(t, client, prefix(t)+":{"+from+"}:outbox"), 1)

				endTime(t, client)
				_, err = b.Recover(t.Context(), []string{"p", "q"})
				require.NoError(t, err)
				got := takeAll(t, s, "q", 1)
				require.Equal(t, []string{next.ID}, ids(got))
				finishAll(t, s, got)
				require.Empty(t, storedAt(t, client, prefix(t)+":{"+from+"}:outbox"))
				require.NoError(t, b.QueueTasks(t.Context(), largeCall()...), "nothing is reserved")
				requireAllOnce(t, b)
			})
		}
	}
}

// TestFollowUpIsSkippedForALargeCallThatIsStored, before the call's runs are moved.
func TestFollowUpIsSkippedForALargeCallThatIsStored(t *testing.T) {
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
	require.Eventually(t, func() bool { // an end waits for its follow-ups, but not for ever
		r, err := b.Record(t.Context(), "q", "next")
		return err == nil && r.State == broker.StateFailed
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, s.Close(t.Context()))
	requireAllOnce(t, b)
}

// TestReservationOfACallThatWasNotStoredRefusesNobody once the time of the call is over.
func TestReservationOfACallThatWasNotStoredRefusesNobody(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error{
		"queued": func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error {
			return b.QueueTasks(t.Context(), r)
		},
		"tick": func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error {
			return b.QueueTick(t.Context(), r, time.Now())
		},
		"dead letter": func(t *testing.T, b *redis.Broker, r *broker.TaskRun) error {
			n, err := b.RequeueDead(t.Context(), "q", r.ID)
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
					_, err := s.Finish(t.Context(), broker.Outcome{Run: takeAll(t, s, "q", 1)[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
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

// TestReservationOfALostCallRefusesNobody: nothing else of the call is left.
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

// TestLargeCallWhoseClockWasPutBack: a time that is too far ahead holds up nobody until
// then.
func TestLargeCallWhoseClockWasPutBack(t *testing.T) {
	t.Parallel()
	ahead := func(t *testing.T, opens string) {
		t.Helper()
		client, key := raw(t, shared), prefix(t)+":{q}:stages"
		for token, state := range client.HGetAll(t.Context(), key).Val() {
			if strings.HasPrefix(state, opens) {
				then := time.Now().Add(time.Hour).UnixMilli()
				require.NoError(t, client.HSet(t.Context(), key, token, fmt.Sprintf("%s%013d", opens, then)).Err())
			}
		}
	}
	t.Run("come upon", func(t *testing.T) {
		b := open(t, shared, redis.Config{})
		dieUndecided(t)
		ahead(t, "o")
		require.NoError(t, b.QueueTasks(within(t, 10*time.Second), largeCall()[0]))
	})
	t.Run("recovered", func(t *testing.T) {
		b := open(t, shared, redis.Config{})
		dieUndecided(t)
		ahead(t, "o")
		_, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		requireNone(t, b)
	})
	t.Run("committed", func(t *testing.T) {
		b := open(t, shared, redis.Config{})
		other, l := openLossy(t, shared)
		l.cut(aMove, true)
		require.NoError(t, other.QueueTasks(t.Context(), largeCall()...))
		ahead(t, "c")
		_, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		require.Zero(t, raw(t, shared).Exists(t.Context(), prefix(t)+":{q}:stages").Val())
		requireAllOnce(t, b)
	})
}

// TestMembersOfAGroupAreCommittedOnce, though two calls have stored their pages.
func TestMembersOfAGroupAreCommittedOnce(t *testing.T) {
	t.Parallel()
	client := raw(t, shared)
	source := open(t, shared, redis.Config{}).ScriptText("commit")
	base := prefix(t) + ":{q}:"
	require.NoError(t, client.HSet(t.Context(), base+"group:g", "then", "+reservedreserved entry").Err())
	for i, want := range []int{0, 1, 0} {
		token := []string{"stage:a", "stage:b", "stage:a"}[i]
		if i < 2 {
			require.NoError(t, client.HSet(t.Context(), base+"stages", token, fmt.Sprintf("o%013d", time.Now().Add(time.Minute).UnixMilli())).Err())
			require.NoError(t, client.RPush(t.Context(), base+token, "entry").Err())
		}
		keys := []string{base + "stages", base + "staged", base + token, base + "stub:" + token, base + "group:g"}
		got, err := client.Eval(t.Context(), source, keys, token, 1, "reservedreserved").Int()
		require.NoError(t, err)
		require.Equal(t, want, got, "commit %d", i)
		require.Equal(t, []string{"stage:a"}, storedAt(t, client, base+"staged"))
		require.Equal(t, "1", client.HGet(t.Context(), base+"stages", "runs").Val())
	}
}

// TestBrokenKeysOfLargeCallsStopNobody: they are quarantined, and committed runs are
// queued.
func TestBrokenKeysOfLargeCallsStopNobody(t *testing.T) {
	t.Parallel()
	ways := map[string]func(t *testing.T, b *redis.Broker) error{
		"record": func(t *testing.T, b *redis.Broker) error {
			_, err := b.Record(t.Context(), "q", "run-7")
			return err
		},
		"list": func(t *testing.T, b *redis.Broker) error {
			_, err := b.Runs(t.Context(), "q", broker.StateQueued, 10)
			return err
		},
		"cancel": func(t *testing.T, b *redis.Broker) error {
			err := b.Cancel(t.Context(), "q", "no-such-run", broker.Failure{})
			if errors.Is(err, broker.ErrNoRecord) {
				return nil
			}
			return err
		},
		"audit": func(t *testing.T, b *redis.Broker) error {
			_, err := b.Audit(t.Context(), "q", true)
			return err
		},
		"recover": func(t *testing.T, b *redis.Broker) error {
			_, err := b.Recover(t.Context(), []string{"q"})
			return err
		},
		"queue": func(t *testing.T, b *redis.Broker) error {
			return b.QueueTasks(t.Context(), setAll(runs("q", 3000), func(i int, r *broker.TaskRun) {
				r.ID, r.OwnID, r.Delay = fmt.Sprint("more-", i), true, time.Hour
				r.EnsureRules().Unique = r.ID
			})...)
		},
	}
	breaks := map[string]func(c *goredis.Client, base string) error{
		"staged": func(c *goredis.Client, base string) error {
			return c.Set(context.Background(), base+"staged", "no list", 0).Err()
		},
		"stages": func(c *goredis.Client, base string) error {
			return c.Set(context.Background(), base+"stages", "no hash", 0).Err()
		},
		"runs of stages": func(c *goredis.Client, base string) error {
			return c.HSet(context.Background(), base+"stages", "runs", "no number").Err()
		},
	}
	for broken, smash := range breaks {
		for name, way := range ways {
			t.Run(broken+" "+name, func(t *testing.T) {
				t.Parallel()
				b, client := open(t, shared, redis.Config{}), raw(t, shared)
				other, l := openLossy(t, shared)
				l.cut(aMove, true)
				require.NoError(t, other.QueueTasks(t.Context(), largeCall()...))
				require.NoError(t, smash(client, prefix(t)+":{q}:"))
				require.NoError(t, way(t, b))
				key := prefix(t) + ":{q}:stages"
				for token, state := range client.HGetAll(t.Context(), key).Val() {
					if state[0] == 'c' {
						require.NoError(t, client.HSet(t.Context(), key, token, "c0000000000001").Err())
					}
				}
				_, err := b.Recover(t.Context(), []string{"q"})
				require.NoError(t, err)
				if name == "queue" {
					require.Equal(t, largeSize+3000, length(t, b, "q"))
					delayed := prefix(t) + ":{q}:delayed"
					require.Eventually(t, func() bool { // until all of the call are moved
						_, err := b.Recover(t.Context(), []string{"q"})
						return err == nil && client.ZCard(t.Context(), delayed).Val() == 3000
					}, 20*time.Second, 10*time.Millisecond)
					require.NoError(t, client.Del(t.Context(), delayed).Err())
				}
				requireAllOnce(t, b)
			})
		}
	}
}

// TestLargeCallThatCannotBeMovedHoldsUpNoOther that was committed later.
func TestLargeCallThatCannotBeMovedHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	// An entry of no known ready list, which no script can move.
	entry := append([]byte("100000000000000e0000000000000\xff\xff\xff\xff"), 'x')
	require.NoError(t, client.HSet(t.Context(), base+"stages", "stage:bad", "c0000000000001", "runs", 1).Err())
	require.NoError(t, client.RPush(t.Context(), base+"stage:bad", entry).Err())
	require.NoError(t, client.RPush(t.Context(), base+"staged", "stage:bad").Err())
	require.NoError(t, client.Set(t.Context(), base+"dead", "no list", 0).Err())
	b.Unrepairable()
	other, l := openLossy(t, shared)
	l.cut(aMove, true)
	require.NoError(t, other.QueueTasks(t.Context(), largeCall()...))
	record, err := b.Record(t.Context(), "q", "run-2999")
	require.NoError(t, err)
	require.Equal(t, broker.StateQueued, record.State)
	require.Equal(t, []string{"stage:bad"}, storedAt(t, client, base+"staged"))
	_, err = b.Record(t.Context(), "q", "no-such-run")
	require.Error(t, err, "it may be one of those that cannot be moved")
}
