package runtime_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/redistest"
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
		{"broken", taskrt.Failed, 2, "the Error method of type *tasks.BrokenError panicked: runtime error: invalid memory address", "tasks.go"},
		{"goexit", taskrt.Failed, 2, "the task called runtime.Goexit", ""},
		{"exit", taskrt.Crashed, 0, "exit status 3", "last words"},
		{"spin", taskrt.Timeout, 2, "timeout", "tasks.Misbehave("},
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

// TestChildSnoozes has a CPU-bound task snooze.
func TestChildSnoozes(t *testing.T) {
	b := newMemory(t)
	events := make(chan taskrt.Event, 100)
	consume(t, b, taskrt.ConsumerConfig{OnEvent: func(e taskrt.Event) { events <- e }}, tasks.Tasks(new(journal).recorder(nil)))
	ctx := clientContext(childContext(t), b)
	_, err := tasks.QueueRecorderRecord(ctx, "in the way of the second", taskrt.ID("other"))
	require.NoError(t, err)
	handle, err := tasks.QueueMisbehave(ctx, "snooze")
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	require.NoError(t, err)
	var kinds []taskrt.EventKind
	for len(kinds) < 4 {
		if e := <-events; e.Run.ID == handle.ID && e.Kind != taskrt.RunRecorded {
			require.Equal(t, 1, e.Run.Attempt)
			kinds = append(kinds, e.Kind)
		}
	}
	require.Equal(t, []taskrt.EventKind{taskrt.RunStarted, taskrt.RunReturned, taskrt.RunStarted, taskrt.RunSucceeded}, kinds)
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

func TestAChildsEnvironmentIsItsConsumersUnlessItIsListed(t *testing.T) {
	t.Setenv("TESTAPP_GREETING", "of the parent")
	for _, test := range []struct {
		env  []string
		want string
	}{
		{nil, "of the parent"},
		{[]string{"OTHER=given"}, "of the parent"},
		{[]string{"PATH"}, ""},
		{[]string{"TESTAPP_*"}, "of the parent"},
		{[]string{"*"}, "of the parent"},
		{[]string{"TESTAPP_GREETING=given"}, "given"},
	} {
		b := newMemory(t)
		stop := consume(t, b, taskrt.ConsumerConfig{Processes: 1, Children: taskrt.ChildConfig{Env: test.env}}, tasks.Tasks(nil))
		ctx := clientContext(childContext(t), b)
		handle, err := tasks.QueueUngreeted(ctx)
		require.NoError(t, err)
		got, err := handle.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, test.want, got)
		require.NoError(t, stop())
	}
}

// TestAChildDoesNotGetTheBrokersURLHoweverItWasOpened has a program read the URL from a
// variable with a name of its own.
func TestAChildDoesNotGetTheBrokersURLHoweverItWasOpened(t *testing.T) {
	server := redistest.Start(t)
	ctx := childContext(t)
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.ConfigSet(ctx, "requirepass", "canary").Err())
	plain := "redis://:canary@" + server.Addr()
	for name, test := range map[string]struct {
		opened, variable, general string
		env                       []string
		want                      string
	}{
		"a variable of its own": {plain + "/0", plain + "/0", "", nil, ""},
		"its prefix elsewhere":  {plain + "/0?prefix=app", plain, "", nil, ""},
		"the general variable":  {"", plain + "/0", plain + "/0", nil, ""},
		"another server":        {plain + "/0", "redis://:other@cache.example/0", "", nil, "redis://:other@cache.example/0"},
		"asked for":             {plain + "/0", plain + "/0", "", []string{"*", "TESTAPP_GREETING"}, plain + "/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TESTAPP_GREETING", test.variable)
			t.Setenv(brokerurl.Env, test.general)
			b, err := brokerurl.Open(ctx, test.opened)
			require.NoError(t, err)
			t.Cleanup(func() { _ = b.(io.Closer).Close() })
			consume(t, b, taskrt.ConsumerConfig{Processes: 1, Children: taskrt.ChildConfig{Env: test.env}}, tasks.Tasks(nil))
			ctx := clientContext(ctx, b)
			handle, err := tasks.QueueUngreeted(ctx, taskrt.Keep(time.Minute))
			require.NoError(t, err)
			got, err := handle.Wait(ctx)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestAChildDoesNotGetTheURLThatItsConfigurationNames(t *testing.T) {
	const variable = "postgres://user:canary@db/app"
	t.Setenv("TESTAPP_GREETING", variable)
	t.Setenv(brokerurl.Env, "")
	for url, want := range map[string]string{variable + "?schema=tasks": "", "postgres://user:other@db/app": variable, "": variable} {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{Processes: 1, Children: taskrt.ChildConfig{BrokerURL: url}}, tasks.Tasks(nil))
		ctx := clientContext(childContext(t), b)
		handle, err := tasks.QueueUngreeted(ctx, taskrt.Keep(time.Minute))
		require.NoError(t, err)
		got, err := handle.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, want, got, "%q", url)
	}
}

func TestAChildHasToKnowTheConsumersTasks(t *testing.T) {
	b := newMemory(t)
	var log syncBuffer
	unknown := taskrt.Bind(&taskrt.Definition[taskrt.None, taskrt.None]{Spec: taskrt.Spec{Name: "only_here", Kind: taskrt.CPU}},
		func(context.Context, *taskrt.None) (taskrt.None, error) { return taskrt.None{}, nil })
	consume(t, b, taskrt.ConsumerConfig{Processes: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil), []taskrt.Task{unknown})
	_, err := tasks.QueueSquare(clientContext(childContext(t), b), 2)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return strings.Contains(log.String(), "the child process does not know only_here: pass the same tasks to taskrt.ServeChild as to taskrt.NewConsumer")
	}, 20*time.Second, 5*time.Millisecond)
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

