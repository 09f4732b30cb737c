package runtime_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// added is a group of halves and what adds them.
func added(numbers ...int64) taskrt.Call[int64] {
	return taskrt.Group(halves(numbers...), tasks.NextTotal())
}

// group gathers members by adding their results.
func group(members ...taskrt.Call[int64]) taskrt.Call[int64] {
	return taskrt.Group(members, tasks.NextTotal())
}

// nested is a call of groups, nested so deep.
func nested(depth int, innermost taskrt.Call[int64]) taskrt.Call[int64] {
	call := innermost
	for range depth {
		call = group(call)
	}
	return call
}

// everyQueue has a consumer take from the queues of these tests.
var everyQueue = map[string]int{"default": 1, "sums": 1, "other": 1, "third": 1}

// onBothConsumed runs a test on both brokers, with a consumer of all tasks.
func onBothConsumed(t *testing.T, cfg taskrt.ConsumerConfig, test func(t *testing.T, ctx context.Context, b broker.Broker)) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		cfg.Queues = everyQueue
		consume(t, b, cfg, tasks.Tasks(nil))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		test(t, ctx, b)
	})
}

// TestTreesOfCalls has groups in groups, behind runs, and of several queues.
func TestTreesOfCalls(t *testing.T) {
	onBothConsumed(t, taskrt.ConsumerConfig{}, func(t *testing.T, ctx context.Context, _ broker.Broker) {
		other, third := taskrt.OnQueue("other"), taskrt.OnQueue("third")
		three := group(group(added(2, 4), added(20)), tasks.CallHalf(200), group(added(2000)))
		for name, c := range map[string]struct {
			call taskrt.Call[int64]
			want int64
		}{
			"three levels":                        {three, 1113},
			"chains on each level":                {group(taskrt.Then(added(8, 8), tasks.NextHalf()), taskrt.Then(tasks.CallHalf(40), tasks.NextHalf())), 14},
			"eight levels":                        {nested(8, tasks.CallHalf(2)), 1},
			"several queues":                      {group(tasks.CallHalf(2), tasks.CallHalf(4).With(other), tasks.CallHalf(6).With(third)), 6},
			"a chain of several queues":           {group(taskrt.Then(tasks.CallHalf(8).With(third), tasks.NextHalf().With(other)), tasks.CallHalf(4)), 4},
			"inner groups of several queues":      {group(added(2), taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(4).With(other), tasks.CallHalf(6)}, tasks.NextTotal().With(third)), tasks.CallHalf(8).With(other)), 10},
			"a group behind a run":                {taskrt.Then(tasks.CallHalf(2), taskrt.After[int64](added(2, 4))), 3},
			"a group behind a group":              {taskrt.Then(added(2), taskrt.After[int64](added(4, 6))), 5},
			"a tree behind a run":                 {taskrt.Then(tasks.CallHalf(2), taskrt.After[int64](three)), 1113},
			"a group behind a run in a group":     {group(taskrt.Then(tasks.CallHalf(2).With(other), taskrt.After[int64](added(4, 6))), added(2)), 6},
			"the same call as member three times": {group(three, three, three), 3339},
			"no members":                          {added(), 0},
			"no members, and none to skip":        {added().With(taskrt.SkipFailed()), 0},
			"no members in a member":              {group(added(2), taskrt.Then(added(), tasks.NextHalf()), added()), 1},
			"no members behind a run":             {taskrt.Then(tasks.CallHalf(2), taskrt.After[int64](added())), 0},
		} {
			h, err := c.call.Queue(ctx)
			require.NoError(t, err, name)
			got, err := h.Wait(ctx)
			require.NoError(t, err, name)
			require.Equal(t, c.want, got, name)
		}
	})
}

// TestResultsOfATreeAreInOrder has members that end in another order than they stand in.
func TestResultsOfATreeAreInOrder(t *testing.T) {
	onBothConsumed(t, taskrt.ConsumerConfig{}, func(t *testing.T, ctx context.Context, _ broker.Broker) {
		slow := tasks.CallHalf(2).With(taskrt.Delay(300 * time.Millisecond))
		inner := taskrt.Group([]taskrt.Call[int64]{slow, tasks.CallHalf(40)}, tasks.NextTotal().With(taskrt.OnQueue("other")))
		members := []taskrt.Call[int64]{inner, tasks.CallHalf(600), group(tasks.CallHalf(8), slow)}
		h, err := taskrt.Group(members, tasks.NextList()).Queue(ctx)
		require.NoError(t, err)
		got, err := h.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, []int64{21, 300, 5}, got)
	})
}

