package redis_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/ulid"
	"github.com/taskgen/taskgen/redis"
)

// pagesOf returns the ids of all pages of a search, and calls between before each further page.
func pagesOf(t *testing.T, b *redis.Broker, queue string, state broker.State, s broker.RunSearch, between func()) (all []string) {
	t.Helper()
	for range 10_000 {
		page, err := b.FindRuns(t.Context(), queue, state, s)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Runs), s.Max)
		require.LessOrEqual(t, page.Looked, s.Look)
		for _, info := range page.Runs {
			require.Equal(t, state, info.State)
			all = append(all, info.Run.ID)
		}
		if page.After == "" {
			return all
		}
		s.After = page.After
		if between != nil {
			between()
		}
	}
	t.Fatal("the search does not end")
	return nil
}

// TestASearchFindsEachRunThatStays searches while others take from the head and queue at the tail,
// put back at the head, and cancel.
func TestASearchFindsEachRunThatStays(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const n = 3000
	fill(t, b, "q", n, func(i int) string { return fmt.Sprintf("run-%05d", i) }, nil)
	s := join(t, b, time.Minute)
	taken, cancelled, more, next := map[string]bool{}, map[string]bool{}, n, 0
	found := pagesOf(t, b, "q", broker.StateQueued, broker.RunSearch{Max: 70, Look: 70}, func() {
		takes := func(s broker.Session) {
			if len(taken) > n/2 {
				return // some have to stay
			}
			got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: rand.IntN(40) + 1})
			require.NoError(t, err)
			for _, r := range got {
				taken[r.ID] = true
			}
		}
		takes(s)
		var some []*broker.TaskRun
		for range rand.IntN(90) + 1 {
			some = append(some, run(fmt.Sprintf("run-%05d", more), "q"))
			more++
		}
		if more < 2*n {
			require.NoError(t, b.QueueTasks(t.Context(), some...))
		}
		if next++; next%3 == 0 {
			id := fmt.Sprintf("run-%05d", rand.IntN(n))
			if err := b.Cancel(t.Context(), "q", id, broker.Failure{Kind: broker.FailureCancelled}); err == nil {
				cancelled[id] = true
			}
		}
		if next%5 == 0 { // back at the head
			back := join(t, b, time.Minute)
			takes(back)
			require.NoError(t, back.Close(t.Context()))
		}
	})
	times := map[string]int{}
	for _, id := range found {
		times[id]++
	}
	for i := range n {
		if id := fmt.Sprintf("run-%05d", i); !taken[id] && !cancelled[id] && times[id] != 1 {
			t.Errorf("run %s, which stayed, is on %d pages", id, times[id])
		}
	}
	require.True(t, slices.IsSorted(slices.DeleteFunc(found, func(id string) bool { return taken[id] })))
	require.NotEmpty(t, taken)
	require.Greater(t, more, n)
}

// TestASearchBesideTakesAndEnqueues is the same with others at work at any time.
func TestASearchBesideTakesAndEnqueues(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const n = 6000
	fill(t, b, "q", n, func(i int) string { return fmt.Sprintf("run-%05d", i) }, nil)
	s := join(t, b, time.Minute)
	done := make(chan struct{})
	var taken []*broker.TaskRun
	var others sync.WaitGroup
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if len(taken) < n/2 {
				got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1 + rand.IntN(5)})
				if err != nil {
					t.Error(err)
					return
				}
				taken = append(taken, got...)
			}
			if err := b.QueueTasks(t.Context(), run(fmt.Sprintf("new-%d", i), "q"), run(fmt.Sprintf("more-%d", i), "q")); err != nil {
				t.Error(err)
				return
			}
		}
	})
	found := pagesOf(t, b, "q", broker.StateQueued, broker.RunSearch{Max: 23, Look: 23}, nil)
	close(done)
	others.Wait()
	times := map[string]int{}
	for _, id := range found {
		times[id]++
	}
	for _, r := range taken {
		delete(times, r.ID)
		times[r.ID] = 1
	}
	for i := range n {
		if id := fmt.Sprintf("run-%05d", i); times[id] != 1 {
			t.Errorf("run %s, which stayed, is on %d pages", id, times[id])
		}
	}
}

