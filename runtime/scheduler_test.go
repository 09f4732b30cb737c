package runtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
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
		set := []taskrt.Task{scheduled("tick", taskrt.Timing{Every: time.Second}, &j)}
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
		set := []taskrt.Task{scheduled("hourly", taskrt.Timing{Every: time.Hour, Start: true}, new(journal))}
		got := drain(t, b, "default")
		time.Sleep(time.Second / 2)
		for range 24 * 6 { // a day of restarts every ten minutes
			stop := schedule(t, b, set)
			time.Sleep(10 * time.Minute)
			require.NoError(t, stop())
		}
		ticks, starts := 0, 0
		for _, id := range got()["hourly"] {
			if len(id) == 26 { // a run of its own at the start of a scheduler
				starts++
			} else {
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

// scheduled makes a task with a schedule out of what the generator would write
// for one without parameters.
func scheduled(name string, schedule taskrt.Timing, j *journal) taskrt.Task {
	type none struct{}
	return taskrt.Bind(&taskrt.Definition[none, taskrt.None]{
		Spec:         taskrt.Spec{Name: name, Schedule: schedule},
		AppendParams: func(_ *none, b []byte) ([]byte, error) { return append(b, 0x80), nil },
		ReadParams:   func(_ *none, r *codec.Reader) { r.Skip() },
	}, func(ctx context.Context, _ *none) (taskrt.None, error) {
		run, _ := taskrt.CurrentRun(ctx)
		j.add(run, name)
		return taskrt.None{}, nil
	})
}

func TestCronFollowsItsZone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which begins at midnight UTC of 2000-01-01
		b := newMemory(t)
		var j journal
		set := []taskrt.Task{
			scheduled("rome", taskrt.Timing{Cron: "30 2 * * *", Zone: "Europe/Rome"}, &j),
			scheduled("utc", taskrt.Timing{Cron: "@daily"}, &j),
		}
		consume(t, b, taskrt.ConsumerConfig{}, set)
		schedule(t, b, set)
		time.Sleep(26*time.Hour + time.Second)
		var got []string
		for _, e := range j.all() {
			got = append(got, e.note+" "+e.at.UTC().Format("02 15:04"))
		}
		require.Equal(t, []string{"rome 01 01:30", "utc 02 00:00", "rome 02 01:30"}, got)
	})
}

func TestMissedTicksFollowTheSchedulesRule(t *testing.T) {
	for _, test := range []struct {
		name     string
		schedule taskrt.Timing
		want     int // ticks at the return after an hour
	}{
		{"latest", taskrt.Timing{Every: 5 * time.Minute}, 1},
		{"skip", taskrt.Timing{Every: 5 * time.Minute, Missed: taskrt.MissedSkip}, 0},
		{"all", taskrt.Timing{Every: 5 * time.Minute, Missed: taskrt.MissedAll}, 12},
		{"all, capped", taskrt.Timing{Every: 5 * time.Minute, Missed: taskrt.MissedAll, MissedMax: 3}, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newMemory(t)
				var j journal
				set := []taskrt.Task{scheduled("task", test.schedule, &j)}
				consume(t, b, taskrt.ConsumerConfig{}, set)
				stop := schedule(t, b, set)
				time.Sleep(12 * time.Minute) // ticks at 5 and 10
				require.NoError(t, stop())
				require.Len(t, j.all(), 2)
				time.Sleep(time.Hour)
				for range 3 { // several schedulers come back at once
					schedule(t, b, set)
				}
				synctest.Wait()
				require.Len(t, j.all(), 2+test.want)
				time.Sleep(4 * time.Minute) // the next tick, at 75, on time
				synctest.Wait()
				require.Len(t, j.all(), 2+test.want+1)
				seen := make(map[string]bool)
				for _, e := range j.all() {
					require.False(t, seen[e.run.ID], "%s twice", e.run.ID)
					seen[e.run.ID] = true
				}
			})
		})
	}
}

func TestJitterMovesTicksTheSameWayForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		set := []taskrt.Task{scheduled("task", taskrt.Timing{Every: time.Minute, Jitter: 40 * time.Second}, &j)}
		consume(t, b, taskrt.ConsumerConfig{}, set)
		for range 3 {
			schedule(t, b, set)
		}
		start := time.Now()
		time.Sleep(100*time.Minute + 59*time.Second)
		offsets := make(map[time.Duration]bool)
		for i, e := range j.all() {
			tick := start.Add(time.Duration(i+1) * time.Minute)
			require.Equal(t, "task@"+tick.UTC().Format(time.RFC3339), e.run.ID)
			offset := e.at.Sub(tick)
			require.GreaterOrEqual(t, offset, time.Duration(0))
			require.Less(t, offset, 40*time.Second)
			offsets[offset] = true
		}
		require.Len(t, j.all(), 100)
		require.Greater(t, len(offsets), 90, "ticks are moved by different times")
	})
}

func TestImpossibleSchedulesAreRefused(t *testing.T) {
	for want, schedule := range map[string]taskrt.Timing{
		"schedule of task task: ":                            {Cron: "0 0 31 2 *"},
		"unknown time zone Europe/Atlantis":                  {Cron: "@daily", Zone: "Europe/Atlantis"},
		"it has both an interval and a cron expression":      {Cron: "@daily", Every: time.Hour},
		"its jitter 1h0m0s is not less than its interval 1m": {Every: time.Minute, Jitter: time.Hour},
	} {
		var j journal
		_, err := taskrt.NewScheduler(newMemory(t), taskrt.SchedulerConfig{}, []taskrt.Task{scheduled("task", schedule, &j)})
		require.ErrorContains(t, err, want)
	}
}

// TestPoliciesThatAreNotKeptAreRefused has a broker of three methods.
func TestPoliciesThatAreNotKeptAreRefused(t *testing.T) {
	for directive, spec := range map[string]taskrt.Spec{
		"unique":      {Unique: time.Minute},
		"concurrency": {Limit: taskrt.Limit{Concurrency: 1}},
		"rate":        {Limit: taskrt.Limit{Rate: 1, Per: time.Minute}},
		"fair":        {Fair: true},
	} {
		type none struct{}
		spec.Name = "task"
		d := &taskrt.Definition[none, taskrt.None]{
			Spec:         spec,
			AppendParams: func(_ *none, b []byte) ([]byte, error) { return append(b, 0x80), nil },
			ReadParams:   func(_ *none, r *codec.Reader) { r.Skip() },
			Keys:         taskrt.Keys[none]{Fair: func(_ *none, b []byte) []byte { return append(b, 'k') }},
		}
		want := "task task has //task:" + directive + ", which this broker does not keep"
		b := core{newMemory(t)}
		_, err := taskrt.Queue(clientContext(context.Background(), b), d, &none{})
		require.ErrorContains(t, err, want)
		_, err = taskrt.QueueBatch(clientContext(context.Background(), b), d, make([]none, 2))
		require.ErrorContains(t, err, want)
	}
}