// TestAFailureRisesThroughATree has one member of an inner group fail.
func TestAFailureRisesThroughATree(t *testing.T) {
	onBothConsumed(t, taskrt.ConsumerConfig{}, func(t *testing.T, ctx context.Context, _ broker.Broker) {
		inner := taskrt.Group(halves(2, 3), tasks.NextTotal())
		h, err := group(added(4), inner).Queue(ctx)
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.Regexp(t, `: 1 of 2 members of the group failed, the first, in the group of member 1: run \S+ of task half: failed after 1 attempt: 3 is odd$`, err.Error())
		require.Equal(t, 1, strings.Count(err.Error(), "members of the group"), "one sentence for all levels")

		h, err = group(added(4), added(2), group(inner, added(2))).Queue(ctx)
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.Regexp(t, `: 1 of 3 members of the group failed, the first, in the group of member 2, of its member 0: run \S+ of task half: failed after 1 attempt: 3 is odd$`, err.Error())
		require.Equal(t, 1, strings.Count(err.Error(), "members of the group"), "one sentence for all levels")

		h, err = group(added(4), inner.With(taskrt.SkipFailed())).Queue(ctx)
		require.NoError(t, err)
		got, err := h.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 3, got, "the inner group goes on without its failed member")

		h, err = group(added(4), inner).Queue(ctx, taskrt.SkipFailed())
		require.NoError(t, err)
		got, err = h.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 2, got, "the outer group goes on without the inner one")
	})
}

// TestErrorsNameThePlaceInATree has one part of a tree be wrong.
func TestErrorsNameThePlaceInATree(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	bad := tasks.CallHalf(2).With(taskrt.Delay(-1))
	large := strings.Repeat("x", 2<<20)
	many := make([]taskrt.Call[int64], broker.MaxGroup)
	for i := range many {
		many[i] = tasks.CallHalf(2)
	}
	for want, call := range map[string]taskrt.Call[int64]{
		"group member 1: group member 2: group member 0: task half: delay -1ns": group(added(2), group(added(2), added(4), group(bad))),
		"group member 0: what gathers: task total: delay -1ns":                  group(added(2).With(taskrt.Delay(-1))),
		"group member 1: then: group member 0: task half: delay -1ns":           group(added(2), taskrt.Then(tasks.CallHalf(2), taskrt.After[int64](group(bad)))),
		"then: what gathers: task total: delay -1ns":                            taskrt.Then(tasks.CallHalf(2), taskrt.After[int64](added(2).With(taskrt.Delay(-1)))),
		"group member 0: the group has 10001 members, at most 10000":            group(group(append(many, bad)...)),
		"group member 0: group member 0: group member 0: group member 0: group member 0: group member 0: group member 0: group member 0: groups are nested 9 deep, at most 8 are allowed": nested(9, bad),
		"what gathers: task total: it gathers a group of its own": taskrt.Group(halves(2), taskrt.After[[]int64](added(2))),
		"group member 9: group member 9989: task half: payload too large: more than 100000 runs in one call": group(
			group(many...), group(many...), group(many...), group(many...), group(many...),
			group(many...), group(many...), group(many...), group(many...), group(many...)),
		"payload too large: the parameters of run ":                 group(taskrt.Then(tasks.CallSum(nil, large[:1<<19]), taskrt.After[string](taskrt.Then(tasks.CallSum(nil, large[:1<<19]), taskrt.After[string](tasks.CallHalf(2)))))),
		"the option SkipFailed is for the run that gathers a group": group(group(tasks.CallHalf(2).With(taskrt.SkipFailed()))),
	} {
		_, err := call.Queue(ctx)
		require.ErrorContains(t, err, "queue a call: "+want)
	}
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Empty(t, lengths)
}

// TestMiddlewareSeesATree checks that the headers of a middleware reach all runs of a tree.
func TestMiddlewareSeesATree(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		var seen []string
		client := taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{func(next taskrt.QueueHandler) taskrt.QueueHandler {
			return func(ctx context.Context, runs ...*broker.TaskRun) error {
				for _, run := range runs {
					seen = append(seen, run.Task)
					run.Headers = map[string]string{"trace": "abc"}
				}
				return next(ctx, runs...)
			}
		}}})
		bare := func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				if run.Headers["trace"] != "abc" {
					return taskrt.Permanent(context.Canceled)
				}
				return next(ctx, run)
			}
		}
		consume(t, b, taskrt.ConsumerConfig{Queues: everyQueue, Middleware: []taskrt.Middleware{bare}}, tasks.Tasks(nil))
		ctx, cancel := context.WithTimeout(taskrt.WithClient(context.Background(), client), time.Minute)
		defer cancel()
		h, err := group(taskrt.Then(tasks.CallHalf(4), taskrt.After[int64](added(2))), added(4), tasks.CallHalf(2)).Queue(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"half", "total", "half", "total", "total", "half", "half"}, seen, "members, what gathers them, and what is within each")
		_, err = h.Wait(ctx)
		require.NoError(t, err)
	})
}
