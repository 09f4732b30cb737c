package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func takeOne(t *testing.T, b broker.Broker, queue string) *broker.TaskRun {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	runs, err := b.GetTaskRuns(ctx, []string{queue}, 1)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	return runs[0]
}

func TestStubNeedsAClient(t *testing.T) {
	handle, err := tasks.QueueEcho(context.Background(), "a", 1)
	require.Nil(t, handle)
	require.ErrorIs(t, err, taskrt.ErrNoClient)
	require.Contains(t, err.Error(), "queue task echo: no client: pass a context from taskrt.WithClient, or call taskrt.SetDefault")
}

func TestContextClientComesBeforeTheDefault(t *testing.T) {
	first, second := newMemory(t), newMemory(t)
	taskrt.SetDefault(taskrt.NewClient(first, taskrt.ClientConfig{}))
	t.Cleanup(func() { taskrt.SetDefault(nil) })

	_, err := tasks.QueueEcho(context.Background(), "default", 1)
	require.NoError(t, err)
	_, err = tasks.QueueEcho(clientContext(context.Background(), second), "context", 1)
	require.NoError(t, err)

	for b, want := range map[broker.Broker]string{first: "default", second: "context"} {
		var p tasks.EchoParams
		decode(t, takeOne(t, b, "default").Payload, &p)
		require.Equal(t, want, p.Text)
	}
}

func TestRunCarriesWhatTheDirectivesAndOptionsSay(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	before := time.Now()
	handle, err := tasks.QueueRecorderMail(ctx, "you@example.com")
	require.NoError(t, err)
	run := takeOne(t, b, "mail")
	require.Equal(t, handle.ID, run.ID)
	require.Equal(t, "recorder_mail", run.Task)
	require.Equal(t, taskrt.High, run.Priority)
	require.Empty(t, run.RootID, "a run without a parent is the root of its line")
	require.False(t, run.QueuedAt.Before(before.Truncate(time.Microsecond)))
	require.Len(t, run.ID, 26, "a ULID")

	handle, err = tasks.QueueRecorderMail(ctx, "x", taskrt.OnQueue("other"), taskrt.WithPriority(taskrt.Low),
		taskrt.ID("mine"), taskrt.Keep(time.Minute))
	require.NoError(t, err)
	run = takeOne(t, b, "other")
	require.Equal(t, "mine", handle.ID)
	require.Equal(t, "mine", run.ID)
	require.Equal(t, taskrt.Low, run.Priority)
	require.Equal(t, time.Minute, run.Keep)
}

func TestDelayedRunsAreDueInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		start := time.Now()
		_, err := tasks.QueueEcho(ctx, "at", 1, taskrt.At(start.Add(2*time.Hour)))
		require.NoError(t, err)
		_, err = tasks.QueueEcho(ctx, "delay", 1, taskrt.Delay(time.Hour))
		require.NoError(t, err)
		_, err = tasks.QueueEcho(ctx, "past", 1, taskrt.At(start.Add(-time.Hour)))
		require.NoError(t, err)
		for _, want := range []struct {
			text  string
			after time.Duration
		}{{"past", 0}, {"delay", time.Hour}, {"at", 2 * time.Hour}} {
			runs, err := b.GetTaskRuns(ctx, []string{"default"}, 1)
			require.NoError(t, err)
			var p tasks.EchoParams
			decode(t, runs[0].Payload, &p)
			require.Equal(t, want.text, p.Text)
			require.Equal(t, want.after, time.Since(start), want.text)
		}
	})
}

