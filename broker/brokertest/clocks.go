package brokertest

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var clockChecks = []check{
	{"the clock is the one that delays go by", clockDelays},
	{"the clock is the one that schedules begin by", clockSchedules},
	{"a tick that is rewound, and those up to it, can be claimed again", rewound},
	{"a tick that is not the last one claimed is not rewound", rewindOther},
	{"ticks of tasks and queues are rewound apart", rewindApart},
	{"a rewind that is repeated undoes no claim made since", rewindRepeated},
	{"a schedule's tick is rewound, and not its task's", rewindSchedule},
	{"an ended context reads and rewinds nothing", clockEnded},
}

func (f *fixture) clock() broker.Clock { return f.b.(broker.Clock) }

func (f *fixture) now() time.Time {
	f.Helper()
	now, err := f.clock().Now(f.ctx())
	require.NoError(f, err, "Now")
	return now
}

func (f *fixture) rewind(queue, task, schedule string, from, to time.Time) {
	f.Helper()
	require.NoError(f, f.clock().RewindTicks(f.ctx(), queue, task, schedule, from, to), "RewindTicks of task %s", task)
}

// claim queues the tick of a task.
func (f *fixture) claim(queue, name string, tick time.Time) {
	f.Helper()
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun(queue, task(name)), tick), "QueueTick of task %s", name)
}

func clockDelays(f *fixture) {
	const wait = 200 * time.Millisecond
	start := f.now()
	f.queueNew("q", 1, delay(wait))
	f.get(1, "q")
	taken := f.now()
	require.GreaterOrEqual(f, taken.Sub(start), wait-slack, "time on the clock while a run was delayed")

	at := taken.Add(wait)
	f.queueNew("q", 1, due(at))
	f.get(1, "q")
	require.False(f, f.now().Before(at.Add(-slack)), "a run was taken before the clock was at its Due")
}

func clockSchedules(f *fixture) {
	if !is[broker.ScheduleStore](f.b) {
		f.Skip("the broker has no schedules made at run time")
	}
	before := f.now()
	since := f.put(f.newSchedule("q", "e", "@daily")).Since
	require.False(f, since.Before(before.Add(-slack)), "Since %v, before the clock was at %v", since, before)
	require.False(f, since.After(f.now().Add(slack)), "Since %v, after the clock", since)
}

func rewound(f *fixture) {
	ahead, now := midnight.Add(time.Hour), midnight.Add(1)
	f.claim("q", theTask, ahead)
	f.rewind("q", theTask, "", ahead, now)
	f.requireLastTick("q", theTask, now)
	for _, old := range []time.Time{midnight, now} {
		require.ErrorIs(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), old), broker.ErrDuplicate, "QueueTick up to where it was rewound")
	}
	f.claim("q", theTask, now.Add(1))
	f.claim("q", theTask, ahead)
	require.Equal(f, 3, f.length("q"), "runs queued: a rewind takes none back")

	begun, err := f.ticks().BeginTicks(f.ctx(), "q", "begun", ahead)
	require.NoError(f, err, "BeginTicks")
	f.rewind("q", "begun", "", begun, midnight)
	f.requireLastTick("q", "begun", midnight)
}

func rewindOther(f *fixture) {
	f.rewind("unused", theTask, "", midnight, midnight.Add(-time.Hour))
	f.requireLastTick("unused", theTask, time.Time{})
	f.claim("q", theTask, midnight)
	for _, from := range []time.Duration{1, -1, time.Hour, -time.Hour} {
		f.rewind("q", theTask, "", midnight.Add(from), midnight.Add(-2*time.Hour))
		f.requireLastTick("q", theTask, midnight)
	}
}

func rewindApart(f *fixture) {
	for _, queue := range []string{"p", "q"} {
		for _, name := range []string{"a", "b"} {
			f.claim(queue, name, midnight)
		}
	}
	to := midnight.Add(-time.Hour)
	f.rewind("q", "a", "", midnight, to)
	f.requireLastTick("q", "a", to)
	f.requireLastTick("q", "b", midnight)
	f.requireLastTick("p", "a", midnight)
	f.requireLastTick("p", "b", midnight)
}

func rewindRepeated(f *fixture) {
	const rounds, racers = 10, 8
	for i := range rounds {
		name := string(rune('a' + i))
		ahead, next := midnight.Add(time.Hour), midnight.Add(time.Minute)
		f.claim("q", name, ahead)
		f.rewind("q", name, "", ahead, midnight)
		var claimed atomic.Int32
		f.each(racers, func(n int) error {
			if n%2 == 0 {
				return f.clock().RewindTicks(f.ctx(), "q", name, "", ahead, midnight)
			}
			err := f.ticks().QueueTick(f.ctx(), f.newRun("q", task(name)), next)
			if err == nil {
				claimed.Add(1)
			} else if !errors.Is(err, broker.ErrDuplicate) {
				return err
			}
			return nil
		})
		require.EqualValues(f, 1, claimed.Load(), "schedulers that claimed the tick after a rewind")
		f.requireLastTick("q", name, next)
	}
}

func rewindSchedule(f *fixture) {
	if !is[broker.ScheduleStore](f.b) {
		f.Skip("the broker has no schedules made at run time")
	}
	e := f.put(f.newSchedule("q", theTask, "@every 1s"))
	other := f.put(f.newSchedule("q", "other", "@every 1s"))
	ahead, now := e.Since.Add(time.Hour), e.Since.Add(time.Second)
	require.NoError(f, f.queueScheduleTick(e, ahead), "QueueScheduleTick")
	require.NoError(f, f.queueScheduleTick(other, ahead), "QueueScheduleTick of another")
	f.claim("q", theTask, ahead)
	last := func() map[string]time.Time {
		at := make(map[string]time.Time)
		for _, got := range f.storedSchedules("q") {
			at[got.ID] = got.Last
		}
		return at
	}
	f.rewind("q", theTask, theTask, ahead.Add(1), now)
	require.True(f, ahead.Equal(last()[theTask]), "Last after a rewind of another tick")
	f.rewind("q", theTask, theTask, ahead, now)
	require.True(f, now.Equal(last()[theTask]), "Last of the schedule that was rewound: got %v, want %v", last()[theTask], now)
	require.True(f, ahead.Equal(last()["other"]), "Last of another schedule of the task")
	f.requireLastTick("q", theTask, ahead)
	require.ErrorIs(f, f.queueScheduleTick(e, now), broker.ErrDuplicate, "QueueScheduleTick of where it was rewound to")
	require.NoError(f, f.queueScheduleTick(e, now.Add(time.Second)), "QueueScheduleTick of the next tick")

	f.rewind("q", theTask, "", ahead, now)
	f.requireLastTick("q", theTask, now)
	require.True(f, now.Add(time.Second).Equal(last()[theTask]), "Last of a schedule when its task was rewound")
}

func clockEnded(f *fixture) {
	f.claim("q", theTask, midnight)
	ctx := f.ended()
	_, err := f.clock().Now(ctx)
	require.Error(f, err, "Now with an ended context")
	require.Error(f, f.clock().RewindTicks(ctx, "q", theTask, "", midnight, midnight.Add(-time.Hour)), "RewindTicks with an ended context")
	f.requireLastTick("q", theTask, midnight)
}
