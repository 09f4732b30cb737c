package redis_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis"
)

// withRules returns runs of the queue q, one for each of the ids.
func withRules(change func(*broker.TaskRun), ids ...string) []*broker.TaskRun {
	list := make([]*broker.TaskRun, len(ids))
	for i, id := range ids {
		list[i] = run(id, "q")
		change(list[i])
	}
	return list
}

func limits(l ...broker.Limit) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) { r.EnsureRules().Limits = l }
}

func fair(value string) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) { r.EnsureRules().Fair = value }
}

// now takes the runs that can be taken at once.
func now(t *testing.T, s broker.Session, n int) []*broker.TaskRun {
	t.Helper()
	return takeFor(t, s, n, 500*time.Millisecond)
}

// takeFor is now for so long.
func takeFor(t *testing.T, s broker.Session, n int, d time.Duration) []*broker.TaskRun {
	t.Helper()
	got, err := s.Take(within(t, d), broker.Want{Queues: []string{"q"}, IO: n, CPU: n})
	if err != nil {
		require.ErrorIs(t, err, within(t, 0).Err())
	}
	return got
}

func finishAll(t *testing.T, s broker.Session, list []*broker.TaskRun) {
	t.Helper()
	done, err := s.Finish(t.Context(), succeeded(list)...)
	require.NoError(t, err)
	require.Empty(t, done.Fenced)
}

// requireEmpty checks that no key of limits and rounds is left once all runs have ended.
func requireEmpty(t *testing.T) {
	t.Helper()
	for _, key := range keysOf(t, raw(t, shared), prefix(t)) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(key, prefix(t)+":{q}:"), ":")
		require.NotContains(t, []string{"backlogs", "rounds", "policy", "recheck", "running"}, kind, key)
	}
}

func TestConcurrencyLimits(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	two := limits(broker.Limit{Key: "k", Max: 2})
	require.NoError(t, b.QueueTasks(t.Context(), withRules(two, "a", "b", "c", "d", "e")...))
	require.NoError(t, b.QueueTasks(t.Context(), run("free", "q")))
	got := now(t, s, 10)
	require.Equal(t, []string{"a", "b", "free"}, ids(got), "the others hold up none")
	require.Equal(t, 3, length(t, b, "q"), "those wait")
	require.Empty(t, now(t, s, 10))
	finishAll(t, s, got[2:])

	require.NoError(t, b.QueueTasks(t.Context(), withRules(two, "f")...))
	finishAll(t, s, got[:1])
	require.Equal(t, []string{"c"}, ids(now(t, s, 10)))

	_, err := s.Finish(t.Context(), broker.Outcome{Run: got[1], Verdict: broker.Retry, Failure: &broker.Failure{Kind: broker.FailureFailed}})
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, ids(now(t, s, 10)), "a retry without delay is first of its line")
	require.NoError(t, s.Close(t.Context()))

	s = join(t, b, time.Minute)
	var order []string
	for length(t, b, "q") > 0 {
		got := now(t, s, 10)
		require.Len(t, got, min(2, length(t, b, "q")+len(got)))
		order = append(order, ids(got)...)
		finishAll(t, s, got)
	}
	require.Equal(t, []string{"b", "c", "d", "e", "f"}, slices.Sorted(slices.Values(order)))
	require.Equal(t, []string{"d", "e", "f"}, order[2:])
	require.Empty(t, now(t, s, 1))
	requireEmpty(t)
}

func TestALimitedRunConsumesNothingWhileAnotherLimitHoldsIt(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	one := func(keys ...string) func(*broker.TaskRun) {
		return func(r *broker.TaskRun) {
			for _, key := range keys {
				r.EnsureRules().Limits = append(r.EnsureRules().Limits, broker.Limit{Key: key, Max: 1})
			}
		}
	}
	queue := func(change func(*broker.TaskRun), ids ...string) {
		require.NoError(t, b.QueueTasks(t.Context(), withRules(change, ids...)...))
	}
	queue(one("y"), "y1")
	queue(one("x", "y"), "xy1", "xy2")
	queue(one("x"), "x1", "x2")
	got := now(t, s, 10)
	require.Equal(t, []string{"y1", "x1"}, ids(got), "x is free for others while y holds back")
	finishAll(t, s, got[:1])
	require.Empty(t, now(t, s, 10), "now x holds back")
	queue(one("y"), "y2")
	y2 := now(t, s, 10)
	require.Equal(t, []string{"y2"}, ids(y2))
	finishAll(t, s, append(y2, got[1]))
	got = now(t, s, 10)
	require.Equal(t, []string{"xy1"}, ids(got))
	finishAll(t, s, got)
	for _, want := range []string{"xy2", "x2"} {
		got = now(t, s, 10)
		require.Equal(t, []string{want}, ids(got))
		finishAll(t, s, got)
	}
	require.Empty(t, now(t, s, 1))
	requireEmpty(t)
}

