package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestFollowUpsAreQueuedWithASuccess queues follow-ups in their queue and in others, and
// skips duplicates.
func TestFollowUpsAreQueuedWithASuccess(t *testing.T) {
	b := open(t, shared, redis.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), run("good", "q"), run("bad", "q"), run("late", "q")))
	require.NoError(t, b.QueueTasks(t.Context(), ownKept("live", "other")))
	s := join(t, b, time.Minute)
	got := takeAll(t, s, "q", 3)
	later := ownKept("later", "other")
	later.Delay = time.Hour
	next := func() []*broker.TaskRun {
		return []*broker.TaskRun{ownKept("same", "q"), run("plain", "other"), ownKept("live", "other"), later}
	}
	for _, verdict := range []broker.Verdict{broker.Dead, broker.Dropped} {
		done, err := s.Finish(t.Context(), broker.Outcome{Run: got[int(verdict)], Verdict: verdict, Next: next()})
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
	}
	require.Zero(t, length(t, b, "q"), "nothing follows what has not succeeded")
	for range 2 {
		done, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Next: next()})
		require.NoError(t, err)
		require.Equal(t, 1, length(t, b, "q"))
		require.Equal(t, 3, length(t, b, "other"))
		if len(done.Fenced) > 0 { // the second time it is
			break
		}
	}
	require.Equal(t, broker.StateQueued, record(t, b, "q", "same").State)
	require.Equal(t, broker.StateDelayed, record(t, b, "other", "later").State)
	require.Zero(t, raw(t, shared).Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
}

// TestOutboxSurvivesItsMover cuts off a mover after each of its steps, of which the one
// with the ticks stores: the entries in the outbox are queued once, whoever moves them.
func TestOutboxSurvivesItsMover(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"\n1048576\r", "}:ticks", "pexpire", "lrem"} {
		for _, queue := range []string{"q", "other"} {
			// In capitals, as the name is a part of all keys.
			t.Run(strings.ToUpper(step)+" to "+queue, func(t *testing.T) {
				mover, l := openLossy(t, shared)
				b := openWith(t, shared, prefix(t))
				require.NoError(t, mover.QueueTasks(t.Context(), run("first", "q")))
				s := join(t, mover, time.Minute)
				got := takeAll(t, s, "q", 1)
				require.NoError(t, mover.QueueTasks(t.Context(), ownKept("warm", "other")), "the script is known, and the queue announced")
				done, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Next: []*broker.TaskRun{run("warm2", "q")}})
				require.NoError(t, err)
				require.Empty(t, done.Fenced)
				got = takeAll(t, s, "q", 1)

				list := make([]*broker.TaskRun, 5)
				for i := range list {
					list[i] = run(fmt.Sprintf("next-%d", i), queue)
				}
				l.lose(1000, step)
				_, err = s.Finish(t.Context(), broker.Outcome{Run: got[0], Next: list})
				require.NoError(t, err, "what follows the end is no matter of its own")
				own := queue == "q" && (step == "pexpire" || step == "lrem") // there the step that stores a run removes its entry
				require.Equal(t, own, l.count() == 0, "replies lost")
				l.lose(0, "none")
				for _, key := range keysOf(t, raw(t, shared), prefix(t)) {
					if step == "lrem" && strings.Contains(key, "}:moved:") {
						require.Greater(t, raw(t, shared).PTTL(t.Context(), key).Val(), 24*time.Hour, "the entry may be there for long")
					}
				}
				for range 3 {
					_, err := b.Recover(t.Context(), []string{"q"})
					require.NoError(t, err)
				}
				want := 5
				if queue == "other" {
					want++ // the warm one
				}
				require.Equal(t, want, length(t, b, queue))
				require.Zero(t, raw(t, shared).Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
			})
		}
	}
}

