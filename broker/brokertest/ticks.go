package brokertest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

var tickChecks = []check{
	{"a tick is claimed once among many schedulers", tickOnce},
	{"a tick not later than the last is refused", tickOrder},
	{"ticks of two tasks are independent", tickTasks},
	{"a tick whose run cannot be stored is not claimed", tickUnsafe},
	{"a tick's run is taken as any other", tickTaken},
	{"ticks begin once, after which older ones are refused", tickBegun},
	{"a survey of last ticks finds what the call for one task finds", tickSurvey},
}

var midnight = time.Date(2030, 1, 2, 0, 0, 0, 0, time.UTC)

func task(name string) func(*broker.TaskRun) { return func(r *broker.TaskRun) { r.Task = name } }

func (f *fixture) requireLastTick(queue, task string, want time.Time) {
	f.Helper()
	got, err := f.ticks().LastTick(f.ctx(), queue, task)
	require.NoError(f, err, "LastTick")
	require.True(f, want.Equal(got), "LastTick of task %s: got %v, want %v", task, got, want)
	require.Equal(f, want.IsZero(), got.IsZero(), "LastTick of task %s: got %v, want %v", task, got, want)
}

func tickOnce(f *fixture) {
	const ticks, racers = 20, 16
	for i := range ticks {
		tick := midnight.Add(time.Duration(i) * time.Second)
		var claimed atomic.Int32
		f.each(racers, func(int) error {
			err := f.ticks().QueueTick(f.ctx(), f.newRun("q"), tick)
			if err == nil {
				claimed.Add(1)
			} else if !errors.Is(err, broker.ErrDuplicate) {
				return err
			}
			return nil
		})
		require.EqualValues(f, 1, claimed.Load(), "schedulers of %d that claimed the tick %v", racers, tick)
		f.requireLastTick("q", theTask, tick)
	}
	require.Equal(f, ticks, f.length("q"), "runs queued for %d ticks", ticks)
}

func tickOrder(f *fixture) {
	f.requireLastTick("q", theTask, time.Time{})
	tick := midnight.Add(1)
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), tick), "QueueTick")
	for _, old := range []time.Duration{0, -1, -time.Hour} {
		require.ErrorIs(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), tick.Add(old)), broker.ErrDuplicate,
			"QueueTick of the last tick %v", old)
	}
	f.requireLastTick("q", theTask, tick)
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), tick.Add(1)), "QueueTick a nanosecond later")
	f.requireLastTick("q", theTask, tick.Add(1))
	require.Equal(f, 2, f.length("q"), "runs queued for two ticks")
}

func tickTasks(f *fixture) {
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q", task("a")), midnight.Add(time.Hour)), "QueueTick of a")
	f.requireLastTick("q", "b", time.Time{})
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q", task("b")), midnight), "an earlier QueueTick of b")
	f.requireLastTick("q", "a", midnight.Add(time.Hour))
	f.requireLastTick("q", "b", midnight)
	require.Equal(f, 2, f.length("q"), "runs queued for two tasks")
}

func tickUnsafe(f *fixture) {
	bad := f.newRun("q", func(r *broker.TaskRun) { r.ID = "a b" })
	require.Error(f, f.ticks().QueueTick(f.ctx(), bad, midnight), "QueueTick of a run with an unsafe id")
	f.requireLastTick("q", theTask, time.Time{})
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), midnight), "QueueTick of the same tick with a good run")
	require.Equal(f, 1, f.length("q"), "runs queued")
}

func tickTaken(f *fixture) {
	arrived := f.receive(1, "q")
	f.pass(20 * time.Millisecond)
	want := fullRuns(f, "q")[0]
	start := time.Now()
	require.NoError(f, f.ticks().QueueTick(f.ctx(), want, midnight), "QueueTick")
	a := <-arrived
	require.NoError(f, a.err, "blocked take")
	f.requireSame(want, a.run, "a tick's run")
	require.Less(f, a.at.Sub(start), prompt, "time from the tick to the blocked take's return")
}

func tickBegun(f *fixture) {
	begin := func(since time.Time) time.Time {
		at, err := f.ticks().BeginTicks(f.ctx(), "q", theTask, since)
		require.NoError(f, err, "BeginTicks")
		return at
	}
	require.True(f, midnight.Equal(begin(midnight)), "the first BeginTicks returns its instant")
	require.True(f, midnight.Equal(begin(midnight.Add(time.Hour))), "a later one that of the first")
	f.requireLastTick("q", theTask, midnight)
	require.ErrorIs(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), midnight), broker.ErrDuplicate, "QueueTick of the begin")
	tick := midnight.Add(time.Minute)
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), tick), "QueueTick")
	require.True(f, tick.Equal(begin(midnight.Add(time.Hour))), "BeginTicks returns the last claimed tick")
	require.Equal(f, 1, f.length("q"), "runs queued")
}

func tickSurvey(f *fixture) {
	s, ok := f.b.(maintenance.TickSurveyor)
	if !ok {
		f.Skip("the broker is no maintenance.TickSurveyor")
	}
	tasks := map[string][]string{"q": {"a", "b", "never"}, "unused": {"a"}, "p": {"a"}, "none": nil}
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q", task("a")), midnight.Add(time.Hour)), "QueueTick of a")
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q", task("b")), midnight), "QueueTick of b")
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("p", task("a")), midnight.Add(1)), "QueueTick of another queue's a")
	surveysOf(f, "SurveyLastTicks", []string{"p", "unused", "q", "none"}, func(ctx context.Context, queues []string, part func(maintenance.Part[map[string]time.Time])) error {
		return s.SurveyLastTicks(ctx, queues, tasks, part)
	}, func(ctx context.Context, queue string) (map[string]time.Time, error) {
		ticks := map[string]time.Time{}
		for _, name := range tasks[queue] {
			last, err := f.ticks().LastTick(ctx, queue, name)
			if err != nil {
				return nil, err
			}
			ticks[name] = last
		}
		return ticks, nil
	})
}
