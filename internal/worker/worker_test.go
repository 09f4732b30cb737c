package worker_test

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// executor executes runs by sending them to started and waiting for release or for the
// end of their contexts.
type executor struct {
	known      string // the task
	started    chan *execution
	mu         sync.Mutex
	notStarted []broker.Outcome
}

func (e *executor) Admit(run *broker.TaskRun, _ time.Time) (worker.Execution, broker.Outcome) {
	if run.Task != e.known {
		return nil, worker.OthersOutcome(run, time.Second)
	}
	return &execution{executor: e, run: run, release: make(chan struct{})}, broker.Outcome{}
}

func (e *executor) NotStarted(o *broker.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notStarted = append(e.notStarted, *o)
}

func (e *executor) Skipped(...broker.SkippedDuplicate) {}

func (e *executor) Replied([]broker.Outcome, func(*broker.TaskRun) worker.Reply) {}

type execution struct {
	worker.Attempt
	executor *executor
	run      *broker.TaskRun
	release  chan struct{}
	ctx      context.Context
	deadline time.Time
	stop     context.CancelCauseFunc
}

func (x *execution) Begin(base context.Context, started time.Time) {
	x.ctx, x.stop = context.WithCancelCause(base)
	x.deadline = started.Add(time.Minute)
}

func (x *execution) Deadline() (time.Time, bool) { return x.deadline, true }

func (x *execution) Execute() {
	x.executor.started <- x
	o := broker.Outcome{Run: x.run, Verdict: broker.Succeeded}
	select {
	case <-x.release:
		x.run.Attempt++
	case <-x.ctx.Done():
		o = x.InterruptedOutcome()
	}
	x.stop(nil)
	x.NoteEnd(&o, 0)
	x.Finish(o)
}

func (x *execution) Stop(cause error)           { x.stop(cause) }
func (x *execution) Cancel()                    { x.stop(context.Canceled) }
func (x *execution) Progress() *broker.Progress { return nil }

// inWorker calls f while a worker of task t executes runs on an embedded broker, and then
// after, once the worker has stopped.
func inWorker(t *testing.T, f func(t *testing.T, b *memory.Broker, e *executor), after func(t *testing.T, b *memory.Broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New()
		e := &executor{known: "t", started: make(chan *execution, 10)}
		w := worker.New(worker.Config{
			Broker: b, Tasks: []worker.Task{{Name: "t", Queues: []string{"q"}}}, Slots: [2]int{2, 1},
			Lease: 10 * time.Second, Grace: 5 * time.Second, MaxCrashes: 3,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- w.Run(ctx, e) }()
		f(t, b, e)
		cancel()
		require.NoError(t, <-stopped)
		after(t, b)
		require.NoError(t, b.Close())
	})
}

// nothingWaits is what is so after runs that have ended.
func nothingWaits(t *testing.T, b *memory.Broker) { require.Zero(t, waiting(t, b)) }

func queue(t *testing.T, b broker.Broker, task string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, b.QueueTasks(t.Context(), &broker.TaskRun{ID: id, Task: task, Queue: "q", QueuedAt: time.Now()}))
	}
}

func waiting(t *testing.T, b broker.Broker) int64 {
	t.Helper()
	lengths, err := b.QueueLength(t.Context())
	require.NoError(t, err)
	return lengths["q"]
}

func TestRunsExecuteInFreeSlots(t *testing.T) {
	inWorker(t, func(t *testing.T, b *memory.Broker, e *executor) {
		queue(t, b, "t", "1", "2", "3")
		first, second := <-e.started, <-e.started
		synctest.Wait()
		require.Empty(t, e.started, "there are two slots")
		close(first.release)
		close(second.release)
		close((<-e.started).release)
	}, nothingWaits)
}

func TestAStopGivesRunsBackAfterTheGraceTime(t *testing.T) {
	inWorker(t, func(t *testing.T, b *memory.Broker, e *executor) {
		queue(t, b, "t", "1")
		<-e.started
	}, func(t *testing.T, b *memory.Broker) {
		runs, err := b.GetTaskRuns(t.Context(), []string{"q"}, 1)
		require.NoError(t, err)
		require.Equal(t, "1", runs[0].ID)
		require.Zero(t, runs[0].Attempt)
	})
}

func TestAStopAwaitsRunsWithinTheGraceTime(t *testing.T) {
	inWorker(t, func(t *testing.T, b *memory.Broker, e *executor) {
		queue(t, b, "t", "1")
		x := <-e.started
		time.AfterFunc(3*time.Second, func() { close(x.release) })
	}, nothingWaits)
}

func TestUnknownTasksAreLeftToOthers(t *testing.T) {
	inWorker(t, func(t *testing.T, b *memory.Broker, e *executor) {
		queue(t, b, "other", "1")
		synctest.Wait()
		e.mu.Lock()
		defer e.mu.Unlock()
		require.Len(t, e.notStarted, 1)
		require.True(t, e.notStarted[0].ForOthers)
		require.Empty(t, e.started)
	}, func(t *testing.T, b *memory.Broker) { require.EqualValues(t, 1, waiting(t, b)) })
}
