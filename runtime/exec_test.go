package runtime_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// taskNamed returns a task of the test application.
func taskNamed(t *testing.T, set []taskrt.Task, name string) taskrt.Task {
	t.Helper()
	i := slices.IndexFunc(set, func(task taskrt.Task) bool { return task.Name() == name })
	require.GreaterOrEqual(t, i, 0, name)
	return set[i]
}

func TestExecExecutesOneAttempt(t *testing.T) {
	b := newMemory(t)
	for name, params := range map[string]any{"echo": &tasks.EchoParams{Text: "hi", Times: 2}, "square": &tasks.SquareParams{N: 4}} {
		task := taskNamed(t, tasks.Tasks(nil), name)
		payload, err := task.EncodeParams(params)
		require.NoError(t, err)
		decoded, err := task.DecodeParams(payload)
		require.NoError(t, err)
		require.Equal(t, params, decoded)
		x, err := taskrt.Exec(childContext(t), b, taskrt.ConsumerConfig{Logger: quiet}, task, payload)
		require.NoError(t, err)
		require.Nil(t, x.Failure)
		result, err := task.DecodeResult(x.Result)
		require.NoError(t, err)
		require.True(t, task.HasResult())
		if name == "square" {
			require.Equal(t, int64(16), result)
		} else {
			require.Equal(t, []string{"hi", "hi"}, result.(tasks.Answer).Parts)
		}
	}
}

func TestExecRunsTheMiddleware(t *testing.T) {
	b := newMemory(t)
	type key struct{}
	var j journal
	recorder := j.recorder(func(ctx context.Context, run *taskrt.Run, note string) error {
		require.Equal(t, "mine", ctx.Value(key{}))
		require.Equal(t, 1, run.Attempt)
		require.Equal(t, 1, run.Delivery)
		return errors.New("told to fail")
	})
	task := taskNamed(t, tasks.Tasks(recorder), "recorder_record")
	payload, err := task.EncodeParams(&tasks.RecorderRecordParams{Note: "x"})
	require.NoError(t, err)
	cfg := taskrt.ConsumerConfig{Logger: quiet, Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			return next(context.WithValue(ctx, key{}, "mine"), run)
		}
	}}}
	x, err := taskrt.Exec(t.Context(), b, cfg, task, payload)
	require.NoError(t, err)
	require.Equal(t, &broker.Failure{Kind: "failed", Message: "told to fail"}, x.Failure)
	require.Len(t, j.all(), 1, "one attempt")
	require.Equal(t, j.all()[0].run.ID, x.ID)

	cfg.Middleware = []taskrt.Middleware{func(taskrt.Handler) taskrt.Handler {
		return func(context.Context, *taskrt.Run) error { return nil }
	}}
	echo := taskNamed(t, tasks.Tasks(nil), "echo")
	payload, err = echo.EncodeParams(&tasks.EchoParams{})
	require.NoError(t, err)
	x, err = taskrt.Exec(t.Context(), b, cfg, echo, payload)
	require.NoError(t, err)
	require.Contains(t, x.Failure.Message, "without calling the task")
	cfg.Middleware = []taskrt.Middleware{func(taskrt.Handler) taskrt.Handler {
		return func(context.Context, *taskrt.Run) error { panic("told to panic") }
	}}
	x, err = taskrt.Exec(t.Context(), b, cfg, echo, payload)
	require.NoError(t, err)
	require.Equal(t, "panic: told to panic", x.Failure.Message)
}

func TestExecEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	recorder := (&journal{}).recorder(func(ctx context.Context, _ *taskrt.Run, _ string) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	task := taskNamed(t, tasks.Tasks(recorder), "recorder_record")
	payload, err := task.EncodeParams(&tasks.RecorderRecordParams{Note: "x"})
	require.NoError(t, err)
	x, err := taskrt.Exec(ctx, newMemory(t), taskrt.ConsumerConfig{Logger: quiet}, task, payload)
	require.NoError(t, err)
	require.Equal(t, &broker.Failure{Kind: "cancelled", Message: "interrupted"}, x.Failure)
	_, err = taskrt.Exec(t.Context(), newMemory(t), taskrt.ConsumerConfig{Processes: -1}, task, payload)
	require.EqualError(t, err, "execute task recorder_record: field Processes is -1, it must be from 0, the default, to 10000")
}

func TestExecOfACPUTaskIsInterrupted(t *testing.T) {
	task := taskNamed(t, tasks.Tasks(nil), "brood")
	payload, err := task.EncodeParams(&tasks.BroodParams{Note: "x"})
	require.NoError(t, err)
	for name, middleware := range map[string]func(next error) error{
		"before it starts":           func(next error) error { return next },
		"in a child, by its cause":   func(error) error { return errors.New("interrupt signal received") },
		"in a child, by its context": func(error) error { return errors.New("context canceled") },
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cfg := taskrt.ConsumerConfig{Logger: quiet, Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				cancel(errors.New("interrupt signal received"))
				return middleware(next(ctx, run))
			}
		}}}
		x, err := taskrt.Exec(ctx, newMemory(t), cfg, task, payload)
		require.NoError(t, err)
		require.Equal(t, &broker.Failure{Kind: "cancelled", Message: "interrupted"}, x.Failure, name)
	}
}

