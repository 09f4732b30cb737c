package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokertest"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/poison"
)

var (
	_ broker.Broker      = (*memory.Broker)(nil)
	_ broker.Leaser      = (*memory.Broker)(nil)
	_ broker.Records     = (*memory.Broker)(nil)
	_ broker.Ticks       = (*memory.Broker)(nil)
	_ broker.Clock       = (*memory.Broker)(nil)
	_ broker.Policies    = (*memory.Broker)(nil)
	_ broker.Controls    = (*memory.Broker)(nil)
	_ broker.Groups      = (*memory.Broker)(nil)
	_ broker.Searcher    = (*memory.Broker)(nil)
	_ broker.Changer     = (*memory.Broker)(nil)
	_ broker.Instances   = (*memory.Broker)(nil)
	_ broker.Tallies     = (*memory.Broker)(nil)
	_ broker.Heartbeater = (*memory.Session)(nil)
	_ broker.Starter     = (*memory.Session)(nil)
	_ poison.Survivor    = (*memory.Session)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T) broker.Broker { return open(t, memory.Config{}) })
}

func open(t testing.TB, cfg memory.Config) *memory.Broker {
	b := memory.NewConfig(cfg)
	t.Cleanup(func() { require.NoError(t, b.Close(), "Close") })
	return b
}

// newRuns makes n runs of queue q.
func newRuns(n int, edits ...func(*broker.TaskRun)) []*broker.TaskRun {
	runs := make([]*broker.TaskRun, n)
	for i := range runs {
		runs[i] = &broker.TaskRun{ID: fmt.Sprintf("run-%d", i), Task: "task", Queue: "q", Payload: []byte{0x80}}
		for _, edit := range edits {
			edit(runs[i])
		}
	}
	return runs
}

var want = broker.Want{Queues: []string{"q"}, IO: 100, CPU: 100}

func join(t testing.TB, b *memory.Broker, lease time.Duration) broker.Session {
	s, err := b.OpenSession(t.Context(), lease)
	require.NoError(t, err, "OpenSession")
	return s
}

func TestCloseEndsBlockedCalls(t *testing.T) {
	b := memory.New()
	ctx := t.Context()
	require.NoError(t, b.QueueTasks(ctx, newRuns(2, func(r *broker.TaskRun) { r.Keep, r.Delay = time.Hour, time.Hour })...))
	s := join(t, b, time.Minute)
	ended := make(chan error)
	go func() {
		_, err := b.GetTaskRuns(ctx, []string{"q", "other"}, 1)
		ended <- err
	}()
	go func() {
		_, err := s.Take(ctx, want)
		ended <- err
	}()
	go func() {
		_, err := b.WaitRecord(ctx, "q", "run-0")
		ended <- err
	}()
	select {
	case err := <-ended:
		require.NoError(t, err, "a call that blocks")
	case <-time.After(20 * time.Millisecond): // they block by now, most likely; if not, the better for the test
	}
	require.NoError(t, b.Close(), "Close")
	for range 3 {
		require.ErrorIs(t, <-ended, broker.ErrClosed, "a call that was blocked at Close")
	}
	require.NoError(t, b.Close(), "Close again")
}

func TestCallsAfterClose(t *testing.T) {
	b := memory.New()
	ctx := t.Context()
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(ctx, newRuns(1)...))
	taken, err := s.Take(ctx, want)
	require.NoError(t, err)
	require.NoError(t, b.Close(), "Close")

	for name, call := range map[string]func() error{
		"QueueTasks":  func() error { return b.QueueTasks(ctx, newRuns(1)...) },
		"GetTaskRuns": func() error { _, err := b.GetTaskRuns(ctx, []string{"q"}, 1); return err },
		"QueueLength": func() error { _, err := b.QueueLength(ctx); return err },
		"OpenSession": func() error { _, err := b.OpenSession(ctx, time.Second); return err },
		"Recover":     func() error { _, err := b.Recover(ctx, []string{"q"}); return err },
		"Take":        func() error { _, err := s.Take(ctx, want); return err },
		"Renew":       func() error { return s.Renew(ctx) },
		"Finish":      func() error { _, err := s.Finish(ctx, broker.Outcome{Run: taken[0]}); return err },
		"Close":       func() error { return s.Close(ctx) },
		"Record":      func() error { _, err := b.Record(ctx, "q", "x"); return err },
		"WaitRecord":  func() error { _, err := b.WaitRecord(ctx, "q", "x"); return err },
		"DeadLetters": func() error { _, err := b.DeadLetters(ctx, "q", 1); return err },
		"QueueTick":   func() error { return b.QueueTick(ctx, newRuns(1)[0], time.Unix(1, 0)) },
		"QueueGroup": func() error {
			return b.QueueGroup(ctx, &broker.TaskRun{ID: "then", Task: "t", Queue: "q", Links: &broker.Links{Awaits: broker.Group{ID: "g", Queue: "q"}}})
		},
		"Members":     func() error { _, err := b.Members(ctx, broker.Group{ID: "g", Queue: "q"}); return err },
		"Pause":       func() error { return b.Pause(ctx, "q", true) },
		"Disable":     func() error { return b.Disable(ctx, "q", "task", true) },
		"Cancel":      func() error { return b.Cancel(ctx, "q", "x", broker.Failure{}) },
		"Queue":       func() error { _, err := b.Queue(ctx, "q"); return err },
		"Runs":        func() error { _, err := b.Runs(ctx, "q", broker.StateQueued, 1); return err },
		"RequeueDead": func() error { _, err := b.RequeueDead(ctx, "q", "x"); return err },
		"DeleteDead":  func() error { _, err := b.DeleteDead(ctx, "q", "x"); return err },
		"Heartbeat":   func() error { _, err := s.(broker.Heartbeater).Heartbeat(ctx, broker.Report{}); return err },
		"LastTick":    func() error { _, err := b.LastTick(ctx, "q", "task"); return err },
	} {
		require.ErrorIs(t, call(), broker.ErrClosed, "%s after Close", name)
	}
	require.Zero(t, b.TrimmedDeadLetters("q"))
}

