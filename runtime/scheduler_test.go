package runtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func count(notes []string, want string) int {
	n := 0
	for _, note := range notes {
		if note == want {
			n++
		}
	}
	return n
}

func TestSeveralSchedulersQueueEachTickOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		set := tasks.Tasks(j.recorder(nil))
		consume(t, b, taskrt.ConsumerConfig{}, set)
		for range 5 {
			schedule(t, b, set)
		}
		start := time.Now()
		time.Sleep(60*time.Second + time.Second/2)
		seen := make(map[string]bool)
		for _, e := range j.all() {
			if e.note != "tick" {
				continue
			}
			require.False(t, seen[e.run.ID], "tick %s twice", e.run.ID)
			seen[e.run.ID] = true
			require.Zero(t, e.at.Nanosecond(), "at a multiple of its interval")
		}
		require.Len(t, seen, 60, "from %s", start)
		require.Contains(t, seen, "recorder_tick@"+start.Add(7*time.Second).UTC().Format(time.RFC3339))
	})
}

func TestMissedTicksBecomeTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		set := tasks.Tasks(j.recorder(nil))
		consume(t, b, taskrt.ConsumerConfig{}, set)
		stop := schedule(t, b, set)
		time.Sleep(5*time.Second + time.Second/2)
		require.NoError(t, stop())
		require.Equal(t, 5, count(j.notes(), "tick"))
		time.Sleep(time.Hour)
		require.Equal(t, 5, count(j.notes(), "tick"))

		schedule(t, b, set)
		synctest.Wait()
		require.Equal(t, 6, count(j.notes(), "tick"), "the latest missed one, at once")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, 9, count(j.notes(), "tick"))
	})
}

func TestLongIntervalsSurviveRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		set := tasks.Tasks(j.recorder(nil))
		consume(t, b, taskrt.ConsumerConfig{}, set)
		time.Sleep(time.Second / 2)
		for range 24 * 6 { // a day of restarts every ten minutes
			stop := schedule(t, b, set)
			time.Sleep(10 * time.Minute)
			require.NoError(t, stop())
		}
		ticks, starts := 0, 0
		for _, e := range j.all() {
			switch {
			case e.note != "hourly":
			case len(e.run.ID) == 26: // a run of its own at the start of a scheduler
				starts++
			default:
				ticks++
			}
		}
		require.Equal(t, 24, ticks)
		require.Equal(t, 24*6, starts)
	})
}

func TestSchedulerOfTasksWithoutASchedule(t *testing.T) {
	s, err := taskrt.NewScheduler(newMemory(t), taskrt.SchedulerConfig{}, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, s.Run(ctx))
}