func TestIOTasksGoOnWhenChildrenDoNotComeUp(t *testing.T) {
	b := newMemory(t)
	var log syncBuffer
	t.Setenv("GOMEMLIMIT", "nonsense") // a Go program ends with that before its main
	consume(t, b, taskrt.ConsumerConfig{Processes: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	waiting := make([]*taskrt.Handle[int64], 20)
	for i := range waiting {
		var err error
		waiting[i], err = tasks.QueueSquare(ctx, int64(i))
		require.NoError(t, err)
	}
	const breaks = "child processes do not come up: CPU-bound runs wait, other tasks go on"
	require.Eventually(t, func() bool { return strings.Contains(log.String(), breaks) }, 20*time.Second, 5*time.Millisecond)
	for range 20 {
		handle, err := tasks.QueueEcho(ctx, "still", 1)
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
	}
	require.Less(t, strings.Count(log.String(), "run cannot start"), 5, "said for each run:\n%s", log.String())

	require.NoError(t, os.Unsetenv("GOMEMLIMIT"))
	for i, handle := range waiting { // nothing was lost, nor counted as an attempt
		square, err := handle.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, i*i, square)
	}
}

func TestBusyChildrenDoNotDelayIOTasks(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 1, Grace: time.Millisecond}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	busy, err := tasks.QueueMisbehave(ctx, "spin")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := busy.Status(ctx)
		return err == nil && status.State == broker.StateRunning
	}, 20*time.Second, time.Millisecond)
	var took []time.Duration
	for range 21 {
		start := time.Now()
		handle, err := tasks.QueueEcho(ctx, "still", 1)
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	require.Less(t, took[len(took)/2], 12*time.Millisecond, "the fetcher waits for room in the child: %v", took)
}

func TestChildConfigIsChecked(t *testing.T) {
	_, err := taskrt.NewConsumer(newMemory(t), taskrt.ConsumerConfig{Children: taskrt.ChildConfig{Nice: 20}}, tasks.Tasks(nil))
	require.EqualError(t, err, "make a consumer: field Children: field Nice is 20, more than 19")
}

func TestEachRunCanHaveAProcessOfItsOwn(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 1, Children: taskrt.ChildConfig{Fresh: true}}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	pids := make(map[int]bool)
	for range 5 {
		handle, err := tasks.QueueWhere(ctx)
		require.NoError(t, err)
		pid, err := handle.Wait(ctx)
		require.NoError(t, err)
		pids[pid] = true
	}
	require.Len(t, pids, 5)
}

func TestTheStopEndsABusyChildAndHandsItsRunBack(t *testing.T) {
	b := newMemory(t)
	stop := consume(t, b, taskrt.ConsumerConfig{Processes: 1, Grace: 10 * time.Millisecond}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	handle, err := tasks.QueueMisbehave(ctx, "spin")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := handle.Status(ctx)
		return err == nil && status.State == broker.StateRunning
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, stop())
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, lengths["default"])
	left, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, file := range left {
		pids, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Empty(t, strings.TrimSpace(string(pids)), "processes left")
	}
}

func TestALostLeaseEndsABusyChild(t *testing.T) {
	m := newMemory(t)
	b := &unreliable{Broker: m, Leaser: m}
	var log syncBuffer
	consume(t, b, taskrt.ConsumerConfig{Processes: 1, Lease: 300 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), m)
	handle, err := tasks.QueueMisbehave(ctx, "spin")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		status, err := handle.Status(ctx)
		return err == nil && status.State == broker.StateRunning
	}, 10*time.Second, time.Millisecond)
	b.cut.Store(true)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "lease lost") }, 10*time.Second, time.Millisecond)
	b.cut.Store(false)
	_, err = handle.Wait(ctx)
	var failure *taskrt.RunError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, taskrt.Timeout, failure.Kind)
	require.Equal(t, 2, failure.Attempt, "what a lost lease has ended is no attempt; what follows is, in the one child that there may be")
	require.NotContains(t, log.String(), "go on unsupervised")
}

func TestChildProcessesMakeAndEndSchedules(t *testing.T) {
	b := newMemory(t)
	var j journal
	set := tasks.Tasks(j.recorder(nil))
	consume(t, b, taskrt.ConsumerConfig{Processes: 1}, set)
	schedule(t, b, set)
	ctx := clientContext(childContext(t), b)
	plan := func(id, note string) ([]string, error) {
		handle, err := tasks.QueuePlan(ctx, id, note)
		require.NoError(t, err)
		return handle.Wait(ctx)
	}
	ids, err := plan("mine", "planned")
	require.NoError(t, err)
	require.Equal(t, []string{"mine @every 1s"}, ids)
	require.Eventually(t, func() bool { return count(j.notes(), "planned") >= 2 }, 30*time.Second, 10*time.Millisecond)
	for _, e := range j.all() {
		if e.note == "planned" {
			require.NotEmpty(t, e.run.ParentID, "the run that made the schedule")
		}
	}
	ids, err = plan("mine", "")
	require.NoError(t, err)
	require.Empty(t, ids)
	_, err = plan("mine", "")
	require.ErrorContains(t, err, taskrt.ErrNoSchedule.Error())
}
