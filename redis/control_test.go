package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// runOf is a run of a task.
func runOf(task, id, queue string) *broker.TaskRun {
	r := run(id, queue)
	r.Task = task
	return r
}

// takesNothing checks that a session gets nothing for a moment.
func takesNothing(t *testing.T, s broker.Session, queues ...string) {
	t.Helper()
	got, err := s.Take(within(t, 200*time.Millisecond), broker.Want{Queues: queues, IO: 10, CPU: 10})
	require.ErrorIs(t, err, context.DeadlineExceeded, "taken: %v", ids(got))
}

func queueInfo(t *testing.T, b *redis.Broker, queue string) *broker.QueueInfo {
	t.Helper()
	info, err := b.Queue(t.Context(), queue)
	require.NoError(t, err)
	return info
}

// TestPausedQueueHandsNothingOut has takes meet the pause and wait without a spin. The end
// of the pause wakes them, and meanwhile a run becomes due.
func TestPausedQueueHandsNothingOut(t *testing.T) {
	t.Parallel()
	for _, queues := range [][]string{{"q"}, {"q", "other"}} {
		t.Run(fmt.Sprintf("%d queues", len(queues)), func(t *testing.T) {
			server := redistest.Start(t)
			b, client := open(t, server, redis.Config{}), raw(t, server)
			require.NoError(t, b.Pause(t.Context(), "q", true))
			require.NoError(t, b.Pause(t.Context(), "q", true), "again")
			soon := run("soon", "q")
			soon.Delay = 20 * time.Millisecond
			require.NoError(t, b.QueueTasks(t.Context(), run("now", "q")))
			require.NoError(t, b.QueueTasks(t.Context(), soon))
			before := commands(t, client)
			takesNothing(t, join(t, b, time.Minute), queues...)
			require.Less(t, commands(t, client)-before, 60, "commands of a take that waits")
			info := queueInfo(t, b, "q")
			require.True(t, info.Paused)
			require.EqualValues(t, 2, info.Queued, "the one that became due included")
			require.Zero(t, info.Delayed)

			s, woken := join(t, b, time.Minute), make(chan []string, 1)
			go func() {
				got, _ := s.Take(within(t, 10*time.Second), broker.Want{Queues: queues, IO: 10})
				woken <- ids(got)
			}()
			awaitBlocked(t, client, 1)
			require.NoError(t, b.Pause(t.Context(), "q", false))
			require.Equal(t, []string{"now", "soon"}, <-woken)
			require.False(t, queueInfo(t, b, "q").Paused)
		})
	}
}

// TestPausedQueueReturnsWhatWasTaken loses the reply to a take, and pauses.
func TestPausedQueueReturnsWhatWasTaken(t *testing.T) {
	b, l := openLossy(t, shared)
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	takeAll(t, s, "q", 1) // the server knows the script now
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 3)...))
	l.lose(100, "evalsha")
	_, err := s.Take(within(t, 300*time.Millisecond), broker.Want{Queues: []string{"q"}, IO: 10})
	require.Error(t, err)
	l.lose(0, "none")
	require.NoError(t, b.Pause(t.Context(), "q", true))
	got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 10})
	require.NoError(t, err)
	require.Len(t, got, 3)
}