func TestARateIsNeverAboveItsMaximum(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const per, most = 300 * time.Millisecond, 5
	list := withRules(limits(broker.Limit{Key: "r", Max: most, Per: per}), ids(runs("q", 22))...)
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	var (
		mu     sync.Mutex
		before []time.Time // each taking
		after  []time.Time
		all    sync.WaitGroup
	)
	for range 3 {
		all.Go(func() {
			s := join(t, b, time.Minute)
			for {
				asked := time.Now()
				got, err := s.Take(within(t, 2*time.Second), broker.Want{Queues: []string{"q"}, IO: 2})
				if err != nil {
					return
				}
				mu.Lock()
				for range got {
					before, after = append(before, asked), append(after, time.Now())
				}
				done := len(after) == len(list)
				mu.Unlock()
				finishAll(t, s, got)
				if done {
					return
				}
			}
		})
	}
	start := time.Now()
	all.Wait()
	require.Len(t, after, len(list))
	slices.SortFunc(after, time.Time.Compare)
	slices.SortFunc(before, time.Time.Compare)
	// A start is between the two: the last of a window's end against the next's begin.
	for i := range len(after) - most {
		require.GreaterOrEqual(t, after[i+most].Sub(before[i]), per, "starts %d and %d", i, i+most)
	}
	require.GreaterOrEqual(t, after[len(after)-1].Sub(start), 4*per-50*time.Millisecond)
	require.Less(t, after[len(after)-1].Sub(start), 8*per, "who sleeps wakes when there is room")
	c := raw(t, shared)
	for _, key := range []string{"starts", "rates"} {
		left, err := c.PTTL(t.Context(), prefix(t)+":{q}:"+key).Result()
		require.NoError(t, err)
		require.NotEqualValues(t, -1, left, "an idle rate goes by itself")
	}
}

func TestFairTurns(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), withRules(fair("a"), "a0", "a1", "a2", "a3")...))
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
	require.NoError(t, b.QueueTasks(t.Context(), withRules(fair("b"), "b0", "b1")...))
	require.Equal(t, 9, length(t, b, "q"))
	var order []string
	for range 9 {
		order = append(order, ids(now(t, s, 1))...)
	}
	require.ElementsMatch(t, []byte("abr"), []byte{order[0][0], order[1][0], order[2][0]}, "%v", order)
	require.ElementsMatch(t, []byte("abr"), []byte{order[3][0], order[4][0], order[5][0]}, "%v", order)
	for _, value := range []string{"a", "b", "r"} {
		own := slices.DeleteFunc(slices.Clone(order), func(id string) bool { return !strings.HasPrefix(id, value) })
		require.True(t, slices.IsSorted(own), "each value's in the order queued: %v", own)
	}
	require.NoError(t, s.Close(t.Context()))
	require.Equal(t, 9, length(t, b, "q"))
	require.Len(t, takeAll(t, join(t, b, time.Minute), "q", 9), 9)
}

func TestWaitingRunsOfALimitTakeTurns(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	both := func(value string) func(*broker.TaskRun) {
		return func(r *broker.TaskRun) {
			r.Rules = &broker.Rules{Fair: value, Limits: []broker.Limit{{Key: "k", Max: 1}}}
		}
	}
	require.NoError(t, b.QueueTasks(t.Context(), withRules(both("a"), "a0", "a1", "a2")...))
	require.NoError(t, b.QueueTasks(t.Context(), withRules(both("b"), "b0", "b1", "b2")...))
	var order []string
	for range 6 {
		got := now(t, s, 10)
		require.Len(t, got, 1)
		order = append(order, ids(got)...)
		finishAll(t, s, got)
	}
	for i := range 3 {
		require.NotEqual(t, order[i+1][0], order[i+2][0], "%v", order)
	}
	require.Empty(t, now(t, s, 1))
	requireEmpty(t)
}

