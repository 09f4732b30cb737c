package runtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func childContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCPUTasksRunInWarmChildProcesses(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 1}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueSquare(ctx, 12)
	require.NoError(t, err)
	square, err := handle.Wait(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 144, square)

	pids := make(map[int]int)
	for range 5 {
		handle, err := tasks.QueueWhere(ctx)
		require.NoError(t, err)
		pid, err := handle.Wait(ctx)
		require.NoError(t, err)
		pids[pid]++
	}
	require.Len(t, pids, 1, "one warm child")
	require.NotContains(t, pids, os.Getpid())
}

func TestFailuresOfAChildAreToldApart(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 2, MaxCrashes: 2}, tasks.Tasks(nil))
	for _, test := range []struct {
		how      string
		kind     taskrt.FailureKind
		attempts int
		message  string
		stack    string
	}{
		{"error", taskrt.Failed, 2, "told to fail", ""},
		{"permanent", taskrt.Failed, 1, "told to fail for good", ""},
		{"panic", taskrt.Failed, 2, "panic: told to panic", "tasks.go"},
		{"goexit", taskrt.Failed, 2, "the task called runtime.Goexit", ""},
		{"exit", taskrt.Crashed, 0, "exit status 3", "last words"},
		{"spin", taskrt.Timeout, 2, "timeout", ""},
	} {
		t.Run(test.how, func(t *testing.T) {
			ctx := clientContext(childContext(t), b)
			handle, err := tasks.QueueMisbehave(ctx, test.how)
			require.NoError(t, err)
			_, err = handle.Wait(ctx)
			var failure *taskrt.RunError
			require.ErrorAs(t, err, &failure)
			require.Equal(t, test.kind, failure.Kind)
			require.Equal(t, test.attempts, failure.Attempt)
			require.Contains(t, failure.Message, test.message)
			require.Contains(t, failure.Stack, test.stack)
		})
	}
	// What came before harms no later run.
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueSquare(ctx, 3)
	require.NoError(t, err)
	square, err := handle.Wait(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 9, square)
}

func TestChildQueuesAndWaitsThroughItsParent(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueRelay(ctx, "through")
	require.NoError(t, err)
	answer, err := handle.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"through", "through"}, answer.Parts)
	require.Equal(t, os.Getpid(), answer.PID, "the io task ran in the consumer")
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestChildsLineageLogAndOutputReachTheParent(t *testing.T) {
	b := newMemory(t)
	var j journal
	var log syncBuffer
	consume(t, b, taskrt.ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(j.recorder(nil)))
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueDescend(ctx)
	require.NoError(t, err)
	child, err := handle.Wait(ctx)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(j.all()) == 1 }, 10*time.Second, 5*time.Millisecond)
	run := j.all()[0].run
	require.Equal(t, child, run.ID)
	require.Equal(t, handle.ID, run.ParentID)
	require.Equal(t, handle.ID, run.RootID)
	require.Eventually(t, func() bool {
		return bytes.Contains([]byte(log.String()), []byte("on standard output"))
	}, 10*time.Second, 5*time.Millisecond)
	require.Contains(t, log.String(), "msg=descending task=descend run="+handle.ID+" attempt=1 pid=")
	require.NotContains(t, log.String(), "pid="+strconv.Itoa(os.Getpid()), "the record says which process it is from")
}

func TestAKilledChildIsAnotherDeliveryNotAnotherAttempt(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{MaxCrashes: 3}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueMisbehave(ctx, "exit")
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	var failure *taskrt.RunError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, taskrt.Crashed, failure.Kind)
	dead, err := b.DeadLetters(ctx, "default", 1)
	require.NoError(t, err)
	require.Equal(t, 3, dead[0].Run.Deliveries)
	require.Equal(t, 0, dead[0].Run.Attempt)
}

func TestATaskBeyondItsMemoryEndsAsOOM(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 1}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueGrab(ctx, 300)
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	var failure *taskrt.RunError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, taskrt.OOM, failure.Kind)
	require.Equal(t, 1, failure.Attempt)
	require.Contains(t, failure.Message, "beyond the cap of 96 MiB")

	// The next one has a process of its own, and stays within.
	handle, err = tasks.QueueGrab(ctx, 8)
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	require.NoError(t, err)
}

func TestATasksEnvironmentIsItsOwn(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 1}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	for _, test := range []struct {
		queue func(context.Context, ...taskrt.QueueOption) (*taskrt.Handle[string], error)
		want  string
	}{{tasks.QueueGreeting, "hello"}, {tasks.QueueUngreeted, ""}, {tasks.QueueGreeting, "hello"}} {
		handle, err := test.queue(ctx)
		require.NoError(t, err)
		got, err := handle.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, test.want, got)
	}
}

func TestTheParentHoldsAChildsRunsToItsPayloadLimit(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{MaxPayload: 1000}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b) // whose own limit is 1 MiB
	handle, err := tasks.QueueRelay(ctx, strings.Repeat("x", 2000))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := handle.Status(ctx)
		require.NoError(t, err)
		return status.Err != nil && strings.Contains(status.Err.Message, "payload too large: the parameters take")
	}, 20*time.Second, 5*time.Millisecond)
}