// TestASearchLooksInAllPlaces has runs wherever they can be, in pages of one.
func TestASearchLooksInAllPlaces(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	var want = map[broker.State][]string{}
	add := func(state broker.State, r *broker.TaskRun) {
		require.NoError(t, b.QueueTasks(t.Context(), r))
		want[state] = append(want[state], r.ID)
	}
	holds := run("holds", "q")
	holds.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1}}
	add(broker.StateRunning, holds)
	disabled := run("disabled", "q")
	disabled.Task = "off"
	add(broker.StateQueued, disabled)
	for i := range 3 {
		held := run(fmt.Sprint("held-", i), "q")
		held.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1}}
		add(broker.StateQueued, held)
		kept := run(fmt.Sprint("running-", i), "q")
		kept.Keep = time.Minute
		add(broker.StateRunning, kept)
	}
	require.NoError(t, b.Disable(t.Context(), "q", "off", true))
	s := join(t, b, time.Minute)
	takeAll(t, s, "q", 4)
	for i := range 4 {
		later := run(fmt.Sprint("later-", i), "q")
		later.Due = time.Now().Add(time.Hour).Truncate(time.Hour)
		add(broker.StateDelayed, later)
		for _, kind := range []broker.Kind{broker.IO, broker.CPU} {
			for _, priority := range []broker.Priority{broker.Low, broker.High} {
				r := run(fmt.Sprintf("ready-%s-%s-%d", kind, priority, i), "q")
				r.Kind, r.Priority = kind, priority
				add(broker.StateQueued, r)
			}
		}
		soon := run(fmt.Sprint("soon-", i), "q")
		soon.Delay = time.Millisecond
		add(broker.StateQueued, soon)
	}
	require.Eventually(t, func() bool {
		page, err := b.FindRuns(t.Context(), "q", broker.StateQueued, broker.RunSearch{})
		return err == nil && int(page.Total) == len(want[broker.StateQueued])
	}, 5*time.Second, 5*time.Millisecond)
	for state, ids := range want {
		one := pagesOf(t, b, "q", state, broker.RunSearch{Max: 1, Look: 1}, nil)
		require.ElementsMatch(t, ids, one, state)
		require.Equal(t, pagesOf(t, b, "q", state, broker.RunSearch{Max: 1000, Look: 10_000}, nil), one, "the same order")
		for at := range ids {
			rest := pagesOf(t, b, "q", state, broker.RunSearch{Max: at + 1, Look: at + 1}, nil)
			require.Equal(t, one, rest, "pages of %d", at+1)
		}
		page, err := b.FindRuns(t.Context(), "q", state, broker.RunSearch{Max: 1})
		require.NoError(t, err)
		require.Equal(t, int64(len(ids)), page.Total, state)
	}
}

