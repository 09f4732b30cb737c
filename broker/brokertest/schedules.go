package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

var scheduleChecks = []check{
	{"a schedule is read as it was put", scheduleRead},
	{"a schedule put again is changed, and begins anew only with another rule", scheduleChanged},
	{"schedules of queues are apart, and all can be asked for", scheduleQueues},
	{"a schedule's id is not another task's", scheduleOfAnother},
	{"a deleted schedule is gone, with its ticks", scheduleDeleted},
	{"changes are told by a number for each queue", scheduleChanges},
	{"a schedule's tick is claimed once among many schedulers", scheduleTickOnce},
	{"no tick of a schedule is queued that was changed or deleted since", scheduleTickStale},
	{"a schedule that cannot be stored is refused", scheduleRefused},
	{"many schedules are all read", scheduleMany},
}

func (f *fixture) schedules() broker.ScheduleStore { return f.b.(broker.ScheduleStore) }

// newSchedule makes a schedule that is not yet stored.
func (f *fixture) newSchedule(queue, id, spec string, edits ...func(*broker.TaskRun)) *broker.Schedule {
	run := f.newRun(queue, edits...)
	run.ID = id
	return &broker.Schedule{ID: id, Spec: spec, Run: run}
}

func (f *fixture) put(e *broker.Schedule) *broker.Schedule {
	f.Helper()
	require.NoError(f, f.schedules().PutSchedule(f.ctx(), e), "PutSchedule of %s", e.ID)
	return e
}

func (f *fixture) storedSchedules(queues ...string) []*broker.Schedule {
	f.Helper()
	list, err := f.schedules().Schedules(f.ctx(), queues...)
	require.NoError(f, err, "Schedules of %v", queues)
	return list
}

// queueScheduleTick queues the tick of a schedule at an instant.
func (f *fixture) queueScheduleTick(e *broker.Schedule, tick time.Time) error {
	run := *e.Run
	run.ID = fmt.Sprintf("%s@%d", e.ID, tick.UnixNano())
	return f.schedules().QueueScheduleTick(f.ctx(), e, &run, tick)
}

func scheduleRead(f *fixture) {
	start := time.Now()
	e := f.newSchedule("q", "report-42", "0 9 * * 1", keep(time.Hour), priority(broker.High), kind(broker.CPU))
	e.Zone, e.Run.Payload = "Europe/Rome", []byte("\x81\xa1a\x01")
	f.put(e)
	list := f.storedSchedules("q")
	require.Len(f, list, 1, "Schedules")
	got := list[0]
	require.Equal(f, []string{"report-42", "0 9 * * 1", "Europe/Rome"}, []string{got.ID, got.Spec, got.Zone})
	want := *e.Run
	f.requireSame(&want, got.Run, "the run of a schedule")
	require.WithinDuration(f, start, got.Since, prompt, "Since")
	require.True(f, got.Last.IsZero(), "Last before any tick: got %v", got.Last)
	require.Equal(f, e.Revision, got.Revision, "Revision as PutSchedule set it")
	require.True(f, e.Since.Equal(got.Since), "Since as PutSchedule set it: %v, %v", e.Since, got.Since)

	tick := got.Since.Add(time.Hour)
	require.NoError(f, f.queueScheduleTick(got, tick), "QueueScheduleTick")
	require.True(f, tick.Equal(f.storedSchedules("q")[0].Last), "Last after a tick")
	require.Equal(f, 1, f.length("q"), "runs queued")
}

