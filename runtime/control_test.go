package runtime_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestCancelEndsARunWhereverItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var cause error
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(func(ctx context.Context, _ *taskrt.Run, note string) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return errors.Join(errors.New(note), ctx.Err())
		})))
		ctx := clientContext(context.Background(), b)
		ended := func(handle *taskrt.Handle[taskrt.None]) *taskrt.RunError {
			t.Helper()
			_, err := handle.Wait(ctx)
			require.ErrorIs(t, err, taskrt.ErrCancelled)
			var failure *taskrt.RunError
			require.ErrorAs(t, err, &failure)
			require.Equal(t, taskrt.Cancelled, failure.Kind)
			require.ErrorIs(t, handle.Cancel(ctx), taskrt.ErrNoRecord, "cancelling what has ended")
			return failure
		}

		delayed, err := tasks.QueueRecorderRecord(ctx, "delayed", taskrt.Keep(time.Hour), taskrt.Delay(time.Hour))
		require.NoError(t, err)
		require.NoError(t, delayed.Cancel(ctx))
		require.Equal(t, "on request", ended(delayed).Message)

		running, err := tasks.QueueRecorderRecord(ctx, "running", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		time.Sleep(time.Second) // the bubble's clock
		began := time.Now()
		require.NoError(t, running.Cancel(ctx))
		failure := ended(running)
		require.Equal(t, 1, failure.Attempt)
		require.Equal(t, "on request", failure.Message)
		require.ErrorContains(t, failure, ": cancelled after 1 attempt: on request")
		require.LessOrEqual(t, time.Since(began), time.Second)
		require.ErrorIs(t, cause, taskrt.ErrCancelled)
		dead, err := b.DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Empty(t, dead, "a cancelled run is no dead letter")
	})
}

// TestSuccessOfACancelledRunCounts has a task ignore that it is cancelled.
func TestSuccessOfACancelledRunCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(func(ctx context.Context, _ *taskrt.Run, _ string) error {
			<-ctx.Done()
			return nil
		})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.NoError(t, handle.Cancel(ctx))
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
	})
}

// TestCPURunsTellProgressAndAreStopped checks both directions between the processes.
func TestCPURunsTellProgressAndAreStopped(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 1}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueWork(ctx, 9)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := handle.Status(ctx)
		require.NoError(t, err)
		return status.Progress == taskrt.RunProgress{Done: 1, Total: 9, Note: "begun"}
	}, 30*time.Second, 10*time.Millisecond, "progress that the child told")
	require.NoError(t, handle.Cancel(ctx))
	_, err = handle.Wait(ctx)
	require.ErrorIs(t, err, taskrt.ErrCancelled)
}

func TestProgressIsSeenInStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		next := make(chan struct{})
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(func(ctx context.Context, _ *taskrt.Run, _ string) error {
			for i := range int64(3) {
				taskrt.Progress(ctx, i, 3, "step")
				<-next
			}
			taskrt.Progress(ctx, 3, 3, "done")
			return nil
		})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		for i := range int64(3) {
			time.Sleep(time.Second)
			status, err := handle.Status(ctx)
			require.NoError(t, err)
			require.Equal(t, taskrt.RunProgress{Done: i, Total: 3, Note: "step"}, status.Progress)
			require.EqualValues(t, "running", status.State)
			next <- struct{}{}
		}
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
		status, err := handle.Status(ctx)
		require.NoError(t, err)
		require.Equal(t, taskrt.RunProgress{Done: 3, Total: 3, Note: "done"}, status.Progress, "what it said last, at its end")
	})
}

// mute is a broker that does not hear the first report of a session.
type mute struct {
	broker.Broker
	broker.Leaser
}

type muteSession struct {
	broker.Session
	broker.Heartbeater
	heard atomic.Int64
}

func (m mute) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := m.Leaser.OpenSession(ctx, lease)
	return &muteSession{Session: s, Heartbeater: s.(broker.Heartbeater)}, err
}

func (s *muteSession) Heartbeat(ctx context.Context, report broker.Report) ([]*broker.TaskRun, error) {
	if s.heard.Add(1) == 1 {
		return nil, errors.New("pardon?")
	}
	return s.Heartbeater.Heartbeat(ctx, report)
}

// TestTheLastRunMayHaveKilledItsConsumers has consumers die with a run that nobody
// reports the end of.
func TestTheLastRunMayHaveKilledItsConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "die", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		for range 3 {
			session, err := b.OpenSession(ctx, time.Second)
			require.NoError(t, err)
			runs, err := session.Take(ctx, broker.Want{Queues: []string{"default"}, IO: 1})
			require.NoError(t, err)
			require.Len(t, runs, 1)
			time.Sleep(2 * time.Second)
			_, err = b.Recover(ctx, []string{"default"})
			require.NoError(t, err)
		}
		survived := time.Now()
		var j journal
		consume(t, b, taskrt.ConsumerConfig{MaxCrashes: 3}, tasks.Tasks(j.recorder(nil)))
		_, err = handle.Wait(ctx)
		require.ErrorContains(t, err, "crashed: handed out 3 times without coming to an end")
		require.Empty(t, j.all(), "runs that started once more")
		letters, err := b.DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.Equal(t, 3, letters[0].Run.Deliveries)
		time.Sleep(time.Second)
		info, err := b.Queue(ctx, "default")
		require.NoError(t, err)
		last := info.Last["recorder_record"]
		require.WithinDuration(t, survived, last.Started, 2*time.Minute)
		last.Started = time.Time{}
		require.Equal(t, broker.LastRun{Queue: "default", Task: "recorder_record", ID: handle.ID, Failure: "crashed"}, last)
	})
}

func TestLastRunsAreToldAgainUntilTheyAreHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, mute{b, b}, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x")
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		info, err := b.Queue(ctx, "default")
		require.NoError(t, err)
		require.Equal(t, handle.ID, info.Last["recorder_record"].ID)
	})
}