// TestASearchOfThoseThatHaveEndedFindsEach has more records than a page.
func TestASearchOfThoseThatHaveEndedFindsEach(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	var want []string
	list := runs("q", 60)
	for _, r := range list {
		r.Keep = time.Minute
		want = append(want, r.ID)
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	s := join(t, b, time.Minute)
	_, err := s.Finish(t.Context(), succeeded(takeAll(t, s, "q", 60))...)
	require.NoError(t, err)
	require.ElementsMatch(t, want, pagesOf(t, b, "q", broker.StateSucceeded, broker.RunSearch{Max: 7, Look: 7}, nil))
	require.Empty(t, pagesOf(t, b, "q", broker.StateFailed, broker.RunSearch{Max: 7, Look: 7}, nil))
}

// TestRunsThatHaveEndedComeTheLatestFirst has them end in calls of one and of many, while others end
// between two pages, and records go.
func TestRunsThatHaveEndedComeTheLatestFirst(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	want := slices.Concat(endedRuns(t, b, s, "q", 1, 30), endedRuns(t, b, s, "q", 70, 3), endedRuns(t, b, s, "q", 1, 5))
	slices.Reverse(want)
	for _, most := range []int{1, 7, 100, 1000} {
		require.Equal(t, want, pagesOf(t, b, "q", broker.StateSucceeded, broker.RunSearch{Max: most, Look: most}, nil), "in pages of %d", most)
	}
	listed, err := b.Runs(t.Context(), "q", broker.StateSucceeded, 50)
	require.NoError(t, err)
	for i, info := range listed {
		require.Equal(t, want[i], info.Run.ID)
	}
	require.Len(t, listed, 50)
	require.Equal(t, want, pagesOf(t, b, "q", broker.StateSucceeded, broker.RunSearch{Max: 20, Look: 20}, func() {
		endedRuns(t, b, s, "q", 2, 1) // before the pages that follow
	}))
	for _, id := range want[:200] {
		require.NoError(t, c.Del(t.Context(), prefix(t)+":{q}:rec:"+id).Err())
	}
	left := pagesOf(t, b, "q", broker.StateSucceeded, broker.RunSearch{Max: 20, Look: 20}, nil)
	require.Equal(t, want[200:], left[len(left)-len(want[200:]):])
}

// TestTheListOfThoseThatHaveEndedIsNotNeeded deletes it, and has another key in its place: runs end
// all the same, and only searches find less.
func TestTheListOfThoseThatHaveEndedIsNotNeeded(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	before := endedRuns(t, b, s, "q", 3, 1)
	key := prefix(t) + ":{q}:ended:succeeded"
	expires := c.PTTL(t.Context(), key).Val()
	require.Greater(t, expires, time.Minute, "the list expires after the records")
	require.LessOrEqual(t, expires, 2*time.Minute)
	require.NoError(t, c.Del(t.Context(), key).Err())
	require.Empty(t, pagesOf(t, b, "q", broker.StateSucceeded, broker.RunSearch{Max: 20, Look: 20}, nil))
	require.NoError(t, c.Set(t.Context(), key, "no list", 0).Err())
	ids := endedRuns(t, b, s, "q", 3, 1)
	for _, id := range append(before, ids...) {
		rec, err := b.Record(t.Context(), "q", id)
		require.NoError(t, err)
		require.Equal(t, broker.StateSucceeded, rec.State)
	}
	page, err := b.FindRuns(t.Context(), "q", broker.StateSucceeded, broker.RunSearch{})
	require.ErrorContains(t, err, key)
	require.Empty(t, page.Runs)
	require.Equal(t, "no list", c.Get(t.Context(), key).Val(), "a key of another type stays as it is")
	require.Equal(t, time.Duration(-1), c.PTTL(t.Context(), key).Val())
	failed, err := b.FindRuns(t.Context(), "q", broker.StateFailed, broker.RunSearch{})
	require.NoError(t, err)
	require.Empty(t, failed.Runs)
}

// TestTheListOfThoseThatHaveEndedIsBounded has more calls record ends than it keeps.
func TestTheListOfThoseThatHaveEndedIsBounded(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	key := prefix(t) + ":{q}:ended:succeeded"
	pipe := c.Pipeline()
	for i := range 15_007 {
		pipe.LPush(t.Context(), key, fmt.Sprintf("9999999999999 gone-%d", i))
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	ids := endedRuns(t, b, s, "q", 1, 16)
	slices.Reverse(ids)
	require.LessOrEqual(t, c.LLen(t.Context(), key).Val(), int64(10_015))
	require.Equal(t, ids, pagesOf(t, b, "q", broker.StateSucceeded, broker.RunSearch{Max: 20, Look: 20}, nil))
}

// TestASearchRefusesAnAfterOfAnotherSearch gives searches texts that are no cursors of theirs.
func TestASearchRefusesAnAfterOfAnotherSearch(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
	page, err := b.FindRuns(t.Context(), "q", broker.StateQueued, broker.RunSearch{Max: 1})
	require.NoError(t, err)
	require.NotEmpty(t, page.After)
	for _, after := range []string{"x", "AAAA", page.After[:len(page.After)-1], page.After + "A", "!" + page.After} {
		_, err := b.FindRuns(t.Context(), "q", broker.StateQueued, broker.RunSearch{After: after})
		require.ErrorContains(t, err, "After", after)
	}
	_, err = b.FindRuns(t.Context(), "other", broker.StateQueued, broker.RunSearch{After: page.After})
	require.ErrorContains(t, err, "After")
	_, err = b.FindRuns(t.Context(), "q", broker.StateDelayed, broker.RunSearch{After: page.After})
	require.ErrorContains(t, err, "After")
	_, err = b.FindDead(t.Context(), "q", broker.DeadSearch{After: page.After})
	require.ErrorContains(t, err, "After")
}

// deadIn makes dead letters of a queue, the oldest first.
func deadIn(t *testing.T, b *redis.Broker, queue string, ids ...string) {
	t.Helper()
	s := join(t, b, time.Minute)
	for _, id := range ids {
		require.NoError(t, b.QueueTasks(t.Context(), run(id, queue)))
		_, err := s.Finish(t.Context(), broker.Outcome{Run: takeAll(t, s, queue, 1)[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed, Message: "why " + id}})
		require.NoError(t, err)
	}
}

// TestASearchFindsEachDeadLetterThatStays has runs die, and letters trimmed and deleted,
// between the pages.
func TestASearchFindsEachDeadLetterThatStays(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{MaxDead: 110})
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("old-%03d", i))
	}
	deadIn(t, b, "q", want...)
	gone, trimmed := map[string]bool{}, 0
	times, died := map[string]int{}, 0
	for s := (broker.DeadSearch{Max: 9, Look: 9}); ; {
		page, err := b.FindDead(t.Context(), "q", s)
		require.NoError(t, err)
		for _, letter := range page.Letters {
			times[letter.ID]++
		}
		if s.After = page.After; s.After == "" {
			break
		}
		died += 3
		deadIn(t, b, "q", fmt.Sprint("new-", died), fmt.Sprint("new-", died+1), fmt.Sprint("new-", died+2))
		id := want[rand.IntN(len(want))]
		n, err := b.DeleteDead(t.Context(), "q", id)
		require.NoError(t, err)
		if n == 1 {
			gone[id] = true
		}
	}
	info, err := b.Queue(t.Context(), "q")
	require.NoError(t, err)
	trimmed = int(info.Trimmed)
	require.Positive(t, trimmed)
	for i, id := range want {
		if i >= trimmed+len(gone) && !gone[id] && times[id] != 1 {
			t.Errorf("letter %s, which stayed, is on %d pages", id, times[id])
		}
	}
}