// TestSkippedIsDecidedOnce cuts off a mover after the step that skips runs. The runs in
// their way end then, and the next mover does not queue the skipped ones.
func TestSkippedIsDecidedOnce(t *testing.T) {
	for _, queue := range []string{"q", "other"} {
		t.Run("to "+queue, func(t *testing.T) {
			mover, l := openLossy(t, shared)
			b := openWith(t, shared, prefix(t))
			live := []*broker.TaskRun{ownKept("by-id", queue), run("by-key", queue)}
			live[1].Rules = &broker.Rules{Unique: "key"}
			require.NoError(t, mover.QueueTasks(t.Context(), live...))
			require.NoError(t, mover.QueueTasks(t.Context(), run("first", "q")))
			s := join(t, mover, time.Minute)
			held := make(map[string]*broker.TaskRun)
			for len(held) < 3 {
				got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q", "other"}, IO: 10})
				require.NoError(t, err)
				for _, r := range got {
					held[r.ID] = r
				}
			}
			next := []*broker.TaskRun{ownKept("by-id", queue), ownKept("late", queue), run("new", queue)}
			next[1].Rules = live[1].Rules
			l.lose(1000, "pexpire")
			done, err := s.Finish(t.Context(), broker.Outcome{Run: held["first"], Next: next})
			require.NoError(t, err)
			l.lose(0, "none")
			var by []string
			for _, skipped := range done.Skipped {
				by = append(by, skipped.Run.ID+" by "+skipped.LiveID)
			}
			require.Equal(t, []string{"by-id by by-id", "late by by-key"}, by)
			_, err = s.Finish(t.Context(), succeeded([]*broker.TaskRun{held["by-id"], held["by-key"]})...)
			require.NoError(t, err)
			recovered, err := b.Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			require.Zero(t, raw(t, shared).Exists(t.Context(), prefix(t)+":{q}:outbox").Val())
			require.Equal(t, 1, length(t, b, queue), "what was new")
			require.Empty(t, recovered.Skipped, "it was decided and reported by another")
			require.Equal(t, &broker.Failure{Kind: broker.FailureDuplicate, Message: "by-key"}, record(t, b, queue, "late").Failure)
			require.Equal(t, broker.StateSucceeded, record(t, b, queue, "by-id").State, "the record is that of the live run")
		})
	}
}

// openWith opens a further broker on the keys of another.
func openWith(t testing.TB, s *redistest.Server, prefix string) *redis.Broker {
	t.Helper()
	b, err := redis.Open(t.Context(), s.URL(), redis.Config{Prefix: prefix})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// TestOutboxIsMovedByMany has many move the same entries at once, an unreadable
// one among them.
func TestOutboxIsMovedByMany(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	s := join(t, b, time.Minute)
	got := takeAll(t, s, "q", 1)
	require.NoError(t, client.RPush(t.Context(), prefix(t)+":{q}:outbox", "unreadable").Err())
	list := make([]*broker.TaskRun, 300)
	for i := range list {
		list[i] = run(fmt.Sprintf("next-%d", i), []string{"q", "a", "b"}[i%3])
	}
	var all sync.WaitGroup
	over := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for {
				_, _ = b.Recover(context.Background(), []string{"q"})
				select {
				case <-over:
					return
				default:
				}
			}
		})
	}
	_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Next: list})
	require.NoError(t, err)
	close(over)
	all.Wait()
	_, err = b.Recover(t.Context(), []string{"q"})
	require.NoError(t, err)
	for _, queue := range []string{"q", "a", "b"} {
		require.Equal(t, 100, length(t, b, queue), queue)
	}
	dead, err := b.DeadLetters(t.Context(), "q", 10)
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, "unreadable", string(dead[0].Raw))
	for _, key := range keysOf(t, client, prefix(t)) {
		ttl := client.PTTL(t.Context(), key).Val()
		require.False(t, ttl < 0 && strings.Contains(key, "}:moved:"), "%s stays", key)
	}
}

// group makes a group of runs and the run that gathers it.
func group(queue, then string, size int) (*broker.TaskRun, []*broker.TaskRun) {
	members := make([]*broker.TaskRun, size)
	for i := range members {
		members[i] = run(fmt.Sprintf("member-%d", i), queue)
		members[i].Links = &broker.Links{Group: "g", Member: i}
	}
	gathering := ownKept("gathering", then)
	gathering.EnsureLinks().Awaits = broker.Group{ID: "g", Queue: queue, Size: size}
	return gathering, members
}

