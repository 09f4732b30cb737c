package memory_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

func limit(key string, most int, per time.Duration) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) {
		r.EnsureRules().Limits = append(r.EnsureRules().Limits, broker.Limit{Key: key, Max: most, Per: per})
	}
}

// drainLimited takes and finishes runs until n have ended, and returns how many
// started at which time since the start.
func drainLimited(t *testing.T, b *memory.Broker, n int) map[time.Duration]int {
	s := join(t, b, time.Hour)
	start := time.Now()
	starts := make(map[time.Duration]int)
	for n > 0 {
		runs, err := s.Take(t.Context(), want)
		require.NoError(t, err)
		starts[time.Since(start)] += len(runs)
		outcomes := make([]broker.Outcome, len(runs))
		for i, r := range runs {
			outcomes[i].Run = r
		}
		done, err := s.Finish(t.Context(), outcomes...)
		require.NoError(t, err)
		require.Empty(t, done.Fenced)
		n -= len(runs)
	}
	return starts
}

// TestRateWindowSlides: a run may start as soon as the one its maximum before it
// is as long ago as the rate says, and not a nanosecond earlier.
func TestRateWindowSlides(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		const per = 10 * time.Second
		delayed := newRuns(1, limit("key", 2, per), func(r *broker.TaskRun) { r.ID, r.Delay = "delayed", 3*time.Second })
		require.NoError(t, b.QueueTasks(t.Context(), append(newRuns(1, limit("key", 2, per)), delayed...)...))
		require.NoError(t, b.QueueTasks(t.Context(), newRuns(4, limit("key", 2, per), func(r *broker.TaskRun) {
			r.ID += "-later"
			r.Delay = 4 * time.Second
		})...))
		require.Equal(t, map[time.Duration]int{
			0: 1, 3 * time.Second: 1, per: 1, per + 3*time.Second: 1, 2 * per: 1, 2*per + 3*time.Second: 1,
		}, drainLimited(t, b, 6), "runs by when they started")
	})
}

// TestLimitsOfOneRunAgree has many runs under a rate and a maximum at once: what
// one of the limits lets go the other may hold back, again and again.
func TestLimitsOfOneRunAgree(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		const total, most, per = 20_000, 100, time.Second
		require.NoError(t, b.QueueTasks(t.Context(), newRuns(total, limit("held", 7, 0), limit("rate", most, per))...))
		starts := drainLimited(t, b, total)
		require.Len(t, starts, total/most, "instants at which runs started")
		for at, n := range starts {
			require.Equal(t, most, n, "runs that started after %v", at)
			require.Zero(t, at%per, "instant at which runs started: %v", at)
		}
	})
}

// TestLimitsOfManyKeys has a limit that the runs of many keys share.
func TestLimitsOfManyKeys(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		const keys, each = 500, 10
		var runs []*broker.TaskRun
		for i := range keys * each {
			r := newRuns(1, limit(fmt.Sprint("key-", i%keys), 1, time.Minute), limit("all", 50, 0))[0]
			r.ID = fmt.Sprint("run-", i)
			runs = append(runs, r)
		}
		require.NoError(t, b.QueueTasks(t.Context(), runs...))
		starts := drainLimited(t, b, len(runs))
		require.Len(t, starts, each, "instants at which runs started")
		for i := range each {
			require.Equal(t, keys, starts[time.Duration(i)*time.Minute], "runs that started in minute %d", i)
		}
	})
}

// TestRoomAheadIsNoSlot: consumers without a free slot leave a run with limits
// alone, and do not keep one another awake over it.
func TestRoomAheadIsNoSlot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		ctx, cancel := context.WithCancel(t.Context())
		taken := make(chan int, 10)
		take := func(w broker.Want) {
			s := join(t, b, time.Hour)
			go func() {
				runs, _ := s.Take(ctx, w)
				taken <- len(runs)
			}()
		}
		for range 3 {
			take(broker.Want{Queues: []string{"q"}, IO: 5, PrefetchIO: 5})
		}
		synctest.Wait()
		require.NoError(t, b.QueueTasks(ctx, newRuns(1, limit("key", 5, 0))...))
		synctest.Wait() // it would not return while they wake one another
		require.Empty(t, taken, "takes that returned a run with limits for which there is no slot")
		take(broker.Want{Queues: []string{"q"}, IO: 5, PrefetchIO: 4})
		require.Equal(t, 1, <-taken, "runs of a take with a slot")
		require.NoError(t, b.QueueTasks(ctx, newRuns(1)...))
		require.Equal(t, 1, <-taken, "runs without limits taken ahead")

		take(broker.Want{Queues: []string{"q"}, IO: 5, PrefetchIO: 4}) // it has waited less than the others
		synctest.Wait()
		require.NoError(t, b.QueueTasks(ctx, newRuns(1, limit("key", 5, 0))...))
		require.Equal(t, 1, <-taken, "runs of a take with a slot that others without come before")
		synctest.Wait()
		require.Empty(t, taken, "takes that returned")
		cancel()
		for range 2 {
			require.Zero(t, <-taken, "runs of a take that was cancelled")
		}
	})
}

// TestPausedQueueKeepsDue: what becomes due while a queue is paused waits for
// its resumption, and its blocked takes for that alone.
func TestPausedQueueKeepsDue(t *testing.T) {
	inBubble(t, func(t *testing.T, b *memory.Broker) {
		start := time.Now()
		require.NoError(t, b.Pause(t.Context(), "q", true))
		require.NoError(t, b.QueueTasks(t.Context(), newRuns(2, func(r *broker.TaskRun) { r.Delay = time.Minute })...))
		time.AfterFunc(time.Hour, func() { require.NoError(t, b.Pause(context.Background(), "q", false)) })
		runs, err := join(t, b, time.Hour).Take(t.Context(), want)
		require.NoError(t, err)
		require.Len(t, runs, 2, "runs taken")
		require.Equal(t, time.Hour, time.Since(start), "time until the runs were taken")
	})
}
