package brokertest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

var controlChecks = []check{
	{"a paused queue hands nothing out until it is resumed", pauseHolds},
	{"resuming a queue wakes a blocked Take", resumeWakes},
	{"what was taken before a pause goes on", pauseLetsFinish},
	{"runs of a disabled task wait in their order and hold up no others", disableHolds},
	{"enabling a task wakes a blocked Take", enableWakes},
	{"a tick of a disabled task is neither claimed nor queued", disabledTick},
	{"Queue counts what waits, is delayed, held and dead", queueCounts},
	{"Runs lists the runs in each state", runsListed},
	{"Runs says when runs were queued, started and ended, and what was tried", runTimes},
	{"Runs lists running runs by session, in the order taken", runningInOrder},
	{"Runs refuses a state there is not, whatever is in the queue", unknownStateRefused},
	{"a survey finds in each queue what a call for it does", surveysAgree},
}

func (f *fixture) pause(queue string, paused bool) {
	f.Helper()
	require.NoError(f, f.controls().Pause(f.ctx(), queue, paused), "Pause of %s: %v", queue, paused)
}

func (f *fixture) disable(queue, task string, disabled bool) {
	f.Helper()
	require.NoError(f, f.controls().Disable(f.ctx(), queue, task, disabled), "Disable of %s: %v", task, disabled)
}

func (f *fixture) queueInfo(queue string) broker.QueueInfo {
	f.Helper()
	info, err := f.controls().Queue(f.ctx(), queue)
	require.NoError(f, err, "Queue")
	require.Equal(f, queue, info.Queue, "name of the queue")
	return *info
}

func pauseHolds(f *fixture) {
	s := f.openSession(longHold)
	first := f.queueNew("q", 2)
	f.pause("q", true)
	f.pause("q", true)
	require.True(f, f.queueInfo("q").Paused, "Paused of a queue that is")
	later := f.queueNew("q", 1, delay(quiet/3))
	f.queueNew("other", 1)
	f.take(s, 1, "q", "other")
	f.takesNothing(s, "q", "other")
	f.nothing("q")
	require.Equal(f, 3, f.length("q"), "length of a paused queue")
	info := f.queueInfo("q")
	require.EqualValues(f, 3, info.Queued, "runs of a paused queue that are due")
	f.pause("q", false)
	require.False(f, f.queueInfo("q").Paused, "Paused of a queue that was resumed")
	require.Equal(f, ids(append(first, later...)), ids(f.take(s, 3, "q")), "runs after the queue was resumed")
}

func resumeWakes(f *fixture) {
	f.pause("q", true)
	runs := f.queueNew("q", 2)
	one := f.receiveLeased(f.openSession(longHold), "q")
	two := f.receive(1, "other", "q")
	f.pass(quiet)
	require.Empty(f, one, "runs taken of a paused queue")
	require.Empty(f, two, "runs taken for good of a paused queue")
	start := time.Now()
	f.pause("q", false)
	a, b := <-one, <-two
	require.NoError(f, a.err, "a blocked Take of a queue that was resumed")
	require.NoError(f, b.err, "a blocked GetTaskRuns of a queue that was resumed")
	require.ElementsMatch(f, ids(runs), ids([]*broker.TaskRun{a.run, b.run}), "runs taken")
	require.Less(f, a.at.Sub(start), prompt, "time from the resumption to the Take's return")
	require.Less(f, b.at.Sub(start), prompt, "time from the resumption to the return of GetTaskRuns")
}

func pauseLetsFinish(f *fixture) {
	s, runs := f.hold(3)
	f.pause("q", true)
	require.NoError(f, s.Renew(f.ctx()), "Renew while the queue is paused")
	f.finish(s, succeeded(runs[0])...)
	f.finish(s, retried(runs[1], 0))
	f.close(s)
	f.takesNothing(f.openSession(longHold), "q")
	require.Equal(f, 2, f.length("q"), "length after a retry and giving back")
}