func TestCallsThatCannotBe(t *testing.T) {
	b := open(t, memory.Config{})
	ctx := t.Context()
	s := join(t, b, time.Minute)
	require.NoError(t, b.QueueTasks(ctx, newRuns(2)...))
	taken, err := s.Take(ctx, want)
	require.NoError(t, err)
	renamed := *taken[0]
	renamed.Queue = "other"
	spoilt := *taken[1]
	spoilt.Task = ""

	finish := func(outcomes ...broker.Outcome) error { _, err := s.Finish(ctx, outcomes...); return err }
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no queue":     {errOf(b.GetTaskRuns(ctx, nil, 1)), "take runs: no queue is named"},
		"no room":      {errOf(b.GetTaskRuns(ctx, []string{"q"}, 0)), "take runs: no queue is named, or there is no room"},
		"no readyList": {errOf(s.Take(ctx, broker.Want{Queues: []string{"q"}, IO: -1})), "there is no room"},
		"no lease":     {errOf(b.OpenSession(ctx, 0)), "open a session: the lease 0s is not positive"},
		"a nil run":    {b.QueueTasks(ctx, newRuns(1)[0], nil), "queue run 2 of 2: it is nil"},
		"two queues":   {b.QueueTasks(ctx, newRuns(1)[0], &renamed), "its queue other is not q"},
		"no run":       {finish(broker.Outcome{}), "finish run 1 of 1: the outcome has no run"},
		"odd verdict":  {finish(broker.Outcome{Run: taken[0], Verdict: 9}), "unknown verdict 9"},
		"other queue":  {finish(broker.Outcome{Run: taken[1]}, broker.Outcome{Run: &renamed, Verdict: broker.Retry}), `it is now run "run-0" of queue "other"`},
		"odd pause":    {b.Pause(ctx, "a b", true), "pause queue \"a b\": the queue name"},
		"odd disable":  {b.Disable(ctx, "q", "", true), "the task name is empty"},
		"odd state":    {errOf(b.Runs(ctx, "q", "odd", 1)), "there is no such state"},
		"odd last run": {errOf(s.(broker.Heartbeater).Heartbeat(ctx, broker.Report{Last: []broker.LastRun{{Queue: "q"}}})), "store last run"},
		"unsafe retry": {finish(broker.Outcome{Run: taken[0]}, broker.Outcome{Run: &spoilt, Verdict: broker.Retry}), "finish run 2 of 2: run \"run-1\": the task name is empty"},
		"retry before": {finish(broker.Outcome{Run: taken[0], Verdict: broker.Retry, Delay: -1}), "negative delay"},
	} {
		require.ErrorContains(t, c.err, c.want, name)
	}
	require.NoError(t, b.QueueTasks(ctx), "QueueTasks of no runs")
	done, err := s.Finish(ctx, broker.Outcome{Run: taken[0]}, broker.Outcome{Run: taken[1]})
	require.NoError(t, err)
	require.Empty(t, done.Fenced, "runs of Finish calls that were refused are still held")
	require.NoError(t, s.Close(ctx))
	require.ErrorIs(t, errOf(s.Take(ctx, want)), broker.ErrLeaseLost, "Take after Close")
	require.ErrorIs(t, s.Renew(ctx), broker.ErrLeaseLost, "Renew after Close")
}

func errOf[T any](_ T, err error) error { return err }

func TestDeadLettersAreCapped(t *testing.T) {
	const most, total = 10, 25
	b := open(t, memory.Config{MaxDead: most})
	ctx := t.Context()
	s := join(t, b, time.Minute)
	for i := range total {
		require.NoError(t, b.QueueTasks(ctx, newRuns(1)...))
		runs, err := s.Take(ctx, want)
		require.NoError(t, err)
		_, err = s.Finish(ctx, broker.Outcome{Run: runs[0], Verdict: broker.Dead, Failure: &broker.Failure{Message: fmt.Sprint(i)}})
		require.NoError(t, err)
	}
	letters, err := b.DeadLetters(ctx, "q", total)
	require.NoError(t, err)
	require.Len(t, letters, most, "dead letters kept of %d", total)
	for i, l := range letters {
		require.Equal(t, fmt.Sprint(total-1-i), l.Failure.Message, "dead letter %d, the newest first", i)
	}
	require.EqualValues(t, total-most, b.TrimmedDeadLetters("q"), "dead letters trimmed")
	require.Zero(t, b.TrimmedDeadLetters("unknown"))
}

// TestLeaveEndsBlockedTake: a session that has left leases nothing more, even
// if its Take began before.
func TestLeaveEndsBlockedTake(t *testing.T) {
	b := open(t, memory.Config{})
	for range 200 {
		s := join(t, b, time.Minute)
		ended := make(chan error)
		go func() {
			runs, err := s.Take(t.Context(), want)
			if len(runs) > 0 {
				err = errors.New("it leased a run")
			}
			ended <- err
		}()
		require.NoError(t, s.Close(t.Context()), "Close")
		require.NoError(t, b.QueueTasks(t.Context(), newRuns(1)...))
		require.ErrorIs(t, <-ended, broker.ErrLeaseLost, "Take of a session that has left")
		got, err := b.GetTaskRuns(context.Background(), []string{"q"}, 2)
		require.NoError(t, err)
		require.Len(t, got, 1, "runs left in the queue")
	}
}