func TestATaskIsQueuedAndCancelledByValue(t *testing.T) {
	b := newMemory(t)
	client := taskrt.NewClient(b, taskrt.ClientConfig{MaxPayload: 100})
	task := taskNamed(t, tasks.Tasks(nil), "echo")
	payload, err := task.EncodeParams(&tasks.EchoParams{Text: "x", Times: 1})
	require.NoError(t, err)
	run, err := client.QueueTask(t.Context(), task, payload, taskrt.ID("mine"), taskrt.OnQueue("other"))
	require.NoError(t, err)
	require.Equal(t, []string{"mine", "echo", "other"}, []string{run.ID, run.Task, run.Queue})
	_, err = client.QueueTask(t.Context(), task, payload, taskrt.ID("mine"), taskrt.OnQueue("other"))
	require.ErrorIs(t, err, taskrt.ErrDuplicate)
	require.ErrorContains(t, err, "queue task echo as mine: ")
	_, err = client.QueueTask(t.Context(), task, make([]byte, 101))
	require.Error(t, err)
	require.NoError(t, client.Cancel(t.Context(), "other", "mine"))
	require.ErrorIs(t, client.Cancel(t.Context(), "other", "mine"), taskrt.ErrNoRecord)
}

func TestParametersOfATaskAreKnown(t *testing.T) {
	login := taskNamed(t, tasks.Tasks(nil), "login")
	require.Equal(t, []taskrt.Param{{Name: "user", Old: []string{}, Field: 0}, {Name: "pin", Old: []string{}, Field: 1, Secret: true}}, login.Params())
	shaped := taskNamed(t, tasks.Tasks(nil), "shaped")
	require.Equal(t, 90*time.Second, shaped.NewParams().(*tasks.ShapedParams).Pause, "the default is set")
	_, err := login.DecodeParams([]byte("\x82\xa4user\xa3ada\xa3pin\xa6271828"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "271828")
}

func TestTicksOfATask(t *testing.T) {
	hourly := taskNamed(t, tasks.Tasks(nil), "recorder_hourly")
	from := time.Date(2026, 11, 23, 10, 20, 30, 0, time.UTC)
	all, err := hourly.Ticks(from)
	require.NoError(t, err)
	var hours []int
	for at := range all {
		if hours = append(hours, at.Hour()); len(hours) == 3 {
			break
		}
	}
	require.Equal(t, []int{11, 12, 13}, hours)
	all, err = taskNamed(t, tasks.Tasks(nil), "echo").Ticks(from)
	require.NoError(t, err)
	for at := range all {
		require.Fail(t, "a task without a schedule has a tick", at)
	}
}

func TestTasksAreMerged(t *testing.T) {
	merged, err := taskrt.MergeTasks(tasks.Tasks(nil)[3:], tasks.Tasks(nil)[:3])
	require.NoError(t, err)
	require.Len(t, merged, len(tasks.Tasks(nil)))
	require.True(t, slices.IsSortedFunc(merged, func(a, b taskrt.Task) int {
		switch {
		case a.Name() < b.Name():
			return -1
		}
		return 1
	}))
	_, err = taskrt.MergeTasks(tasks.Tasks(nil), tasks.Tasks(nil))
	require.ErrorContains(t, err, "two tasks are named")
}

// TestExecQueuesAReturnedCall executes tasks that return a call, whose runs a consumer takes.
func TestExecQueuesAReturnedCall(t *testing.T) {
	b := newMemory(t)
	ctx := childContext(t)
	for name, params := range map[string]any{
		"give": &tasks.GiveParams{Form: "single", N: 8}, "hand": &tasks.HandParams{Form: "group", N: 2}, "fan": &tasks.FanParams{Numbers: []int64{1 << 40}},
	} {
		task := taskNamed(t, tasks.Tasks(nil), name)
		payload, err := task.EncodeParams(params)
		require.NoError(t, err)
		x, err := taskrt.Exec(ctx, b, taskrt.ConsumerConfig{Logger: quiet}, task, payload)
		require.NoError(t, err)
		require.Nil(t, x.Failure)
		require.Nil(t, x.Result)
		require.NotNil(t, x.Queued, name)
		record, err := b.Record(ctx, x.Queued.Queue, x.Queued.ID)
		require.NoError(t, err)
		require.False(t, record.State.Ended())
	}
	give := taskNamed(t, tasks.Tasks(nil), "give")
	payload, err := give.EncodeParams(&tasks.GiveParams{Form: "wrong"})
	require.NoError(t, err)
	x, err := taskrt.Exec(ctx, b, taskrt.ConsumerConfig{Logger: quiet}, give, payload)
	require.NoError(t, err)
	require.Nil(t, x.Queued)
	require.Contains(t, x.Failure.Message, "queue the call that the task returned: then: task half: delay -1ns is negative")
}