func disableHolds(f *fixture) {
	var runs []*broker.TaskRun
	for i := range 12 {
		r := f.newRun("q", func(r *broker.TaskRun) { r.ID, r.Task = fmt.Sprint("on", i), "on" })
		if i%2 == 0 {
			r.ID, r.Task = fmt.Sprint("off", i), "off"
		}
		runs = append(runs, r)
	}
	f.queue(runs[:8]...)
	f.disable("q", "off", true)
	f.disable("q", "off", true)
	f.disable("other", "on", true)
	f.queue(runs[8:10]...)
	s := f.openSession(longHold)
	require.Equal(f, "on1 on3 on5 on7 on9", strings.Join(ids(f.take(s, 5, "q")), " "), "runs with a task disabled")
	f.takesNothing(s, "q")
	f.nothing("q")
	require.Equal(f, 5, f.length("q"), "length with only runs of a disabled task")
	require.Equal(f, []string{"off"}, f.queueInfo("q").Disabled, "disabled tasks")
	require.EqualValues(f, 5, f.queueInfo("q").Queued, "runs of a disabled task that are due")

	f.queue(runs[10:]...)
	f.disable("q", "off", false)
	require.Empty(f, f.queueInfo("q").Disabled, "disabled tasks")
	var off []string
	for _, r := range f.take(s, 7, "q") {
		if r.Task == "off" {
			off = append(off, r.ID)
		}
	}
	require.Equal(f, "off0 off2 off4 off6 off8 off10", strings.Join(off, " "), "runs of a task that was enabled")
}

func enableWakes(f *fixture) {
	f.disable("q", theTask, true)
	run := f.queueOne("q")
	arrived := f.receiveLeased(f.openSession(longHold), "q")
	f.pass(quiet)
	require.Empty(f, arrived, "runs taken of a disabled task")
	start := time.Now()
	f.disable("q", theTask, false)
	f.requireArrival(arrived, run, start)
}

func disabledTick(f *fixture) {
	if !is[broker.Ticks](f.b) {
		f.Skip("the broker has no schedules")
	}
	f.disable("q", theTask, true)
	require.ErrorIs(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), midnight), broker.ErrDisabled, "QueueTick of a disabled task")
	f.requireLastTick("q", theTask, time.Time{})
	require.Zero(f, f.length("q"), "length after a tick of a disabled task")
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q", task("other")), midnight), "QueueTick of another task")
	f.disable("q", theTask, false)
	require.NoError(f, f.ticks().QueueTick(f.ctx(), f.newRun("q"), midnight), "QueueTick of a task that was enabled")
	require.Equal(f, 2, f.length("q"), "length after two ticks")
}

func queueCounts(f *fixture) {
	none := f.queueInfo("unused")
	none.Last = nil
	require.Empty(f, none.Disabled, "disabled tasks of a queue never used")
	none.Disabled = nil
	require.Equal(f, broker.QueueInfo{Queue: "unused"}, none, "a queue never used")

	s := f.openSession(longHold)
	f.queueNew("q", 6)
	runs := f.take(s, 5, "q")
	f.queueNew("q", 2, delay(time.Hour))
	f.queueNew("q", 1, delay(1))
	f.finish(s, succeeded(runs[0])...)
	f.finish(s, died(runs[1]))
	f.finish(s, retried(runs[2], time.Hour))
	f.disable("q", "b", true)
	f.disable("q", "a", true)
	f.pass(2 * time.Millisecond)
	got := f.queueInfo("q")
	require.Contains(f, []int64{0, 1}, got.DelayedDue, "of those that are due, one was delayed, and can have been moved")
	got.Last, got.Oldest, got.DelayedDue = nil, time.Time{}, 0
	require.Equal(f, broker.QueueInfo{
		Queue: "q", Disabled: []string{"a", "b"}, Queued: 2, Delayed: 3, Running: 2, Dead: 1,
	}, got, "what Queue tells")
}