// TestGroupEnds has the members of a group end in every way there is.
func TestGroupEnds(t *testing.T) {
	for _, then := range []string{"q", "other"} {
		t.Run("gathered in "+then, func(t *testing.T) {
			b, client := open(t, shared, redis.Config{}), raw(t, shared)
			gathering, members := group("q", then, 7)
			members[5].Delay = time.Hour
			members[1].Keep = time.Hour
			require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
			require.ErrorIs(t, b.QueueGroup(t.Context(), gathering, members...), broker.ErrDuplicate)
			require.EqualValues(t, -1, client.TTL(t.Context(), prefix(t)+":{q}:group:g").Val())
			require.Equal(t, broker.StateDelayed, record(t, b, then, "gathering").State)
			s := join(t, b, time.Minute)
			got := takeAll(t, s, "q", 6)
			list, err := b.Members(t.Context(), gathering.Links.OrZero().Awaits)
			require.NoError(t, err)
			require.Equal(t, make([]*broker.Record, 7), list)

			failure := &broker.Failure{Kind: broker.FailureFailed, Message: "no"}
			ends := []broker.Outcome{
				{Run: got[0], Result: []byte("\xa2ok")},
				{Run: got[1], Result: []byte("\xa4kept")},
				{Run: got[2], Verdict: broker.Dead, Failure: failure},
				{Run: got[3], Verdict: broker.Dropped, Failure: &broker.Failure{Kind: broker.FailureExpired}},
				{Run: got[4], Verdict: broker.Retry, Failure: failure}, // cancelled meanwhile
			}
			require.NoError(t, b.Cancel(t.Context(), "q", "member-4", stopped))
			_, err = s.Finish(t.Context(), ends...)
			require.NoError(t, err)
			n, err := b.RequeueDead(t.Context(), "q", "member-2")
			require.NoError(t, err)
			require.Equal(t, 1, n)
			again := takeAll(t, s, "q", 1)
			_, err = s.Finish(t.Context(), succeeded(again)...) // counts as that: the group has not ended
			require.NoError(t, err)
			require.NoError(t, b.Cancel(t.Context(), "q", "member-5", stopped))
			require.Zero(t, length(t, b, then), "one has not ended")
			_, err = s.Finish(t.Context(), broker.Outcome{Run: got[5]})
			require.NoError(t, err)
			require.Equal(t, 1, length(t, b, then))
			require.Equal(t, broker.StateQueued, record(t, b, then, "gathering").State)

			got = takeAll(t, s, then, 1)
			require.Equal(t, gathering.Links.OrZero().Awaits, got[0].Links.OrZero().Awaits)
			list, err = b.Members(t.Context(), got[0].Links.OrZero().Awaits)
			require.NoError(t, err)
			var kinds, results []string
			for i, r := range list {
				require.Equal(t, fmt.Sprintf("member-%d", i), r.ID)
				require.Equal(t, "task", r.Task)
				kind := string(r.State)
				if r.Failure != nil {
					kind = string(r.Failure.Kind)
				}
				kinds, results = append(kinds, kind), append(results, string(r.Result))
			}
			require.Equal(t, []string{"succeeded", "succeeded", "succeeded", "expired", "cancelled", "cancelled", "succeeded"}, kinds)
			require.Equal(t, []string{"\xa2ok", "\xa4kept", "", "", "", "", ""}, results)
			require.Positive(t, client.TTL(t.Context(), prefix(t)+":{q}:group:g").Val())
			_, err = s.Finish(t.Context(), succeeded(got)...)
			require.NoError(t, err)
			_, err = b.Members(t.Context(), gathering.Links.OrZero().Awaits)
			require.ErrorIs(t, err, broker.ErrNoRecord)
		})
	}
}

// TestGroupIsStoredWholeOrNotAtAll refuses a group one of whose members is live.
func TestGroupIsStoredWholeOrNotAtAll(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	gathering, members := group("q", "q", 3)
	members[1].OwnID = true
	require.NoError(t, b.QueueTasks(t.Context(), ownKept("member-1", "q")))
	require.ErrorIs(t, b.QueueGroup(t.Context(), gathering, members...), broker.ErrDuplicate)
	require.Equal(t, 1, length(t, b, "q"))
	_, err := b.Members(t.Context(), gathering.Links.OrZero().Awaits)
	require.ErrorIs(t, err, broker.ErrNoRecord)
	_, err = b.Record(t.Context(), "q", "gathering")
	require.ErrorIs(t, err, broker.ErrNoRecord)
	require.Zero(t, client.Exists(t.Context(), prefix(t)+":{q}:group:g").Val())
	gathering.EnsureLinks().Awaits.Size = 2
	require.ErrorContains(t, b.QueueGroup(t.Context(), gathering, members...), "gathers the group")
	_, members = group("q", "q", 2)
	members[1].EnsureLinks().Member = 0
	require.ErrorContains(t, b.QueueGroup(t.Context(), gathering, members...), "not member 1 of group g")
}