func scheduleChanged(f *fixture) {
	first := f.put(f.newSchedule("q", "e", "@daily"))
	tick := first.Since.Add(time.Hour)
	require.NoError(f, f.queueScheduleTick(first, tick), "QueueScheduleTick")
	f.pass(20 * time.Millisecond)
	again := f.newSchedule("q", "e", "@daily")
	again.Run.Payload = []byte("\x81\xa1b\x02")
	f.put(again)
	require.NotEqual(f, first.Revision, again.Revision, "the Revision of one put again")
	require.True(f, first.Since.Equal(again.Since), "Since of one with the same rule: %v, %v", first.Since, again.Since)
	f.pass(20 * time.Millisecond)
	other := f.put(f.newSchedule("q", "e", "@weekly"))
	require.True(f, other.Since.After(first.Since), "Since of one with another rule: %v, %v", first.Since, other.Since)
	f.pass(20 * time.Millisecond)
	zoned := f.newSchedule("q", "e", "@weekly")
	zoned.Zone = "Europe/Rome"
	require.True(f, f.put(zoned).Since.After(other.Since), "Since of one in another zone")
	list := f.storedSchedules("q")
	require.Len(f, list, 1)
	require.True(f, tick.Equal(list[0].Last), "the last tick stays claimed")
	require.ErrorIs(f, f.queueScheduleTick(list[0], tick), broker.ErrDuplicate, "the tick of before")
}

func scheduleQueues(f *fixture) {
	require.Empty(f, f.storedSchedules(), "Schedules of a new broker")
	for _, queue := range []string{"b", "a"} {
		for _, id := range []string{"2", "1"} {
			f.put(f.newSchedule(queue, id, "@daily"))
		}
	}
	names := func(list []*broker.Schedule) string {
		var s []string
		for _, e := range list {
			s = append(s, e.Run.Queue+e.ID)
		}
		return strings.Join(s, " ")
	}
	require.Equal(f, "a1 a2 b1 b2", names(f.storedSchedules()), "Schedules of all queues")
	require.Equal(f, "b1 b2", names(f.storedSchedules("b")))
	require.Equal(f, "", names(f.storedSchedules("c")))
}

func scheduleOfAnother(f *fixture) {
	f.put(f.newSchedule("q", "e", "@daily", task("a")))
	err := f.schedules().PutSchedule(f.ctx(), f.newSchedule("q", "e", "@hourly", task("b")))
	require.ErrorIs(f, err, broker.ErrDuplicate, "PutSchedule with the id of another task's")
	require.Equal(f, "@daily", f.storedSchedules("q")[0].Spec)
}

func scheduleDeleted(f *fixture) {
	require.ErrorIs(f, f.schedules().DeleteSchedule(f.ctx(), "q", "e"), broker.ErrNoSchedule, "DeleteSchedule of none")
	e := f.put(f.newSchedule("q", "e", "@daily"))
	tick := e.Since.Add(time.Hour)
	require.NoError(f, f.queueScheduleTick(e, tick), "QueueScheduleTick")
	require.NoError(f, f.schedules().DeleteSchedule(f.ctx(), "q", "e"), "DeleteSchedule")
	require.ErrorIs(f, f.schedules().DeleteSchedule(f.ctx(), "q", "e"), broker.ErrNoSchedule, "DeleteSchedule again")
	require.Empty(f, f.storedSchedules("q"))
	f.put(f.newSchedule("q", "e", "@daily"))
	require.True(f, f.storedSchedules("q")[0].Last.IsZero(), "Last of a new one with the id of a deleted one")
}

func scheduleChanges(f *fixture) {
	ask := func() map[string]int64 {
		f.Helper()
		n, err := f.schedules().ScheduleChanges(f.ctx())
		require.NoError(f, err, "ScheduleChanges")
		return n
	}
	require.Empty(f, ask(), "ScheduleChanges of a new broker")
	f.put(f.newSchedule("other", "e", "@daily"))
	e := f.put(f.newSchedule("q", "e", "@daily"))
	deadline := time.Now().Add(patience)
	for ask()["q"] == 0 {
		require.True(f, time.Now().Before(deadline), "a queue's first schedule is not in ScheduleChanges")
		f.pass(20 * time.Millisecond)
	}
	last := ask()
	changed := func(what string) {
		f.Helper()
		now := ask()
		require.NotEqual(f, last["q"], now["q"], what)
		require.Equal(f, last["other"], now["other"], "the number of another queue after: %s", what)
		last = now
	}
	f.put(f.newSchedule("q", "e", "@daily"))
	changed("a schedule was put again")
	require.ErrorIs(f, f.queueScheduleTick(e, e.Since.Add(time.Hour)), broker.ErrNoSchedule)
	require.Equal(f, last, ask(), "a tick is no change")
	require.NoError(f, f.schedules().DeleteSchedule(f.ctx(), "q", "e"))
	changed("it was deleted")
	f.put(f.newSchedule("q", "e", "@daily"))
	changed("it was put anew")
}