// TestASearchGoesOnBehindItsPlaceHoweverFarThatMoved takes and queues so many runs between two
// pages that the next ones only look for the place.
func TestASearchGoesOnBehindItsPlaceHoweverFarThatMoved(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const n, moved = 6000, 2600
	id := func(i int) string { return fmt.Sprintf("run-%05d", i) }
	fill(t, b, "q", n, id, nil)
	s := join(t, b, time.Minute)
	var found []string
	search := broker.RunSearch{Look: 1000}
	empty := 0
	for page := 0; ; page++ {
		got, err := b.FindRuns(t.Context(), "q", broker.StateQueued, search)
		require.NoError(t, err)
		if len(got.Runs) == 0 {
			empty++
		}
		for _, info := range got.Runs {
			found = append(found, info.Run.ID)
		}
		if search.After = got.After; search.After == "" {
			break
		}
		if page == 3 {
			require.Len(t, takeAll(t, s, "q", moved), moved)
			fill(t, b, "q", moved, func(i int) string { return fmt.Sprint("new-", i) }, nil)
			search.Look = 100
		}
	}
	var want []string
	for i := range n {
		want = append(want, id(i))
	}
	for i := range moved {
		want = append(want, fmt.Sprint("new-", i))
	}
	require.Equal(t, want, found)
	require.Positive(t, empty, "pages that only looked for the place")
}

