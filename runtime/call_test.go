package runtime_test

import (
	"context"
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

// halves are calls of half of each number.
func halves(numbers ...int64) []taskrt.Call[int64] {
	calls := make([]taskrt.Call[int64], len(numbers))
	for i, n := range numbers {
		calls[i] = tasks.CallHalf(n)
	}
	return calls
}

// sums is what gathers halves.
func sums() taskrt.Next[[]int64, string] { return tasks.NextSum("s") }

// TestACallQueuesNothingBeforeQueue makes calls of every form, and queues one of them twice.
func TestACallQueuesNothingBeforeQueue(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		client := taskrt.NewClient(newMemory(t), taskrt.ClientConfig{})
		other := taskrt.WithClient(ctx, client) // whose runs nobody takes
		params := []string{"a"}
		labels := tasks.CallLabelled("x", false, "", "", params, "", 1, nil)
		params[0] = "changed"
		quarter := taskrt.Then(tasks.CallHalf(40), tasks.NextHalf())
		sum := taskrt.Then(taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(2), tasks.CallHalf(4)}, sums()), tasks.NextEcho(1))
		for range 2 {
			h, err := quarter.Queue(ctx)
			require.NoError(t, err)
			n, err := h.Wait(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 10, n)
		}
		h, err := sum.Queue(ctx)
		require.NoError(t, err)
		answer, err := h.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 3 of 2", answer.Text)
		text, err := labels.Queue(ctx)
		require.NoError(t, err)
		got, err := text.Wait(ctx)
		require.NoError(t, err)
		require.Contains(t, got, "[a]", "the parameters as they were when the call was made")

		schedules, err := taskrt.Schedules(ctx)
		require.NoError(t, err)
		require.Empty(t, schedules)
		_, err = quarter.Queue(other)
		require.NoError(t, err, "a call belongs to no client")
	})
}

// TestACallIsNotChanged derives two calls from one.
func TestACallIsNotChanged(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	call := tasks.CallHalf(2).With(taskrt.Header("a", "1"), taskrt.Keep(time.Hour))
	one, two := call.With(taskrt.ID("one")), call.With(taskrt.ID("two"), taskrt.Delay(time.Hour))
	for id, c := range map[string]taskrt.Call[int64]{"one": one, "two": two} {
		h, err := c.Queue(ctx)
		require.NoError(t, err)
		require.Equal(t, id, h.ID)
	}
	h, err := call.Queue(ctx, taskrt.ID("three"))
	require.NoError(t, err)
	require.Equal(t, "three", h.ID)
	next := tasks.NextHalf()
	_, later := next.With(taskrt.ID("never")), next.With(taskrt.ID("later"))
	h, err = taskrt.Then(call, later).Queue(ctx)
	require.NoError(t, err)
	require.Equal(t, "later", h.ID)
	h, err = taskrt.Then(call, next).Queue(ctx)
	require.NoError(t, err)
	require.NotContains(t, []string{"never", "later"}, h.ID)
	status, err := tasks.HandleHalf(ctx, "two").Status(ctx)
	require.NoError(t, err)
	require.EqualValues(t, "delayed", status.State)
}