// TestRequeueDead requeues and deletes dead letters, and leaves one whose id is that of a
// live run.
func TestRequeueDead(t *testing.T) {
	b, client := open(t, shared, redis.Config{MaxDead: 1000}), raw(t, shared)
	const total = 250
	list := make([]*broker.TaskRun, total)
	for i := range list {
		list[i] = ownKept(fmt.Sprintf("run-%d", i), "q")
		list[i].Expire, list[i].QueuedAt = time.Minute, time.Now().Add(-time.Hour)
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	s := join(t, b, time.Minute)
	for _, r := range takeAll(t, s, "q", total) {
		r.Attempt = 3
		_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
		require.NoError(t, err)
	}
	require.NoError(t, client.RPush(t.Context(), prefix(t)+":{q}:io:1", "no run").Err())
	takesNothing(t, s, "q")
	dead, err := b.DeadLetters(t.Context(), "q", total+1)
	require.NoError(t, err)
	require.Len(t, dead, total+1)
	require.Nil(t, dead[0].Run)
	require.NotEmpty(t, dead[0].ID)
	require.Equal(t, "run-0", dead[total].ID)

	done := func(want int) func(int, error) {
		return func(n int, err error) {
			t.Helper()
			require.NoError(t, err)
			require.Equal(t, want, n)
		}
	}
	stays := func(want int, ids ...string) {
		t.Helper()
		n, err := b.RequeueDead(t.Context(), "q", ids...)
		var stayed *broker.DuplicateError
		require.ErrorAs(t, err, &stayed)
		require.Equal(t, []broker.Duplicate{{Index: slices.Index(ids, "run-7"), ID: "run-7"}}, stayed.Runs)
		require.Equal(t, want, n)
	}
	done(0)(b.RequeueDead(t.Context(), "q", "strange", dead[0].ID))
	done(1)(b.DeleteDead(t.Context(), "q", "strange", dead[0].ID))
	live := ownKept("run-7", "q")
	live.QueuedAt = time.Now()
	require.NoError(t, b.QueueTasks(t.Context(), live))
	var most []string
	for i := range total - 10 {
		most = append(most, fmt.Sprintf("run-%d", i))
	}
	stays(len(most)-1, most...)
	stays(0, most...)
	info := queueInfo(t, b, "q")
	require.EqualValues(t, 11, info.Dead)
	require.Zero(t, info.Trimmed)
	for _, r := range takeAll(t, s, "q", len(most)) {
		require.Zero(t, r.Attempt)
		require.Equal(t, 1, r.Deliveries)
		require.WithinDuration(t, time.Now(), r.QueuedAt, time.Minute, "it is not expired")
		require.ErrorIs(t, b.QueueTasks(t.Context(), ownKept(r.ID, "q")), broker.ErrDuplicate, "its id is taken again")
		require.NotEqual(t, broker.StateFailed, record(t, b, "q", r.ID).State)
	}
	done(2)(b.DeleteDead(t.Context(), "q", "run-7", "run-249"))
	require.EqualValues(t, 9, queueInfo(t, b, "q").Dead)
}

// TestRequeueDeadOnceByMany has many callers requeue the same dead letters.
func TestRequeueDeadOnceByMany(t *testing.T) {
	b := open(t, shared, redis.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 100)...))
	s := join(t, b, time.Minute)
	for _, r := range takeAll(t, s, "q", 100) {
		_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Dead})
		require.NoError(t, err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	total := 0
	for range 4 {
		all.Go(func() {
			n, err := b.RequeueDead(context.Background(), "q", ids(runs("q", 100))...)
			mu.Lock()
			defer mu.Unlock()
			if err == nil || errors.Is(err, broker.ErrDuplicate) {
				total += n
			}
		})
	}
	all.Wait()
	require.Equal(t, 100, total)
	require.Equal(t, 100, length(t, b, "q"))
}

// TestGroupOfADeadLetter is kept for a week, and like any other once its dead letter is
// requeued.
func TestGroupOfADeadLetter(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	gathering, members := group("q", "other", 2)
	require.NoError(t, b.QueueGroup(t.Context(), gathering, members...))
	s := join(t, b, time.Minute)
	finishAll(t, s, takeAll(t, s, "q", 2))
	left := func() time.Duration { return client.PTTL(t.Context(), prefix(t)+":{q}:group:g").Val() }
	got := takeAll(t, s, "other", 1)
	_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
	require.NoError(t, err)
	require.InDelta(t, broker.GroupKept.Hours(), left().Hours(), 1)
	n, err := b.RequeueDead(t.Context(), "other", "gathering")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Greater(t, left(), 4*broker.GroupKept)
	finishAll(t, s, takeAll(t, s, "other", 1))
	require.Negative(t, left(), "it is forgotten")
}
