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

// TestOptionsThatCannotBeMeantAreRefused, by each of the ways to queue that take
// them, and nothing is queued.
// TestTheRunOfATaskThatKeepsParametersSaysSo looks at what is queued.
func TestTheRunOfATaskThatKeepsParametersSaysSo(t *testing.T) {
	b := newMemory(t)
	var kept []bool
	see := func(next taskrt.QueueHandler) taskrt.QueueHandler {
		return func(ctx context.Context, runs ...*broker.TaskRun) error {
			for _, run := range runs {
				kept = append(kept, run.KeepParams)
			}
			return next(ctx, runs...)
		}
	}
	ctx := taskrt.WithClient(t.Context(), taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{see}}))
	_, err := tasks.QueueSquare(ctx, 3)
	require.NoError(t, err)
	_, err = tasks.QueueSquareBatch(ctx, []tasks.SquareParams{{N: 3}, {N: 4}})
	require.NoError(t, err)
	_, err = tasks.QueueHalf(ctx, 4)
	require.NoError(t, err)
	require.Equal(t, []bool{true, true, true, false}, kept)
}

func TestOptionsThatCannotBeMeantAreRefused(t *testing.T) {
	soon := time.Now().Add(time.Hour)
	twoDues := "the options Delay and At both say when the run is due; give one of them"
	noName := "is not a name; write letters, digits, '_', '-' and '.', a letter or digit first"
	tests := []struct {
		name string
		opts []taskrt.QueueOption
		want string
	}{
		{"delay and at", []taskrt.QueueOption{taskrt.Delay(time.Minute), taskrt.At(soon)}, twoDues},
		{"at and delay", []taskrt.QueueOption{taskrt.At(soon), taskrt.Delay(time.Minute)}, twoDues},
		{"delay and an at that has passed", []taskrt.QueueOption{taskrt.Delay(time.Minute), taskrt.At(time.Unix(-1, 0))}, twoDues},
		{"negative delay", []taskrt.QueueOption{taskrt.Delay(-time.Second)}, "delay -1s is negative; for an instant that may have passed use At"},
		{"queue with a blank", []taskrt.QueueOption{taskrt.OnQueue("a b")}, `queue name: "a b" ` + noName},
		{"queue that is a pattern", []taskrt.QueueOption{taskrt.OnQueue("a*")}, `queue name: "a*" ` + noName},
		{"queue that flags cannot name", []taskrt.QueueOption{taskrt.OnQueue("a=1,b")}, noName},
		{"empty queue", []taskrt.QueueOption{taskrt.OnQueue("")}, `"" ` + noName},
		{"long queue", []taskrt.QueueOption{taskrt.OnQueue(strings.Repeat("x", 129))}, "a name of 129 bytes is too long; the limit is 128"},
		{"header without key", []taskrt.QueueOption{taskrt.Header("", "x")}, "has no key"},
		{"priority", []taskrt.QueueOption{taskrt.WithPriority(taskrt.High + 1)}, "is none of Low, Medium, High"},
		{"keep", []taskrt.QueueOption{taskrt.Keep(-time.Second)}, "keeping time -1s is not between 0 and 100 years"},
		{"no option", []taskrt.QueueOption{nil}, "option 1 is nil"},
	}
	for way, queue := range waysToQueue() {
		for _, test := range tests {
			t.Run(way+"/"+test.name, func(t *testing.T) { refused(t, queue, test.want, test.opts) })
		}
		if way != "what gathers" {
			t.Run(way+"/skip failed", func(t *testing.T) {
				refused(t, queue, "the option SkipFailed is for the run that gathers a group", []taskrt.QueueOption{taskrt.SkipFailed()})
			})
		}
	}
}

