package runtime_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

type sumOf = func(context.Context, []int64, ...taskrt.QueueOption) (*taskrt.Handle[string], error)

var sums sumOf = func(ctx context.Context, parts []int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
	return tasks.QueueSum(ctx, parts, "s", opts...)
}

// halves returns what queues half of each number.
func halves(numbers ...int64) func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
	return func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
		params := make([]tasks.HalfParams, len(numbers))
		for i, n := range numbers {
			params[i].N = n
		}
		return tasks.QueueHalfBatch(ctx, params)
	}
}

// TestThenQueuesNothingBesides has the first function queue a second run, whose request
// would be a separate one.
func TestThenQueuesNothingBesides(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	type first = func(ctx context.Context) (*taskrt.Handle[int64], error)
	for name, f := range map[string]first{
		"another run before": func(ctx context.Context) (*taskrt.Handle[int64], error) {
			_, _ = tasks.QueueEcho(ctx, "by the way", 1)
			return tasks.QueueHalf(ctx, 2)
		},
		"the other runs of a batch": func(ctx context.Context) (*taskrt.Handle[int64], error) {
			handles, err := halves(2, 4)(ctx)
			return handles[1], err
		},
		"a group": func(ctx context.Context) (*taskrt.Handle[int64], error) {
			_, _ = taskrt.Group(ctx, halves(2), sums)
			return tasks.QueueHalf(ctx, 2)
		},
	} {
		handle, err := taskrt.Then(ctx, f, tasks.QueueHalf)
		require.ErrorContains(t, err, "whose handle it returned; queue the others outside of it", name)
		require.Nil(t, handle, name)
	}
	_, err := taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[int64], error) {
		_, err := tasks.ScheduleHalf(ctx, "@every 1h", "", 2)
		require.ErrorContains(t, err, "only queue runs; do this outside of them", "a schedule, which would be there at once")
		return tasks.QueueHalf(ctx, 2)
	}, tasks.QueueHalf)
	require.NoError(t, err)
	schedules, err := taskrt.Schedules(ctx)
	require.NoError(t, err)
	require.Empty(t, schedules)
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.EqualValues(t, map[string]int64{"default": 1}, lengths)
}

// TestARunCanBeFollowedByTwo has the first function return the handle of the inner Then's
// first run.
func TestARunCanBeFollowedByTwo(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		var inner *taskrt.Handle[int64]
		outer, err := taskrt.Then(ctx, func(ctx context.Context) (first *taskrt.Handle[int64], err error) {
			inner, err = taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[int64], error) {
				first, err = tasks.QueueHalf(ctx, 40)
				return first, err
			}, tasks.QueueHalf)
			return first, err
		}, tasks.QueueHalf)
		require.NoError(t, err)
		for _, h := range []*taskrt.Handle[int64]{inner, outer} {
			n, err := h.Wait(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 10, n)
		}
	})
}

// TestRunsThatBelongTogetherHaveOneClient has a function queue with the client of another
// broker.
func TestRunsThatBelongTogetherHaveOneClient(t *testing.T) {
	one, two := newMemory(t), newMemory(t)
	ctx, other := clientContext(context.Background(), one), taskrt.NewClient(two, taskrt.ClientConfig{})
	elsewhere := func(ctx context.Context) context.Context { return taskrt.WithClient(ctx, other) }
	_, err := taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[int64], error) {
		return tasks.QueueHalf(elsewhere(ctx), 2)
	}, tasks.QueueHalf)
	require.ErrorContains(t, err, "this context has another than Then or Group was given")
	_, err = taskrt.Then(ctx, half(2), func(ctx context.Context, n int64, opts ...taskrt.QueueOption) (*taskrt.Handle[int64], error) {
		return tasks.QueueHalf(elsewhere(ctx), n, opts...)
	})
	require.ErrorContains(t, err, "this context has another than Then or Group was given")
	_, err = taskrt.Group(ctx, func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
		return halves(2, 4)(elsewhere(ctx))
	}, sums)
	require.ErrorContains(t, err, "this context has another than Then or Group was given")
	_, err = taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[int64], error) {
		return taskrt.Then(elsewhere(ctx), half(2), tasks.QueueHalf)
	}, tasks.QueueHalf)
	require.ErrorContains(t, err, "this context has another than Then or Group was given")
	for _, b := range []broker.Broker{one, two} {
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.Empty(t, lengths)
	}
	_, err = taskrt.Then(elsewhere(ctx), half(2), tasks.QueueHalf)
	require.NoError(t, err, "all of it")
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
		queue := func() (*taskrt.Handle[tasks.Answer], error) {
			return taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[string], error) {
				return taskrt.Group(ctx, halves(2, 4), sums, taskrt.Header("own", "x"))
			}, func(ctx context.Context, text string, opts ...taskrt.QueueOption) (*taskrt.Handle[tasks.Answer], error) {
				return tasks.QueueEcho(ctx, text, 1, opts...)
			})
		}
		last, err := queue()
		require.NoError(t, err)
		_, err = last.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, [][]string{{"half", "half", "sum", "echo"}}, calls)
		require.Equal(t, map[string]map[string]string{
			"half": {"trace": "abc"}, "sum": {"trace": "abc", "own": "x"}, "echo": {"trace": "abc"},
		}, seen)

		leave = 1
		_, err = queue()
		require.ErrorContains(t, err, "a middleware added, left out or replaced runs that follow each other")
		_, err = taskrt.Group(ctx, halves(2), sums)
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
		unkeyed, err := taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[int64], error) { return tasks.QueueHalf(ctx, 8) }, tasks.QueueHalf)
		require.NoError(t, err)
		_, err = unkeyed.Wait(ctx)
		require.NoError(t, err)

		stop := consume(t, b, taskrt.ConsumerConfig{Queues: map[string]int{"default": 1}}, sum)
		var first *taskrt.Handle[string]
		last, err := taskrt.Then(ctx, func(ctx context.Context) (_ *taskrt.Handle[string], err error) {
			first, err = tasks.QueueSum(ctx, nil, "a", taskrt.OnQueue("default"))
			return first, err
		}, func(ctx context.Context, note string, opts ...taskrt.QueueOption) (*taskrt.Handle[taskrt.None], error) {
			return tasks.QueueRecorderOnce(ctx, note, 1, append(opts, taskrt.Keep(time.Hour))...)
		})
		require.NoError(t, err)
		time.Sleep(3 * time.Hour)
		status, err := first.Status(ctx)
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
			total, err := taskrt.Group(ctx, halves(numbers...), sums)
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

// TestMembersOfAGroupAreSingleRuns has members that are followed by others, or follow
// others.
func TestMembersOfAGroupAreSingleRuns(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	var first *taskrt.Handle[int64]
	chain := func(ctx context.Context) (*taskrt.Handle[int64], error) {
		return taskrt.Then(ctx, func(ctx context.Context) (_ *taskrt.Handle[int64], err error) {
			first, err = tasks.QueueHalf(ctx, 8)
			return first, err
		}, tasks.QueueHalf)
	}
	_, err := taskrt.Group(ctx, func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
		last, err := chain(ctx)
		return []*taskrt.Handle[int64]{last}, err
	}, sums)
	require.ErrorContains(t, err, "follows another, and a group waits for single runs; have its task do the work of both")
	_, err = taskrt.Group(ctx, func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
		_, err := chain(ctx)
		return []*taskrt.Handle[int64]{first}, err
	}, sums)
	require.ErrorContains(t, err, "or is followed by another")
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Empty(t, lengths)
}