// TestASearchSkipsAKeyOfAWrongType has one, which the errors name, beside runs in others.
func TestASearchSkipsAKeyOfAWrongType(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
	key := prefix(t) + ":{q}:io:2"
	require.NoError(t, client.HSet(t.Context(), key, "f", "v").Err())
	page, err := b.FindRuns(t.Context(), "q", broker.StateQueued, broker.RunSearch{})
	require.ErrorContains(t, err, key)
	require.Len(t, page.Runs, 3)
	require.Empty(t, page.After)
	changed, err := b.ChangeRuns(t.Context(), "q", broker.StateQueued, broker.RunSearch{}, cancelled)
	require.ErrorContains(t, err, key)
	require.Equal(t, 3, changed.Changed)
	require.NoError(t, client.Set(t.Context(), prefix(t)+":{q}:dead", "no list", 0).Err())
	_, err = b.FindDead(t.Context(), "q", broker.DeadSearch{})
	require.ErrorContains(t, err, prefix(t)+":{q}:dead")
}

// TestTheListOfThoseThatHaveEndedOutlivesEachRecord has runs end that are kept for different times, the
// last of them shortly before the list expires.
func TestTheListOfThoseThatHaveEndedOutlivesEachRecord(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	end := func(keep time.Duration, fail bool) {
		t.Helper()
		r := run(ulid.New(time.Now()), "q")
		r.Keep = keep
		require.NoError(t, b.QueueTasks(t.Context(), r))
		o := succeeded(takeAll(t, s, "q", 1))
		if fail {
			o[0].Verdict, o[0].Failure = broker.Dead, &broker.Failure{Kind: broker.FailureFailed, Message: "no"}
		}
		_, err := s.Finish(t.Context(), o...)
		require.NoError(t, err)
	}
	for key, fail := range map[string]bool{"ended:succeeded": false, "ended:failed": true} {
		key = prefix(t) + ":{q}:" + key
		end(10*time.Second, fail)
		expires := c.PTTL(t.Context(), key).Val()
		require.Greater(t, expires, 10*time.Second)
		end(time.Hour, fail)
		require.Greater(t, c.PTTL(t.Context(), key).Val(), time.Hour, "the second of two runs is kept for longer")
		end(10*time.Second, fail)
		require.Greater(t, c.PTTL(t.Context(), key).Val(), time.Hour, "the last is kept for less")
		require.NoError(t, c.PExpire(t.Context(), key, 30*time.Minute).Err())
		end(time.Hour, fail)
		require.Greater(t, c.PTTL(t.Context(), key).Val(), time.Hour, "time has passed")
		require.EqualValues(t, 4, c.LLen(t.Context(), key).Val())
		for range 17 { // a list of more entries is seen to as often: they can come seldom
			require.NoError(t, c.PExpire(t.Context(), key, 30*time.Minute).Err())
			end(time.Hour, fail)
			require.Greater(t, c.PTTL(t.Context(), key).Val(), time.Hour, "time has passed")
		}
	}
}

// TestTheListOfThoseThatHaveEndedForgetsExpiredOnes has many entries whose records have expired, or that
// have no time, behind some that have not.
func TestTheListOfThoseThatHaveEndedForgetsExpiredOnes(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	key := prefix(t) + ":{q}:ended:succeeded"
	pipe := c.Pipeline()
	for i := range 40 {
		pipe.LPush(t.Context(), key, fmt.Sprintf("%d gone-%d", time.Now().UnixMilli()-1, i), fmt.Sprint("odd-", i))
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	ids := endedRuns(t, b, s, "q", 3, 96)
	entries := c.LRange(t.Context(), key, 0, -1).Val()
	require.Len(t, entries, 96, "those of records that are there")
	slices.Reverse(ids)
	require.Equal(t, ids, pagesOf(t, b, "q", broker.StateSucceeded, broker.RunSearch{Max: 50, Look: 50}, nil))
}