// TestBacklogsOfCancelledRunsAreForgottenInParts frees a limit behind which nearly all
// backlogs are empty: no call of the script reads all of them.
func TestBacklogsOfCancelledRunsAreForgottenInParts(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	s := join(t, b, time.Minute)
	list := make([]*broker.TaskRun, 1200)
	for i := range list {
		list[i] = run(fmt.Sprintf("it-%d", i), "q")
		list[i].Rules = &broker.Rules{Fair: list[i].ID, Limits: []broker.Limit{{Key: "k", Max: 1}}}
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	got := now(t, s, 10)
	require.Len(t, got, 1)
	lines, turns := prefix(t)+":{q}:backlogs", prefix(t)+":{q}:rounds"
	for client.ZLexCount(t.Context(), turns, "[r", "(s").Val() > 0 || client.ZCard(t.Context(), lines).Val() < 1199 {
		require.Empty(t, now(t, s, 10), "until all wait behind the limit")
	}
	require.EqualValues(t, 2398, client.ZCard(t.Context(), turns).Val(), "a line and a turn each")
	require.NoError(t, client.ZRemRangeByRank(t.Context(), lines, 0, -2).Err())
	finishAll(t, s, got)

	other := join(t, b, time.Minute)
	before := calls(t, client, "zrem", "evalsha")
	last := takeAll(t, other, "q", 1)
	after := calls(t, client, "zrem", "evalsha")
	perCall := (after[0] - before[0]) / max(after[1]-before[1], 1)
	require.Less(t, perCall, 1000, "members removed in each script")
	finishAll(t, other, last)
	require.Empty(t, now(t, other, 1))
	requireEmpty(t)
}

// calls is how often the server executed commands.
func calls(t *testing.T, client *goredis.Client, names ...string) []int {
	t.Helper()
	stats := client.Info(t.Context(), "commandstats").Val()
	counts := make([]int, len(names))
	for i, name := range names {
		_, rest, _ := strings.Cut(stats, "cmdstat_"+name+":calls=")
		n, _, _ := strings.Cut(rest, ",")
		counts[i], _ = strconv.Atoi(n)
	}
	return counts
}

func TestPlacesAtLimitsComeBackWhenALeaseEnds(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s, dead := join(t, b, time.Minute), join(t, b, 20*time.Millisecond)
	require.NoError(t, b.QueueTasks(t.Context(), withRules(limits(broker.Limit{Key: "k", Max: 2}), "a", "b", "c")...))
	require.Equal(t, []string{"a", "b"}, ids(now(t, dead, 5)))
	require.Eventually(t, func() bool {
		recovered, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		return recovered.Runs == 2
	}, 5*time.Second, 5*time.Millisecond)
	got := now(t, s, 5)
	require.Equal(t, []string{"a", "b"}, ids(got), "they are the first of their line again")
	require.Equal(t, 2, got[0].Deliveries)
	finishAll(t, s, got)
	got = now(t, s, 5)
	require.Equal(t, []string{"c"}, ids(got))
	finishAll(t, s, got)
	require.Empty(t, now(t, s, 1))
	requireEmpty(t)
}

func TestUniqueRuns(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	unique := func(key string) func(*broker.TaskRun) {
		return func(r *broker.TaskRun) { r.EnsureRules().Unique = key }
	}
	require.NoError(t, b.QueueTasks(t.Context(), withRules(unique("u"), "a")...))
	list := append(runs("q", 1), withRules(unique("u"), "b")...)
	list = append(list, withRules(unique("v"), "c", "d")...)
	requireDuplicates(t, b.QueueTasks(t.Context(), list...), broker.Duplicate{Index: 1, ID: "a"}, broker.Duplicate{Index: 3, ID: "c"})
	requireDuplicates(t, b.QueueTasks(t.Context(), list[:3]...), broker.Duplicate{Index: 1, ID: "a"})
	require.Equal(t, 1, length(t, b, "q"), "a refused call stores nothing")
	require.NoError(t, b.QueueTasks(t.Context(), list[2]), "and leaves no lock")

	got := now(t, s, 5)
	require.Equal(t, []string{"a", "c"}, ids(got))
	_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0], Verdict: broker.Retry})
	require.NoError(t, err)
	requireDuplicates(t, b.QueueTasks(t.Context(), list[1]), broker.Duplicate{ID: "a"})
	for _, verdict := range []broker.Verdict{broker.Succeeded, broker.Dead, broker.Dropped} {
		got = now(t, s, 1)
		_, err = s.Finish(t.Context(), broker.Outcome{Run: got[0], Verdict: verdict, Failure: &broker.Failure{Kind: broker.FailureFailed}})
		require.NoError(t, err)
		require.NoError(t, b.QueueTasks(t.Context(), list[1]))
		requireDuplicates(t, b.QueueTasks(t.Context(), list[1]), broker.Duplicate{ID: "b"})
	}

	tick := time.Now()
	requireDuplicates(t, b.QueueTick(t.Context(), list[1], tick), broker.Duplicate{ID: "b"})
	last, err := b.LastTick(t.Context(), "q", "task")
	require.NoError(t, err)
	require.True(t, last.Equal(tick), "the tick is claimed")

	short := withRules(func(r *broker.TaskRun) { r.Rules = &broker.Rules{Unique: "w", UniqueFor: 100 * time.Millisecond} }, "e", "f")
	require.NoError(t, b.QueueTasks(t.Context(), short[0]))
	requireDuplicates(t, b.QueueTasks(t.Context(), short[1]), broker.Duplicate{ID: "e"})
	require.Eventually(t, func() bool { return b.QueueTasks(t.Context(), short[1]) == nil }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, []string{"b", "e"}, ids(now(t, s, 2)))
	e := now(t, s, 1) // f
	require.Equal(t, []string{"f"}, ids(e))
}

