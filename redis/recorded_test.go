package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis"
)

// attempted returns a history of one attempt that failed.
func attempted() *broker.History {
	var none *broker.History
	return none.Add(broker.Attempt{
		Started: time.Unix(1_700_000_000, 5).UTC(), Took: time.Second, Host: "host:1", Kind: broker.FailureFailed, Message: "bad",
	})
}

// TestRecordsTellWhoHasARun has a consumer elsewhere write a record: then the run comes back, and
// to this process.
func TestRecordsTellWhoHasARun(t *testing.T) {
	t.Parallel()
	b, other, c := open(t, shared, redis.Config{}), open(t, shared, redis.Config{}), raw(t, shared)
	r := run("a", "q")
	r.Keep, r.QueuedAt = time.Hour, time.Unix(1_700_000_000, 0)
	key := prefix(t) + ":{q}:rec:a"
	require.NoError(t, b.QueueTasks(t.Context(), r))
	queued := c.Get(t.Context(), key).Val()
	require.Equal(t, byte('q'), queued[0])

	elsewhere := "r1700000000123\x0bworker-7:99" + queued[14:]
	require.NoError(t, c.Set(t.Context(), key, elsewhere, 0).Err())
	got := record(t, b, "q", "a")
	require.Equal(t, broker.StateRunning, got.State)
	require.Equal(t, "worker-7:99", got.Host)
	require.Equal(t, time.UnixMilli(1700000000123).UTC(), got.StartedAt)
	require.Equal(t, r.QueuedAt.UTC(), got.QueuedAt)

	require.NoError(t, c.Set(t.Context(), key, "q"+elsewhere[1:], 0).Err()) // as a recovery leaves it
	got = record(t, b, "q", "a")
	require.Equal(t, broker.StateQueued, got.State)
	require.Empty(t, got.Host)
	require.Zero(t, got.StartedAt)

	before := time.Now().Truncate(time.Millisecond)
	s := join(t, b, time.Minute)
	taken := takeAll(t, s, "q", 1)
	for _, reader := range []*redis.Broker{b, other} { // b knows it at once
		require.Eventually(t, func() bool {
			got = record(t, reader, "q", "a")
			return got.State == broker.StateRunning
		}, 5*time.Second, time.Millisecond)
		require.Equal(t, broker.ThisHost(), got.Host)
		require.WithinRange(t, got.StartedAt, before, time.Now())
	}
	listed, err := other.Runs(t.Context(), "q", broker.StateRunning, 10)
	require.NoError(t, err)
	require.Len(t, listed, 1)
	require.Equal(t, got.StartedAt, listed[0].Started)

	taken[0].History = attempted()
	_, err = s.Finish(t.Context(), broker.Outcome{Run: taken[0], Verdict: broker.Succeeded})
	require.NoError(t, err)
	got = record(t, other, "q", "a")
	require.Empty(t, got.Host)
	require.Zero(t, got.StartedAt)
	require.Equal(t, attempted().Attempts, got.Attempts)
	require.WithinRange(t, got.EndedAt, before, time.Now())
}

// TestCancelledRunsAreListedApart lists them by Runs and by a survey.
func TestCancelledRunsAreListedApart(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	waits, fails := ownKept("waits", "q"), ownKept("fails", "q")
	waits.KeepParams, waits.History = true, attempted()
	require.NoError(t, b.QueueTasks(t.Context(), waits, fails))
	require.NoError(t, b.Cancel(t.Context(), "q", "waits", stopped))
	s := join(t, b, time.Minute)
	taken := takeAll(t, s, "q", 1)
	require.Equal(t, "fails", taken[0].ID)
	_, err := s.Finish(t.Context(), broker.Outcome{Run: taken[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureTimeout}})
	require.NoError(t, err)

	got := record(t, b, "q", "waits")
	require.Equal(t, broker.StateCancelled, got.State)
	require.Equal(t, &stopped, got.Failure)
	require.Equal(t, waits.Payload, got.Payload)
	for state, id := range map[broker.State]string{broker.StateCancelled: "waits", broker.StateFailed: "fails"} {
		listed, err := b.Runs(t.Context(), "q", state, 10)
		require.NoError(t, err)
		require.Len(t, listed, 1, "%s", state)
		require.Equal(t, id, listed[0].Run.ID)
		require.Equal(t, state, listed[0].State)
		require.WithinDuration(t, time.Now(), listed[0].Ended, time.Minute)
		err = b.SurveyRuns(t.Context(), []string{"q"}, state, 10, nil, func(part maintenance.Part[[]*broker.RunInfo]) {
			require.Equal(t, listed, part.Found)
		})
		require.NoError(t, err)
		if id == "waits" {
			require.Equal(t, attempted(), listed[0].Run.History)
			require.Equal(t, attempted().Attempts[0].Started, listed[0].Started)
		}
	}
}

// TestGroupsKeepNoMoreThanResults gathers members that have histories and keep their parameters:
// their own records have these.
func TestGroupsKeepNoMoreThanResults(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	gathering, member := run("gathers", "q"), run("member", "q")
	gathering.EnsureLinks().Awaits = broker.Group{ID: "g", Queue: "q", Size: 1}
	member.EnsureLinks().Group = "g"
	member.Keep, member.KeepParams = time.Hour, true
	require.NoError(t, b.QueueGroup(t.Context(), gathering, member))
	s := join(t, b, time.Minute)
	taken := takeAll(t, s, "q", 1)
	taken[0].History = attempted()
	_, err := s.Finish(t.Context(), broker.Outcome{Run: taken[0], Verdict: broker.Succeeded, Result: []byte("result")})
	require.NoError(t, err)

	records, err := b.Members(t.Context(), gathering.Links.Awaits)
	require.NoError(t, err)
	require.Equal(t, "result", string(records[0].Result))
	require.Empty(t, records[0].Attempts)
	require.Empty(t, records[0].Payload)
	own := record(t, b, "q", "member")
	require.Equal(t, attempted().Attempts, own.Attempts)
	require.Equal(t, member.Payload, own.Payload)
	require.Equal(t, own.EndedAt, records[0].EndedAt)
}

// TestDeadLettersHaveTheirHistory has a run die as it is recovered, and one that is requeued.
func TestDeadLettersHaveTheirHistory(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	r := run("a", "q")
	r.Keep, r.History = time.Hour, attempted()
	require.NoError(t, b.QueueTasks(t.Context(), r))
	s := join(t, b, time.Minute)
	taken := takeAll(t, s, "q", 1)
	require.Equal(t, attempted(), taken[0].History)
	taken[0].History = taken[0].History.Add(broker.Attempt{Kind: broker.FailureCrashed, Message: "its process died"})
	_, err := s.Finish(t.Context(), broker.Outcome{Run: taken[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureCrashed}})
	require.NoError(t, err)
	letters, err := b.DeadLetters(t.Context(), "q", 1)
	require.NoError(t, err)
	require.Equal(t, taken[0].History.Attempts, letters[0].Run.History.Attempts)
	require.Equal(t, taken[0].History.Attempts, record(t, b, "q", "a").Attempts)

	n, err := b.RequeueDead(t.Context(), "q", "a")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	again := takeAll(t, s, "q", 1)
	require.Equal(t, taken[0].History.Attempts, again[0].History.Attempts, "of the requeued run")
}