func scheduleTickOnce(f *fixture) {
	const ticks, racers = 10, 16
	e := f.put(f.newSchedule("q", theTask, "@every 1s"))
	for i := range ticks {
		tick := e.Since.Add(time.Duration(i+1) * time.Second)
		var claimed atomic.Int32
		f.each(racers, func(int) error {
			err := f.queueScheduleTick(e, tick)
			if err == nil {
				claimed.Add(1)
			} else if !errors.Is(err, broker.ErrDuplicate) {
				return err
			}
			return nil
		})
		require.EqualValues(f, 1, claimed.Load(), "schedulers of %d that claimed the tick %v", racers, tick)
	}
	require.Equal(f, ticks, f.length("q"), "runs queued for %d ticks", ticks)
	f.requireLastTick("q", theTask, time.Time{}) // the task of that name has ticks of its own
}

func scheduleTickStale(f *fixture) {
	old := f.put(f.newSchedule("q", "e", "@every 1s"))
	tick := old.Since.Add(time.Hour)
	now := f.put(f.newSchedule("q", "e", "@every 2s"))
	require.ErrorIs(f, f.queueScheduleTick(old, tick), broker.ErrNoSchedule, "QueueScheduleTick of one that was changed")
	require.NoError(f, f.queueScheduleTick(now, tick), "QueueScheduleTick of the changed one")
	require.NoError(f, f.schedules().DeleteSchedule(f.ctx(), "q", "e"))
	require.ErrorIs(f, f.queueScheduleTick(now, tick.Add(time.Hour)), broker.ErrNoSchedule, "QueueScheduleTick of one that was deleted")
	anew := f.put(f.newSchedule("q", "e", "@every 2s"))
	require.ErrorIs(f, f.queueScheduleTick(now, tick.Add(time.Hour)), broker.ErrNoSchedule, "QueueScheduleTick of one that was deleted and put anew")
	require.NoError(f, f.queueScheduleTick(anew, tick), "QueueScheduleTick of the new one")
	require.Equal(f, 2, f.length("q"), "runs queued")
}

func scheduleRefused(f *fixture) {
	for what, edit := range map[string]func(*broker.Schedule){
		"no rule":          func(e *broker.Schedule) { e.Spec = "" },
		"a long rule":      func(e *broker.Schedule) { e.Spec = strings.Repeat("x", broker.MaxSpec+1) },
		"a long zone":      func(e *broker.Schedule) { e.Zone = strings.Repeat("x", broker.MaxName+1) },
		"no run":           func(e *broker.Schedule) { e.Run = nil },
		"another id":       func(e *broker.Schedule) { e.Run.ID = "f" },
		"an unsafe id":     func(e *broker.Schedule) { e.ID, e.Run.ID = "a b", "a b" },
		"a long id":        func(e *broker.Schedule) { e.ID = strings.Repeat("x", broker.MaxScheduleID+1); e.Run.ID = e.ID },
		"an unsafe queue":  func(e *broker.Schedule) { e.Run.Queue = "\x00" },
		"a negative delay": func(e *broker.Schedule) { e.Run.Delay = -1 },
	} {
		e := f.newSchedule("q", "e", "@daily")
		edit(e)
		require.Error(f, f.schedules().PutSchedule(f.ctx(), e), "PutSchedule with %s", what)
	}
	require.Empty(f, f.storedSchedules())
}

func scheduleMany(f *fixture) {
	const n = 2500
	f.each(50, func(i int) error {
		for k := i; k < n; k += 50 {
			if err := f.schedules().PutSchedule(f.ctx(), f.newSchedule("q", fmt.Sprintf("schedule-%04d", k), "@daily")); err != nil {
				return err
			}
		}
		return nil
	})
	list := f.storedSchedules("q")
	require.Len(f, list, n)
	for i, e := range list {
		require.Equal(f, fmt.Sprintf("schedule-%04d", i), e.ID)
		require.Equal(f, e.ID, e.Run.ID)
	}
}

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