// TestDisabledTaskWaitsInItsOrder has runs of three tasks of both kinds and all
// priorities, more than one take reads.
func TestDisabledTaskWaitsInItsOrder(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const each = 2500
	var list []*broker.TaskRun
	for i := range each {
		for _, task := range []string{"on", "off", "other"} {
			r := runOf(task, fmt.Sprintf("%s-%d", task, i), "q")
			r.Kind, r.Priority = broker.Kind(i%2), broker.Priority(i%3-1)
			list = append(list, r)
		}
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	for _, task := range []string{"off", "other"} {
		require.NoError(t, b.Disable(t.Context(), "q", task, true))
	}
	require.Equal(t, []string{"off", "other"}, queueInfo(t, b, "q").Disabled)
	s := join(t, b, time.Minute)
	for _, r := range takeAll(t, s, "q", each) {
		require.Equal(t, "on", r.Task)
	}
	takesNothing(t, s, "q")
	require.Equal(t, 2*each, length(t, b, "q"))
	require.EqualValues(t, 2*each, queueInfo(t, b, "q").Queued)

	require.NoError(t, b.QueueTasks(t.Context(), runOf("off", fmt.Sprintf("off-%d", each), "q")), "of a disabled task")
	takesNothing(t, s, "q")
	for _, task := range []string{"off", "other"} {
		require.NoError(t, b.Disable(t.Context(), "q", task, false))
	}
	last := map[string]int{}
	for _, r := range takeAll(t, s, "q", 2*each+1) {
		var i int
		_, err := fmt.Sscanf(r.ID, r.Task+"-%d", &i)
		require.NoError(t, err)
		line := fmt.Sprint(r.Task, r.Kind, r.Priority)
		require.GreaterOrEqual(t, i, last[line], "taken before a run that was queued before it, of %s", line)
		last[line] = i
	}
	require.Empty(t, queueInfo(t, b, "q").Disabled)
}

// TestDisabledTaskOfAnotherWriter has envelopes as others may write them: with
// the task not first, with many keys, with a long name.
func TestDisabledTaskOfAnotherWriter(t *testing.T) {
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	long := strings.Repeat("l", broker.MaxName)
	many := runOf(long, "many", "q")
	many.Kind, many.Priority, many.QueuedAt, many.Expire = broker.CPU, broker.High, time.Now(), time.Hour
	many.Keep, many.OwnID, many.Attempt, many.ParentID, many.RootID = time.Hour, true, 1, "p", "r"
	many.Rules, many.Headers = &broker.Rules{Unique: "u", UniqueFor: time.Hour, Fair: "f"}, map[string]string{"a": "b"}
	require.NoError(t, b.QueueTasks(t.Context(), many, runOf(long, "few", "q")))
	other := "\x01\x00\x00\x01\x00\x00\x00\x00\x05other\x01\x85\xa1h\x81\xa1h\xd9\x01h\xa2zz\x92\xcd\x01\x02\xc7\x01\x05t\xa1q\xa1q\xa1b\xc4\x01\x80\xa1t\xd9\x05other"
	require.NoError(t, client.RPush(t.Context(), prefix(t)+":{q}:io:1", other).Err())
	for _, task := range []string{long, "other"} {
		require.NoError(t, b.Disable(t.Context(), "q", task, true))
	}
	s := join(t, b, time.Minute)
	takesNothing(t, s, "q")
	for _, task := range []string{long, "other"} {
		require.NoError(t, b.Disable(t.Context(), "q", task, false))
	}
	require.ElementsMatch(t, []string{"many", "few", "other"}, ids(takeAll(t, s, "q", 3)))
}

func TestTickOfDisabledTaskIsNotClaimed(t *testing.T) {
	b := open(t, shared, redis.Config{})
	require.NoError(t, b.Disable(t.Context(), "q", "task", true))
	require.ErrorIs(t, b.QueueTick(t.Context(), run("tick", "q"), time.Unix(1, 0)), broker.ErrDisabled)
	last, err := b.LastTick(t.Context(), "q", "task")
	require.NoError(t, err)
	require.Zero(t, last)
	require.Zero(t, length(t, b, "q"))
	require.NoError(t, b.Disable(t.Context(), "q", "task", false))
	require.NoError(t, b.QueueTick(t.Context(), run("tick", "q"), time.Unix(1, 0)))
	require.Equal(t, 1, length(t, b, "q"))
}

func TestTickOfAScheduleOfADisabledTaskIsNotClaimed(t *testing.T) {
	b := open(t, shared, redis.Config{})
	e := &broker.Schedule{ID: "e", Spec: "@every 1s", Run: run("e", "q")}
	require.NoError(t, b.PutSchedule(t.Context(), e))
	require.NoError(t, b.Disable(t.Context(), "q", "task", true))
	tick := e.Since.Add(time.Second)
	require.ErrorIs(t, b.QueueScheduleTick(t.Context(), e, run("tick", "q"), tick), broker.ErrDisabled)
	require.Zero(t, length(t, b, "q"))
	require.NoError(t, b.Disable(t.Context(), "q", "task", false))
	require.NoError(t, b.QueueScheduleTick(t.Context(), e, run("tick", "q"), tick))
	require.Equal(t, 1, length(t, b, "q"))
}

func TestRunsAreListed(t *testing.T) {
	b := open(t, shared, redis.Config{})
	kept := func(id string) *broker.TaskRun {
		r := run(id, "q")
		r.Keep = time.Hour
		return r
	}
	list := func(state broker.State) []*broker.RunInfo {
		found, err := b.Runs(t.Context(), "q", state, 10)
		require.NoError(t, err)
		return found
	}
	later, last, cpu := kept("later"), kept("last"), run("cpu", "q")
	later.Delay, last.Delay, cpu.Kind = time.Hour, 2*time.Hour, broker.CPU
	require.NoError(t, b.QueueTasks(t.Context(), last, later))
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(t.Context(), kept("good"), kept("bad"), kept("again"), kept("running")))
	got := takeAll(t, s, "q", 4)
	failure := &broker.Failure{Kind: broker.FailureFailed, Message: "no"}
	got[2].Attempt++
	_, err := s.Finish(t.Context(),
		broker.Outcome{Run: got[0]},
		broker.Outcome{Run: got[1], Verdict: broker.Dead, Failure: failure},
		broker.Outcome{Run: got[2], Verdict: broker.Retry, Failure: failure, Delay: 3 * time.Hour})
	require.NoError(t, err)
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q"), run("second", "q"), cpu))

	for state, want := range map[broker.State][]string{
		broker.StateQueued:    {"first", "second", "cpu"},
		broker.StateDelayed:   {"later", "last", "again"},
		broker.StateRunning:   {"running"},
		broker.StateSucceeded: {"good"},
		broker.StateFailed:    {"bad"},
	} {
		var found []string
		for _, info := range list(state) {
			found = append(found, info.Run.ID)
			require.Equal(t, state, info.State)
			require.Equal(t, "task", info.Run.Task)
			require.Equal(t, "q", info.Run.Queue)
		}
		require.Equal(t, want, found, "%s runs", state)
	}
	require.Equal(t, s.ID(), list(broker.StateRunning)[0].Session)
	require.Equal(t, failure, list(broker.StateFailed)[0].Failure)
	require.Equal(t, failure, list(broker.StateDelayed)[2].Failure)
	require.WithinDuration(t, time.Now().Add(time.Hour), list(broker.StateDelayed)[0].Due, time.Minute)
	two, err := b.Runs(t.Context(), "q", broker.StateQueued, 2)
	require.NoError(t, err)
	require.Len(t, two, 2)
	_, err = b.Runs(t.Context(), "q", "strange", 2)
	require.ErrorContains(t, err, "unknown state")
	info := queueInfo(t, b, "q")
	info.Last = nil
	require.Equal(t, &broker.QueueInfo{Queue: "q", Queued: 3, Delayed: 3, Running: 1, Dead: 1}, info)
}

// TestDelayedRunsThatAreDueAreCounted looks before and after a consumer has moved them.
func TestDelayedRunsThatAreDueAreCounted(t *testing.T) {
	b := open(t, redistest.Start(t), redis.Config{})
	soon, soonToo, later := run("soon", "q"), run("soon-too", "q"), run("later", "q")
	soon.Delay, soonToo.Delay, later.Delay = time.Millisecond, time.Millisecond, time.Hour
	require.NoError(t, b.QueueTasks(t.Context(), run("now", "q"), soon, soonToo, later))
	require.Eventually(t, func() bool { return queueInfo(t, b, "q").Queued == 3 }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, &broker.QueueInfo{Queue: "q", Queued: 3, DelayedDue: 2, Delayed: 1}, withoutTimes(queueInfo(t, b, "q")))
	takeAll(t, join(t, b, time.Minute), "q", 3)
	require.Equal(t, &broker.QueueInfo{Queue: "q", Delayed: 1, Running: 3}, withoutTimes(queueInfo(t, b, "q")))
}

func withoutTimes(info *broker.QueueInfo) *broker.QueueInfo {
	info.Oldest, info.Last = time.Time{}, nil
	return info
}