func TestRefusedEnqueues(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	small := taskrt.WithClient(context.Background(), taskrt.NewClient(b, taskrt.ClientConfig{MaxPayload: 100}))
	closed := taskrt.NewClient(b, taskrt.ClientConfig{})
	require.NoError(t, closed.Close(ctx))
	for _, test := range []struct {
		name string
		ctx  context.Context
		text string
		opts []taskrt.QueueOption
		is   error
		want string
	}{
		{"payload too large", small, strings.Repeat("x", 200), nil, taskrt.ErrPayloadTooLarge, "at most 100 are allowed"},
		{"negative limit", taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{MaxPayload: -1})), "x", nil, nil, "field MaxPayload is -1, it cannot be negative"},
		{"closed client", taskrt.WithClient(ctx, closed), "x", nil, broker.ErrClosed, "the client is closed"},
		{"empty id", ctx, "x", []taskrt.QueueOption{taskrt.ID("")}, nil, "the id is empty"},
		{"hostile id", ctx, "x", []taskrt.QueueOption{taskrt.ID("a\x00b")}, nil, "not printable ASCII"},
		{"long id", ctx, "x", []taskrt.QueueOption{taskrt.ID(strings.Repeat("x", 1<<20))}, nil, "at most 200 are allowed"},
		{"hostile queue", ctx, "x", []taskrt.QueueOption{taskrt.OnQueue("a b")}, nil, "queue name"},
		{"priority", ctx, "x", []taskrt.QueueOption{taskrt.WithPriority(9)}, nil, "priority 9 is none of Low, Medium, High"},
		{"huge delay", ctx, "x", []taskrt.QueueOption{taskrt.Delay(1<<63 - 1)}, nil, "more than 100 years"},
		{"year 9999", ctx, "x", []taskrt.QueueOption{taskrt.At(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))}, nil, "more than 100 years"},
		{"negative keep", ctx, "x", []taskrt.QueueOption{taskrt.Keep(-1)}, nil, "keeping time"},
	} {
		t.Run(test.name, func(t *testing.T) {
			handle, err := tasks.QueueEcho(test.ctx, test.text, 1, test.opts...)
			require.Nil(t, handle)
			require.ErrorContains(t, err, "queue task echo: ")
			require.ErrorContains(t, err, test.want)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
		})
	}
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Zero(t, lengths["default"], "a refused run was stored")
}

func TestSecondLiveRunOfAnIDIsADuplicate(t *testing.T) {
	ctx := clientContext(context.Background(), newMemory(t))
	first, err := tasks.QueueEcho(ctx, "a", 1, taskrt.ID("one"))
	require.NoError(t, err)
	second, err := tasks.QueueEcho(ctx, "b", 1, taskrt.ID("one"))
	require.ErrorIs(t, err, taskrt.ErrDuplicate)
	require.Equal(t, first.ID, second.ID, "the handle refers to the run that is there")
}

func TestBatchIsQueuedWholeOrNotAtAll(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	handles, err := tasks.QueueEchoBatch(ctx, []tasks.EchoParams{{Text: "a", Times: 1}, {Text: "b", Times: 2}})
	require.NoError(t, err)
	require.Len(t, handles, 2)
	require.NotEqual(t, handles[0].ID, handles[1].ID)

	_, err = tasks.QueueEchoBatch(ctx, []tasks.EchoParams{{Text: "c"}, {Text: strings.Repeat("x", 2<<20)}})
	require.ErrorIs(t, err, taskrt.ErrPayloadTooLarge)
	require.ErrorContains(t, err, "queue run 2 of 2 of task echo")
	many := make([]tasks.EchoParams, 65)
	for i := range many {
		many[i].Text = strings.Repeat("x", 1<<20-100)
	}
	_, err = tasks.QueueEchoBatch(ctx, many)
	require.ErrorIs(t, err, taskrt.ErrPayloadTooLarge)
	require.ErrorContains(t, err, "queue run 65 of 65 of task echo: payload too large: the parameters of the batch take more than 67108864 bytes by here; queue it in parts")
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 2, lengths["default"])

	handles, err = tasks.QueueEchoBatch(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, handles)
}

// unconfirmed is a broker that stores runs less safely than it was asked to.
type unconfirmed struct {
	broker.Broker
	broker.Leaser
	broker.Records
}

func (b unconfirmed) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if err := b.Broker.QueueTasks(ctx, runs...); err != nil {
		return err
	}
	return fmt.Errorf("%w: 0 of 1 replicas confirmed it", broker.ErrNotReplicated)
}