func waysToQueue() map[string]func(ctx context.Context, opts []taskrt.QueueOption) error {
	type options = []taskrt.QueueOption
	return map[string]func(context.Context, options) error{
		"call": func(ctx context.Context, opts options) error {
			_, err := tasks.CallHalf(2).Queue(ctx, opts...)
			return err
		},
		"run": func(ctx context.Context, opts options) error {
			_, err := tasks.QueueHalf(ctx, 2, opts...)
			return err
		},
		"batch": func(ctx context.Context, opts options) error {
			_, err := tasks.QueueHalfBatch(ctx, []tasks.HalfParams{{N: 2}, {N: 4}}, opts...)
			return err
		},
		"empty batch": func(ctx context.Context, opts options) error {
			_, err := tasks.QueueHalfBatch(ctx, nil, opts...)
			return err
		},
		"schedule": func(ctx context.Context, opts options) error {
			_, err := taskrt.Schedule(ctx, "@every 1h", "", tasks.CallHalf(2), opts...)
			return err
		},
		"first": func(ctx context.Context, opts options) error {
			_, err := taskrt.Then(tasks.CallHalf(2).With(opts...), tasks.NextHalf()).Queue(ctx)
			return err
		},
		"what follows": func(ctx context.Context, opts options) error {
			_, err := taskrt.Then(tasks.CallHalf(2), tasks.NextHalf()).Queue(ctx, opts...)
			return err
		},
		"member": func(ctx context.Context, opts options) error {
			_, err := taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(2).With(opts...)}, sums()).Queue(ctx)
			return err
		},
		"what gathers": func(ctx context.Context, opts options) error {
			_, err := taskrt.Group(halves(2, 4), sums().With(opts...)).Queue(ctx)
			return err
		},
	}
}

func refused(t *testing.T, queue func(context.Context, []taskrt.QueueOption) error, want string, opts []taskrt.QueueOption) {
	b := newMemory(t)
	ctx := clientContext(t.Context(), b)
	require.ErrorContains(t, queue(ctx, opts), want)
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Empty(t, lengths, "queued all the same")
	schedules, err := taskrt.Schedules(ctx)
	require.NoError(t, err)
	require.Empty(t, schedules)
}

// TestOptionsThatSayNothing checks zero values of options, and options that are given
// twice.
func TestOptionsThatSayNothing(t *testing.T) {
	soon := time.Now().Add(time.Hour).Truncate(time.Second)
	for _, test := range []struct {
		name  string
		opts  []taskrt.QueueOption
		delay time.Duration
		due   time.Time
	}{
		{"no delay", []taskrt.QueueOption{taskrt.Delay(0)}, 0, time.Time{}},
		{"no time", []taskrt.QueueOption{taskrt.At(time.Time{})}, 0, time.Time{}},
		{"before time", []taskrt.QueueOption{taskrt.At(time.Unix(-1, 0))}, 0, time.Time{}},
		{"at without delay", []taskrt.QueueOption{taskrt.At(soon), taskrt.Delay(0)}, 0, soon},
		{"no delay, but at", []taskrt.QueueOption{taskrt.Delay(0), taskrt.At(soon)}, 0, soon},
		{"delay without time", []taskrt.QueueOption{taskrt.Delay(time.Minute), taskrt.At(time.Time{})}, time.Minute, time.Time{}},
		{"another delay", []taskrt.QueueOption{taskrt.Delay(time.Minute), taskrt.Delay(time.Hour)}, time.Hour, time.Time{}},
		{"delay taken back", []taskrt.QueueOption{taskrt.Delay(time.Minute), taskrt.Delay(0), taskrt.At(soon)}, 0, soon},
	} {
		t.Run(test.name, func(t *testing.T) {
			var queued []*broker.TaskRun
			seen := func(next taskrt.QueueHandler) taskrt.QueueHandler {
				return func(ctx context.Context, runs ...*broker.TaskRun) error {
					queued = runs
					return next(ctx, runs...)
				}
			}
			client := taskrt.NewClient(newMemory(t), taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{seen}})
			_, err := tasks.QueueHalf(taskrt.WithClient(t.Context(), client), 2, test.opts...)
			require.NoError(t, err)
			require.Len(t, queued, 1)
			require.Equal(t, test.delay, queued[0].Delay)
			require.True(t, test.due.Equal(queued[0].Due), "due at %s, want %s", queued[0].Due, test.due)
		})
	}
}