func (f *fixture) list(state broker.State, most int) []*broker.RunInfo {
	f.Helper()
	list, err := f.controls().Runs(f.ctx(), "q", state, most)
	require.NoError(f, err, "Runs that are %s", state)
	require.LessOrEqual(f, len(list), most, "Runs that are %s", state)
	for _, info := range list {
		require.NotNil(f, info.Run, "run of a list")
		require.Equal(f, state, info.State, "state of run %s in the list of those %s", info.Run.ID, state)
	}
	return list
}

func infoIDs(list []*broker.RunInfo) []string {
	var got []string
	for _, info := range list {
		got = append(got, info.Run.ID)
	}
	return got
}

func runsListed(f *fixture) {
	for _, state := range []broker.State{
		broker.StateQueued, broker.StateDelayed, broker.StateRunning, broker.StateSucceeded, broker.StateFailed, broker.StateCancelled,
	} {
		require.Empty(f, f.list(state, aLot), "runs %s of a queue never used", state)
	}
	s, held := f.hold(4, keep(time.Hour), task("kept"))
	held[0].Attempt, held[1].Attempt, held[2].Attempt = 1, 2, 3
	f.finish(s, broker.Outcome{Run: held[0], Verdict: broker.Succeeded})
	f.finish(s, died(held[1]))
	f.finish(s, dropped(held[2]))
	low := f.queueNew("q", 2, priority(broker.Low))
	high := f.queueNew("q", 2, priority(broker.High), kind(broker.CPU))
	start := time.Now()
	late := f.queueNew("q", 1, delay(2*time.Hour))
	soon := f.queueNew("q", 1, due(start.Add(time.Hour)))

	queued := f.list(broker.StateQueued, aLot)
	require.Equal(f, ids(append(high, low...)), infoIDs(queued), "runs that are queued")
	f.requireSame(high[0], queued[0].Run, "a run that is listed")
	require.Len(f, f.list(broker.StateQueued, 3), 3, "at most 3 runs that are queued")
	delayed := f.list(broker.StateDelayed, aLot)
	require.Equal(f, ids(append(soon, late...)), infoIDs(delayed), "runs that are delayed")
	require.WithinDuration(f, start.Add(time.Hour), delayed[0].Due, time.Minute, "when a run with Due is")
	require.WithinDuration(f, start.Add(2*time.Hour), delayed[1].Due, time.Minute, "when a run with Delay is due")
	require.Equal(f, ids(soon), infoIDs(f.list(broker.StateDelayed, 1)), "the run due next")
	running := f.list(broker.StateRunning, aLot)
	require.Equal(f, ids(held[3:]), infoIDs(running), "runs that are held")
	require.Equal(f, s.ID(), running[0].Session, "session that holds a run")

	ended := append(f.list(broker.StateSucceeded, aLot), f.list(broker.StateFailed, aLot)...)
	slices.SortFunc(ended, func(a, b *broker.RunInfo) int { return a.Run.Attempt - b.Run.Attempt })
	require.Equal(f, ids(held[:3]), infoIDs(ended), "runs that have ended, by their attempts")
	require.Equal(f, []string{"kept", "q"}, []string{ended[1].Run.Task, ended[1].Run.Queue}, "task and queue of a run that has ended")
	require.Nil(f, ended[0].Failure, "failure of a success")
	require.Equal(f, failure("bad").Message, ended[1].Failure.Message, "failure of a dead run")

	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	_, err := f.controls().Runs(ctx, "q", broker.StateQueued, 1)
	require.ErrorIs(f, err, context.Canceled, "Runs with an ended context")
}