// TestErrorsNameThePlaceInTheCall has one part of a call be wrong.
func TestErrorsNameThePlaceInTheCall(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	bad := taskrt.Delay(-1)
	chain := func(opts ...taskrt.QueueOption) taskrt.Call[int64] {
		return taskrt.Then(tasks.CallHalf(2), tasks.NextHalf().With(opts...))
	}
	group := func(opts ...taskrt.QueueOption) taskrt.Call[string] {
		return taskrt.Group(append(halves(2, 4), tasks.CallHalf(6).With(opts...)), sums())
	}
	var zero taskrt.Call[int64]
	var none taskrt.Next[int64, int64]
	queue := func(call interface {
		Queue(context.Context, ...taskrt.QueueOption) (*taskrt.Handle[int64], error)
	}) error {
		h, err := call.Queue(ctx)
		require.Nil(t, h)
		return err
	}
	queueText := func(call taskrt.Call[string]) error {
		h, err := call.Queue(ctx)
		require.Nil(t, h)
		return err
	}
	large := strings.Repeat("x", 2<<20)
	for want, err := range map[string]error{
		"queue task half: delay -1ns is negative":                                             queue(tasks.CallHalf(2).With(bad)),
		"queue a call: task half: delay -1ns is negative":                                     queue(taskrt.Then(tasks.CallHalf(2).With(bad), tasks.NextHalf())),
		"queue a call: then: task half: delay -1ns is negative":                               queue(chain(bad)),
		"queue a call: group member 2: task half: delay -1ns is negative":                     queueText(group(bad)),
		"queue a call: what gathers: task sum: delay -1ns is negative":                        queueText(group().With(bad)),
		"queue a call: group member 2: task half: option 1 is nil":                            queueText(group(nil)),
		"queue a call: the call is the zero value; make it with a generated Call":             queue(zero),
		"queue a call: then: what follows is the zero value":                                  queue(taskrt.Then(tasks.CallHalf(2), none)),
		"queue a call: group member 1: the call is the zero value":                            queueText(taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(2), zero}, sums())),
		"queue a call: group member 1: then: task half: delay -1ns is negative":               queueText(taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(2), chain(bad)}, sums())),
		"queue a call: the option SkipFailed":                                                 queue(chain(taskrt.SkipFailed())),
		"queue a call: task sum: payload too large: ":                                         queueText(taskrt.Then(tasks.CallSum(nil, large), taskrt.After[string](tasks.CallSum(nil, "")))),
		"queue task sum: payload too large: the parameters take 2097":                         queueText(tasks.CallSum(nil, large)),
		"queue a call: then: task half: at most 16 runs can follow a first one; let the last": queue(deep(17)),
	} {
		require.ErrorContains(t, err, want)
	}
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Empty(t, lengths)
}

// deep is a call of a run that n others follow.
func deep(n int) taskrt.Call[int64] {
	call := tasks.CallHalf(2)
	for range n {
		call = taskrt.Then(call, tasks.NextHalf())
	}
	return call
}

// TestAHandleFromAnIDFindsItsRun asks for a run from a context that has not queued it.
func TestAHandleFromAnIDFindsItsRun(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{Queues: map[string]int{"default": 1, "other": 1}}, new(journal), func(t *testing.T, ctx context.Context) {
		queued, err := tasks.QueueHalf(ctx, 40)
		require.NoError(t, err)
		n, err := tasks.HandleHalf(ctx, queued.ID).Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 20, n)

		queued, err = tasks.QueueHalf(ctx, 40, taskrt.OnQueue("other"), taskrt.Delay(time.Minute))
		require.NoError(t, err)
		_, err = tasks.HandleHalf(ctx, queued.ID).Status(ctx)
		require.ErrorIs(t, err, taskrt.ErrNoRecord, "it is in another queue")
		other := tasks.HandleHalf(ctx, queued.ID, taskrt.OnQueue("other"))
		status, err := other.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "delayed", status.State)
		require.NoError(t, other.Cancel(ctx))
		_, err = other.Wait(ctx)
		require.ErrorIs(t, err, taskrt.ErrCancelled)

		unkept, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = tasks.HandleRecorderRecord(ctx, unkept.ID).Wait(ctx)
		require.NoError(t, err, "a record that the task alone would not keep")
	})
}

// TestAHandleThatNamesNoRunSaysSo has handles that cannot work.
func TestAHandleThatNamesNoRunSaysSo(t *testing.T) {
	ctx := clientContext(context.Background(), newMemory(t))
	for want, h := range map[string]*taskrt.Handle[int64]{
		"run x: the handle is the zero value; make one with the task's generated Handle": {ID: "x"},
		taskrt.ErrNoRecord.Error():                          tasks.HandleHalf(ctx, "x"),
		"run x of task half: " + taskrt.ErrNoClient.Error(): tasks.HandleHalf(t.Context(), "x"),
		"run x of task half: queue name: ":                  tasks.HandleHalf(ctx, "x", taskrt.OnQueue("a b")),
		"run  of task half: the id is empty":                tasks.HandleHalf(ctx, ""),
	} {
		_, waitErr := h.Wait(ctx)
		_, statusErr := h.Status(ctx)
		for _, err := range []error{waitErr, statusErr, h.Cancel(ctx)} {
			require.ErrorContains(t, err, want)
		}
	}
	_, err := tasks.HandleHalf(ctx, "x").Wait(ctx)
	require.ErrorContains(t, err, "if it is not in queue default, give the Handle function the option OnQueue")
}