func requireDuplicates(t *testing.T, err error, want ...broker.Duplicate) {
	t.Helper()
	var refused *broker.DuplicateError
	require.ErrorAs(t, err, &refused)
	require.ErrorIs(t, err, broker.ErrDuplicate)
	require.Equal(t, want, refused.Runs)
}

func TestThousandRacersOnAUniqueKey(t *testing.T) {
	b := open(t, shared, redis.Config{})
	var (
		all  sync.WaitGroup
		errs = make([]error, 1000)
	)
	for i := range errs {
		r := run(fmt.Sprintf("racer-%d", i), "q")
		r.EnsureRules().Unique = "u"
		all.Go(func() { errs[i] = b.QueueTasks(t.Context(), r) })
	}
	all.Wait()
	winner := slices.Index(errs, nil)
	require.GreaterOrEqual(t, winner, 0)
	for i, err := range errs {
		var refused *broker.DuplicateError
		if i != winner {
			require.True(t, errors.As(err, &refused), "%v", err)
			require.Equal(t, fmt.Sprintf("racer-%d", winner), refused.Runs[0].ID)
		}
	}
	require.Equal(t, 1, length(t, b, "q"))
}

func TestAuditOfPolicies(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	base := prefix(t) + ":{q}:"
	list := withRules(limits(broker.Limit{Key: "k", Max: 2}), "a", "b", "c", "d")
	for _, r := range list {
		r.EnsureRules().Unique = r.ID
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	s := join(t, b, time.Minute)
	held := now(t, s, 10)
	require.Equal(t, []string{"a", "b"}, ids(held))
	audit := func(repair bool) maintenance.Report {
		report, err := b.Audit(t.Context(), "q", repair)
		require.NoError(t, err)
		return report
	}
	require.Equal(t, maintenance.Report{Runs: 4}, audit(false))

	require.NoError(t, c.HSet(t.Context(), base+"running", "k", 7, "gone", 3).Err())
	require.NoError(t, c.Set(t.Context(), base+"u:stray", "nobody token", time.Hour).Err())
	require.NoError(t, c.Set(t.Context(), base+"u:ended", " nobody token", time.Hour).Err())
	require.NoError(t, c.Del(t.Context(), base+"rounds", base+"policy").Err())
	want := maintenance.Report{Runs: 4, WrongCounts: 2, StrayKeys: 1, ForgottenLimits: 1}
	require.Equal(t, want, audit(false))
	want.Repaired = true
	require.Equal(t, want, audit(true))
	require.Zero(t, audit(false).Faults())
	require.Equal(t, map[string]string{"k": "2"}, c.HGetAll(t.Context(), base+"running").Val())
	require.NoError(t, c.Del(t.Context(), base+"u:ended").Err())

	require.Empty(t, now(t, s, 10))
	finishAll(t, s, held)
	held = now(t, s, 10)
	require.Equal(t, []string{"c", "d"}, ids(held))
	finishAll(t, s, held)
	require.Empty(t, now(t, s, 1))
	requireEmpty(t)
}

// TestDisabledRunsWithPoliciesAreDeferred, so that they hold up no other run of their
// limit or fair value.
func TestDisabledRunsWithPoliciesAreDeferred(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	for i, edit := range []func(*broker.TaskRun){limits(broker.Limit{Key: "k", Max: 1}), fair("v")} {
		held := withRules(edit, "off-1", "off-2", "on-1")
		held[2].Task = "other"
		require.NoError(t, b.QueueTasks(t.Context(), held...))
		require.NoError(t, b.Disable(t.Context(), "q", "task", true))
		got := now(t, s, 10)
		require.Equal(t, []string{"on-1"}, ids(got), "round %d", i)
		require.Equal(t, 2, length(t, b, "q"))
		finishAll(t, s, got)
		require.NoError(t, b.Disable(t.Context(), "q", "task", false))
		for _, want := range []string{"off-1", "off-2"} {
			got = now(t, s, 1)
			require.Equal(t, []string{want}, ids(got), "round %d", i)
			finishAll(t, s, got)
		}
	}
	require.Empty(t, now(t, s, 1))
	requireEmpty(t)
}

// shortReplies is short, and counts the entries that a command returns too.
var shortReplies = strings.Replace(strings.Replace(short, "return call(...)", `local reply = call(...)
      if type(reply) == 'table' then
        units = units + #reply + (type(reply[2]) == 'table' and #reply[2] or 0)
      end
      if units > LIMIT then
        error('this is too much for one step: ' .. units)
      end
      return reply`, 1), "LIMIT", "12000", -1)

// TestAuditOfManyLimitsDoesNotHoldTheServerUp compares the counts in pages, each a short
// step, while runs start and end.
func TestAuditOfManyLimitsDoesNotHoldTheServerUp(t *testing.T) {
	t.Parallel()
	b, c := open(t, shared, redis.Config{}), raw(t, shared)
	b.Instrument(shortReplies)
	key := prefix(t) + ":{q}:running"
	const n, wrong = 500, 100_000
	list := runs("q", n)
	for i, r := range list {
		r.EnsureRules().Limits = []broker.Limit{{Key: fmt.Sprint("limit-", i%100), Max: 5}}
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	s := join(t, b, time.Minute)
	held := takeAll(t, s, "q", n)
	right := c.HGetAll(t.Context(), key).Val()
	require.Len(t, right, 100)
	for from := 0; from < wrong; from += 1000 {
		var values []any
		for i := range 1000 {
			values = append(values, fmt.Sprint("gone-", from+i), 1)
		}
		require.NoError(t, c.HSet(t.Context(), key, values...).Err())
	}
	require.NoError(t, c.HSet(t.Context(), key, "limit-0", 1, "limit-1", "none").Err())
	require.NoError(t, c.HDel(t.Context(), key, "limit-2").Err())

	worked := make(chan error, 1)
	go func() { // one run after the other ends, and another starts
		for i, r := range held[3:53] {
			if _, err := s.Finish(t.Context(), broker.Outcome{Run: r}); err != nil {
				worked <- err
				return
			}
			again := run(fmt.Sprint("again-", i), "q")
			again.EnsureRules().Limits = r.Rules.Limits
			if err := b.QueueTasks(t.Context(), again); err != nil {
				worked <- err
				return
			}
			if _, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1}); err != nil {
				worked <- err
				return
			}
		}
		worked <- nil
	}()
	report, err := b.Audit(t.Context(), "q", true)
	require.NoError(t, err)
	require.NoError(t, <-worked)
	require.Equal(t, wrong+3, report.WrongCounts)
	require.Equal(t, right, c.HGetAll(t.Context(), key).Val())
	report, err = b.Audit(t.Context(), "q", false)
	require.NoError(t, err)
	require.Zero(t, report.WrongCounts)
}