func runTimes(f *fixture) {
	f.needsTimes()
	s, held := f.hold(4, keep(time.Hour))
	queuedAt := map[string]time.Time{}
	for _, r := range held {
		queuedAt[r.ID] = r.QueuedAt
		attempt(r, "tried")
	}
	start := time.Now()
	f.finish(s, broker.Outcome{Run: held[0], Verdict: broker.Succeeded}, died(held[1]), retried(held[2], time.Hour),
		broker.Outcome{Run: held[3], Verdict: broker.Dropped, Failure: &cancelled})
	for i, state := range []broker.State{broker.StateSucceeded, broker.StateFailed, broker.StateDelayed, broker.StateCancelled} {
		listed := f.list(state, aLot)
		require.Len(f, listed, 1, "runs that are %s", state)
		info, want := listed[0], held[i].History.Attempts
		require.True(f, queuedAt[info.Run.ID].Equal(info.Run.QueuedAt), "when a run that is %s was queued: %v", state, info.Run.QueuedAt)
		require.Equal(f, want, info.Run.History.OrZero().Attempts, "attempts of a run that is %s", state)
		require.WithinDuration(f, want[0].Started, info.Started, slack, "when a run that is %s was started last", state)
		if state.Ended() {
			f.requireBetween(start, info.Ended, "when a run ended")
		} else {
			require.Zero(f, info.Ended, "when a run that has not ended did")
		}
	}
	f.queueNew("q", 1, keep(time.Hour))
	require.Zero(f, f.list(broker.StateQueued, 1)[0].Started, "when a run was started that never was")
	start = time.Now()
	f.takeOne(s, "q")
	f.pass(quiet) // some brokers note what goes on for longer
	f.requireBetween(start, f.list(broker.StateRunning, 1)[0].Started, "when a run was taken that goes on")
}

func runningInOrder(f *fixture) {
	const sessions, takes = 4, 12 // more than nine: their numbers do not sort as text
	var opened []broker.Session
	taken := map[string][]string{} // ids by session
	for range sessions {
		opened = append(opened, f.openSession(longHold))
	}
	for range takes {
		for _, s := range opened {
			f.queueNew("q", 2)
			taken[s.ID()] = append(taken[s.ID()], ids(f.take(s, 2, "q"))...)
		}
	}
	slices.SortFunc(opened, func(a, b broker.Session) int { return strings.Compare(a.ID(), b.ID()) })
	var want []string
	for _, s := range opened {
		want = append(want, taken[s.ID()]...)
	}
	require.Equal(f, want, infoIDs(f.list(broker.StateRunning, aLot)), "runs that are held")
	require.Equal(f, want[:5], infoIDs(f.list(broker.StateRunning, 5)), "the first runs that are held")
}

func unknownStateRefused(f *fixture) {
	f.queueNew("q", 1)
	for _, queue := range []string{"q", "unused"} {
		for _, most := range []int{0, 1} {
			_, err := f.controls().Runs(f.ctx(), queue, "odd", most)
			require.Error(f, err, "Runs of queue %s in a state there is not, up to %d", queue, most)
		}
	}
}