func TestWhatIsQueuedButNotSafeHasItsHandle(t *testing.T) {
	m := newMemory(t)
	b := unconfirmed{m, m, m}
	ctx := clientContext(childContext(t), b)
	var j journal
	consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(nil)))
	requireUnsafe := func(err error, what string) {
		t.Helper()
		require.ErrorIs(t, err, taskrt.ErrNotReplicated)
		require.EqualError(t, err, what+": it is stored, but not as safely as asked: 0 of 1 replicas confirmed it; "+
			"it runs unless the server loses it, so queue it again only if it may run twice")
	}
	one, err := tasks.QueueEcho(ctx, "one", 1)
	require.NotNil(t, one)
	requireUnsafe(err, "queue task echo as "+one.ID)
	two, err := tasks.QueueEchoBatch(ctx, []tasks.EchoParams{{Text: "two", Times: 1}, {Text: "three", Times: 1}})
	requireUnsafe(err, "queue 2 runs of task echo")
	require.Len(t, two, 2)
	for _, handle := range append(two, one) {
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
	}

	// The same in a child process, which asks its parent.
	parent, err := tasks.QueueDescend(ctx)
	require.ErrorIs(t, err, taskrt.ErrNotReplicated)
	id, err := parent.Wait(ctx)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(j.all()) == 1 }, time.Minute, time.Millisecond)
	require.Equal(t, id, j.all()[0].run.ID)
}

func TestABatchOfSeveralHasNoIDOfItsOwn(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	params := []tasks.RecorderRecordParams{{Note: "a"}, {Note: "b"}}
	_, err := tasks.QueueRecorderRecordBatch(ctx, params, taskrt.ID("mine"))
	require.ErrorContains(t, err, "the option ID names one run")
	require.NotErrorIs(t, err, taskrt.ErrDuplicate)
	handles, err := tasks.QueueRecorderRecordBatch(ctx, params[:1], taskrt.ID("mine"))
	require.NoError(t, err)
	require.Equal(t, "mine", handles[0].ID)
}

func TestWaitWithoutARecordSaysSoAtOnce(t *testing.T) {
	ctx := clientContext(context.Background(), newMemory(t))
	handle, err := tasks.QueueRecorderRecord(ctx, "no result")
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	require.ErrorIs(t, err, taskrt.ErrNoRecord)
	_, err = handle.Status(ctx)
	require.ErrorIs(t, err, taskrt.ErrNoRecord)
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx := clientContext(context.Background(), newMemory(t))
	handle, err := tasks.QueueEcho(ctx, "nobody consumes", 1)
	require.NoError(t, err)
	waiting, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("tired of waiting"))
	_, err = handle.Wait(waiting)
	require.ErrorIs(t, err, context.Canceled)
	status, err := handle.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, taskrt.State("queued"), status.State)
}

// TestOptionsAreThoseOfOneCall checks that the options of a call do not stay in the
// memory that the next one uses.
func TestOptionsAreThoseOfOneCall(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(t.Context(), b)
	for range 10 {
		first, err := tasks.QueueRecorderRecord(ctx, "first", taskrt.Header("trace", "4bf9"), taskrt.WithPriority(taskrt.High), taskrt.Keep(time.Hour))
		require.NoError(t, err)
		second, err := tasks.QueueRecorderRecord(ctx, "second")
		require.NoError(t, err)
		runs, err := b.GetTaskRuns(ctx, []string{"default"}, 10)
		require.NoError(t, err)
		require.Len(t, runs, 2)
		require.Equal(t, first.ID, runs[0].ID)
		require.Equal(t, map[string]string{"trace": "4bf9"}, runs[0].Headers)
		require.Equal(t, second.ID, runs[1].ID)
		require.Equal(t, broker.TaskRun{
			ID: second.ID, Task: "recorder_record", Queue: "default", QueuedAt: runs[1].QueuedAt, Schema: runs[0].Schema,
			Payload: []byte("\x81\xa4note\xa6second"), Deliveries: 1, Receipt: runs[1].Receipt,
		}, *runs[1])
	}
}
