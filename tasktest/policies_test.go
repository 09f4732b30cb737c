package tasktest_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/tasktest"
)

func newKit(t testing.TB, opts ...tasktest.Option) *tasktest.Kit {
	unscheduled := slices.DeleteFunc(tasks.Tasks(&tasks.Recorder{}), func(task taskrt.Task) bool { return task.Spec().Schedule.Every > 0 })
	return tasktest.New(t, unscheduled, opts...)
}

func TestALimitHoldsRunsBackInAKit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newKit(t)
		busy, most := map[string]int{}, map[string]int{}
		var mu sync.Mutex
		tasktest.Of[tasks.RecorderLimitedParams, taskrt.None](q, "recorder_limited").
			Does(func(_ context.Context, p *tasks.RecorderLimitedParams) (taskrt.None, error) {
				mu.Lock()
				busy[p.Tenant]++
				most[p.Tenant] = max(most[p.Tenant], busy[p.Tenant])
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				busy[p.Tenant]--
				mu.Unlock()
				return taskrt.None{}, nil
			})
		for n := range 12 {
			_, err := tasks.QueueRecorderLimited(q.Context(), []string{"a", "b"}[n%2], n)
			require.NoError(t, err)
		}
		q.Drain(t)
		require.Equal(t, map[string]int{"a": 2, "b": 2}, most)
	})
}

func TestARateOpensAsTheClockOfAKitMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newKit(t)
		var began atomic.Int32
		tasktest.Of[tasks.RecorderRatedParams, taskrt.None](q, "recorder_rated").
			Does(func(context.Context, *tasks.RecorderRatedParams) (taskrt.None, error) {
				began.Add(1)
				return taskrt.None{}, nil
			})
		for range 9 {
			_, err := tasks.QueueRecorderRated(q.Context(), "x")
			require.NoError(t, err)
		}
		q.Drain(t)
		require.EqualValues(t, 3, began.Load(), "three in a second")
		q.Advance(t, 10*time.Second)
		require.EqualValues(t, 9, began.Load())
	})
}

func TestTenantsTakeTurnsInAKit(t *testing.T) {
	q := newKit(t, tasktest.Concurrency(1))
	var order []string
	tasktest.Of[tasks.RecorderSharedParams, taskrt.None](q, "recorder_shared").
		Does(func(_ context.Context, p *tasks.RecorderSharedParams) (taskrt.None, error) {
			order = append(order, p.Tenant)
			return taskrt.None{}, nil
		})
	for _, tenant := range []string{"a", "a", "a", "b", "b", "c"} {
		_, err := tasks.QueueRecorderShared(q.Context(), tenant, 0)
		require.NoError(t, err)
	}
	q.Drain(t)
	require.Equal(t, []string{"a", "b", "c", "a", "b", "a"}, order)
}

func TestAGroupAndWhatFollowsRunInAKit(t *testing.T) {
	q := newKit(t)
	call := taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(4), tasks.CallHalf(6)}, tasks.NextSum("halves"))
	h, err := call.Queue(q.Context())
	require.NoError(t, err)
	half := tasktest.Of[tasks.HalfParams, int64](q, "half")
	half.Queued(t, tasks.HalfParams{N: 4})
	half.Queued(t, tasks.HalfParams{N: 6})
	q.Drain(t)
	sum, err := h.Wait(q.Context())
	require.NoError(t, err)
	require.Equal(t, "halves: 5 of 2", sum)
}

func TestBackOffIsDrawnFromASeed(t *testing.T) {
	instants := func(seed uint64) (at []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			q := newKit(t, tasktest.AllowFailures(), tasktest.Seed(seed))
			began := time.Now()
			tasktest.Of[tasks.RecorderRecordParams, taskrt.None](q, "recorder_record").
				Does(func(context.Context, *tasks.RecorderRecordParams) (taskrt.None, error) {
					at = append(at, time.Since(began))
					return taskrt.None{}, context.DeadlineExceeded
				})
			_, err := tasks.QueueRecorderRecord(q.Context(), "x")
			require.NoError(t, err)
			q.Advance(t, time.Minute)
		})
		return at
	}
	first := instants(7)
	require.Len(t, first, 4)
	for n, most := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		require.LessOrEqual(t, first[n+1]-first[n], most+time.Millisecond)
	}
	require.Equal(t, first, instants(7))
	require.NotEqual(t, first, instants(8))
}

func TestAScheduleOfRunTimeIsSteppedAndNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newKit(t)
		total := tasktest.Of[tasks.TotalParams, int64](q, "total")
		made, err := taskrt.Schedule(q.Context(), "0 9 * * *", "Europe/Rome", tasks.CallTotal([]int64{1, 2}))
		require.NoError(t, err)
		total.NotQueued(t)
		q.Advance(t, 24*time.Hour)
		run := total.Queued(t, tasks.TotalParams{Numbers: []int64{1, 2}})
		require.Contains(t, run.ID, "2000-01-01T08:00:00Z", "nine in Rome")
		q.Advance(t, 48*time.Hour)
		require.Len(t, total.Runs(t), 3)
		require.NoError(t, made.Unschedule(q.Context()))
		q.Advance(t, 48*time.Hour)
		require.Len(t, total.Runs(t), 3)
	})
}

func TestAQueueOfNoTaskIsDrained(t *testing.T) {
	q := newKit(t)
	h, err := tasks.QueueTotal(q.Context(), []int64{20, 22}, taskrt.OnQueue("elsewhere"))
	require.NoError(t, err)
	q.Drain(t)
	n, err := h.Wait(q.Context())
	require.NoError(t, err)
	require.EqualValues(t, 42, n)
}