func surveysAgree(f *fixture) {
	s, ok := f.b.(maintenance.Surveyor)
	if !ok {
		f.Skip("the broker is no maintenance.Surveyor")
	}
	const last = "ended"
	queues := []string{"waits", "empty", "delayed", "held", "paused", last}
	f.queueNew("waits", 3, priority(broker.High))
	f.queueNew("waits", 2, kind(broker.CPU))
	f.queueNew("delayed", 2, delay(time.Hour), keep(time.Hour))
	session := f.openSession(longHold)
	f.queueNew("held", 2)
	f.take(session, 2, "held")
	f.pause("paused", true)
	f.disable("paused", theTask, true)
	f.queueNew(last, 5, keep(time.Hour))
	ended := f.take(session, 5, last)
	f.finish(session, broker.Outcome{Run: ended[0]}, broker.Outcome{Run: ended[1]},
		broker.Outcome{Run: ended[2], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed, Message: "no"}})
	surveysOf(f, "SurveyQueues", queues, s.SurveyQueues, f.controls().Queue)
	for _, state := range []broker.State{broker.StateRunning, broker.StateQueued, broker.StateDelayed, broker.StateFailed, broker.StateSucceeded} {
		surveysOf(f, "SurveyRuns of "+string(state), queues, func(ctx context.Context, queues []string, part func(maintenance.Part[[]*broker.RunInfo])) error {
			return s.SurveyRuns(ctx, queues, state, aLot, nil, func(p maintenance.Part[[]*broker.RunInfo]) {
				p.Found = withoutStart(p.Found)
				part(p)
			})
		}, func(ctx context.Context, queue string) ([]*broker.RunInfo, error) {
			runs, err := f.controls().Runs(ctx, queue, state, aLot)
			return withoutStart(runs), err
		})
	}
	surveysOf(f, "SurveyRecords", queues, func(ctx context.Context, queues []string, part func(maintenance.Part[*broker.Record])) error {
		return s.SurveyRecords(ctx, queues, ended[0].ID, part)
	}, func(ctx context.Context, queue string) (*broker.Record, error) {
		record, err := f.records().Record(ctx, queue, ended[0].ID)
		if errors.Is(err, broker.ErrNoRecord) {
			err = nil
		}
		return record, err
	})
	surveysOf(f, "SurveyDeadLetters", queues, s.SurveyDeadLetters, func(ctx context.Context, queue string) ([]*broker.DeadLetter, error) {
		return f.records().DeadLetters(ctx, queue, aLot)
	})

	var some []*broker.RunInfo
	want := func(i *broker.RunInfo) bool { return i.Run.ID != ended[0].ID }
	require.NoError(f, s.SurveyRuns(f.ctx(), queues, broker.StateSucceeded, 1, want, func(part maintenance.Part[[]*broker.RunInfo]) {
		some = append(some, part.Found...)
	}), "SurveyRuns")
	require.Len(f, some, 1, "runs of which one is wanted")
	require.Equal(f, ended[1].ID, some[0].Run.ID, "the run that is wanted")
	ctx, cancel := context.WithCancel(f.ctx())
	cancel()
	require.ErrorIs(f, s.SurveyQueues(ctx, queues, func(maintenance.Part[*broker.QueueInfo]) {}), context.Canceled, "a survey whose ctx has ended")
}

// withoutStart leaves out when running runs began: a broker may store that a little later, and
// between two looks.
func withoutStart(runs []*broker.RunInfo) []*broker.RunInfo {
	for _, info := range runs {
		if info.State == broker.StateRunning {
			info.Started = time.Time{}
		}
	}
	return runs
}

// surveysOf compares what a survey finds with what the call for one queue does. A broker may
// leave a queue to that.
func surveysOf[T any](f *fixture, what string, queues []string,
	survey func(context.Context, []string, func(maintenance.Part[T])) error, one func(context.Context, string) (T, error),
) {
	f.Helper()
	calls, apart := map[int]int{}, 0
	err := survey(f.ctx(), queues, func(part maintenance.Part[T]) {
		calls[part.Queue]++
		require.NoError(f, part.Err, "%s in %s", what, queues[part.Queue])
		if part.Apart {
			apart++
			return
		}
		want, err := one(f.ctx(), queues[part.Queue])
		require.NoError(f, err, "the call for queue %s", queues[part.Queue])
		if reflect.TypeFor[T]().Kind() == reflect.Slice {
			require.ElementsMatch(f, want, part.Found, "%s in %s", what, queues[part.Queue])
		} else {
			require.Equal(f, want, part.Found, "%s in %s", what, queues[part.Queue])
		}
		require.True(f, part.All, "%s in %s is all", what, queues[part.Queue])
	})
	require.NoError(f, err, what)
	require.Len(f, calls, len(queues), "%s: queues that were told of", what)
	for i, n := range calls {
		require.Equal(f, 1, n, "%s: times that %s was told of", what, queues[i])
	}
	require.Less(f, apart, len(queues), "%s leaves all queues to others", what)
}