// TestMiddlewareSeesAllRunsThatBelongTogether checks that the headers of a middleware
// reach all runs.
func TestMiddlewareSeesAllRunsThatBelongTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		seen := make(map[string]map[string]string) // by task
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1, Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				seen[run.Task] = run.Headers
				return next(ctx, run)
			}
		}}}, tasks.Tasks(new(journal).recorder(nil)))
		var calls [][]string
		leave := 0
		client := taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{func(next taskrt.QueueHandler) taskrt.QueueHandler {
			return func(ctx context.Context, runs ...*broker.TaskRun) error {
				var names []string
				for _, run := range runs {
					names = append(names, run.Task)
					if run.Headers == nil {
						run.Headers = make(map[string]string)
					}
					run.Headers["trace"] = "abc"
				}
				calls = append(calls, names)
				return next(ctx, runs[:len(runs)-leave]...)
			}
		}}})
		ctx, cancel := context.WithTimeout(taskrt.WithClient(context.Background(), client), time.Hour)
		defer cancel()
		call := taskrt.Then(taskrt.Group(halves(2, 4), sums().With(taskrt.Header("own", "x"))), tasks.NextEcho(1))
		last, err := call.Queue(ctx)
		require.NoError(t, err)
		_, err = last.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, [][]string{{"half", "half", "sum", "echo"}}, calls)
		require.Equal(t, map[string]map[string]string{
			"half": {"trace": "abc"}, "sum": {"trace": "abc", "own": "x"}, "echo": {"trace": "abc"},
		}, seen)

		leave = 1
		_, err = call.Queue(ctx)
		require.ErrorContains(t, err, "a middleware added, left out or replaced runs that belong together")
		_, err = taskrt.Group(halves(2), sums()).Queue(ctx)
		require.ErrorContains(t, err, "a middleware added or left out runs of a group")
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.Equal(t, map[string]int64{"default": 0, "sums": 0}, lengths)
	})
}

// TestARunWaitsForWhoCanMakeWhatFollows has a consumer that does not have the follow-up's
// task.
func TestARunWaitsForWhoCanMakeWhatFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		all := tasks.Tasks(j.recorder(nil))
		var half, sum, once []taskrt.Task
		for _, task := range all {
			switch task.Name() {
			case "half":
				half = append(half, task)
			case "sum":
				sum = append(sum, task)
			case "recorder_once":
				once = append(once, task)
			}
		}
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), 24*time.Hour)
		defer cancel()
		consume(t, b, taskrt.ConsumerConfig{}, half)
		unkeyed, err := taskrt.Then(tasks.CallHalf(8), tasks.NextHalf()).Queue(ctx)
		require.NoError(t, err)
		_, err = unkeyed.Wait(ctx)
		require.NoError(t, err)

		stop := consume(t, b, taskrt.ConsumerConfig{Queues: map[string]int{"default": 1}}, sum)
		first := tasks.CallSum(nil, "a").With(taskrt.OnQueue("default"), taskrt.ID("first"))
		last, err := taskrt.Then(first, tasks.NextRecorderOnce(1)).Queue(ctx, taskrt.Keep(time.Hour))
		require.NoError(t, err)
		time.Sleep(3 * time.Hour)
		status, err := tasks.HandleSum(ctx, "first", taskrt.OnQueue("default")).Status(ctx)
		require.NoError(t, err)
		require.False(t, status.State.Ended(), "%s: no consumer knows both", status.State)
		require.Zero(t, status.Attempt)
		consume(t, b, taskrt.ConsumerConfig{Queues: map[string]int{"default": 1}}, sum, once)
		_, err = last.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"a: 0 of 0"}, j.notes())
		dead, err := b.DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Empty(t, dead)
		require.NoError(t, stop())
	})
}

// TestGroupsOfEverySize gathers as many results as there are members.
func TestGroupsOfEverySize(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		for _, n := range []int{1, 2, broker.MaxGroup, broker.MaxGroup + 1} {
			numbers := make([]int64, n)
			for i := range numbers {
				numbers[i] = 2
			}
			total, err := taskrt.Group(halves(numbers...), sums()).Queue(ctx)
			if n > broker.MaxGroup {
				require.ErrorContains(t, err, "the group has 10001 members, at most 10000 are allowed")
				continue
			}
			require.NoError(t, err)
			text, err := total.Wait(ctx)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("s: %d of %d", n, n), text)
		}
	})
}
