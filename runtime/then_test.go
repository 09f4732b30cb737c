package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// half returns what queues half of n.
func half(n int64) func(context.Context) (*taskrt.Handle[int64], error) {
	return func(ctx context.Context) (*taskrt.Handle[int64], error) { return tasks.QueueHalf(ctx, n) }
}

func inBubble(t *testing.T, cfg taskrt.ConsumerConfig, j *journal, test func(t *testing.T, ctx context.Context)) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, cfg, tasks.Tasks(j.recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		test(t, ctx)
	})
}

func TestResultsGoFromTaskToTask(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		twice := func(ctx context.Context) (*taskrt.Handle[int64], error) {
			return taskrt.Then(ctx, half(40), tasks.QueueHalf)
		}
		last, err := taskrt.Then(ctx, twice, func(ctx context.Context, n int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
			return tasks.QueueSum(ctx, []int64{n}, "no", opts...)
		})
		require.ErrorContains(t, err, "the first parameter of task sum travels as [int64], but what it is to get as int64")
		require.Nil(t, last)

		eighth, err := taskrt.Then(ctx, twice, tasks.QueueHalf, taskrt.Delay(10*time.Minute), taskrt.ID("eighth"))
		require.NoError(t, err)
		require.Equal(t, "eighth", eighth.ID)
		status, err := eighth.Status(ctx)
		require.NoError(t, err)
		require.Equal(t, taskrt.Status{ID: "eighth", Task: "half", Queue: "default", State: "delayed"}, status, "before it is queued")
		began := time.Now()
		n, err := eighth.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 5, n)
		require.GreaterOrEqual(t, time.Since(began), 10*time.Minute, "its delay counts from what it follows")
	})
}

func TestWhatFollowsAFailureDoesNotRun(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		last, err := taskrt.Then(ctx, half(7), tasks.QueueHalf)
		require.NoError(t, err)
		_, err = last.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, "7 is odd", failure.Message)
		require.NotEqual(t, last.ID, failure.ID, "the run that failed is the first")
		status, err := last.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "failed", status.State)
		require.Equal(t, failure.ID, status.Err.ID)
	})
}

func TestLineageOfWhatFollows(t *testing.T) {
	j := new(journal)
	inBubble(t, taskrt.ConsumerConfig{}, j, func(t *testing.T, ctx context.Context) {
		var first *taskrt.Handle[int64]
		last, err := taskrt.Then(ctx, func(ctx context.Context) (_ *taskrt.Handle[int64], err error) {
			first, err = tasks.QueueHalf(ctx, 8)
			return first, err
		}, func(ctx context.Context, _ int64, opts ...taskrt.QueueOption) (*taskrt.Handle[taskrt.None], error) {
			return tasks.QueueRecorderRecord(ctx, "after", opts...)
		}, taskrt.Keep(time.Minute), taskrt.Header("trace", "abc"))
		require.ErrorContains(t, err, "the first parameter of task recorder_record travels as string", "what does not take the result")
		require.Nil(t, last)

		last, err = taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[taskrt.None], error) {
			return tasks.QueueRecorderRecord(ctx, "first")
		}, func(ctx context.Context, _ taskrt.None, opts ...taskrt.QueueOption) (*taskrt.Handle[taskrt.None], error) {
			return tasks.QueueRecorderRecord(ctx, "after", opts...)
		}, taskrt.Keep(time.Minute), taskrt.Header("trace", "abc"))
		require.NoError(t, err)
		_, err = last.Wait(ctx)
		require.NoError(t, err)
		entries := j.all()
		require.Len(t, entries, 2)
		require.Equal(t, "first", entries[0].note)
		require.Equal(t, "after", entries[1].note)
		require.Equal(t, entries[0].run.ID, entries[1].run.ParentID)
		require.Equal(t, entries[0].run.ID, entries[1].run.RootID)
		require.Equal(t, map[string]string{"trace": "abc"}, entries[1].run.Headers)
	})
}

func TestMisuseOfThenIsRefusedBeforeAnythingIsQueued(t *testing.T) {
	ctx := clientContext(context.Background(), newMemory(t))
	elsewhere, err := tasks.QueueHalf(ctx, 2, taskrt.Delay(time.Hour))
	require.NoError(t, err)
	for want, first := range map[string]func(context.Context) (*taskrt.Handle[int64], error){
		"was not queued by the first function": func(context.Context) (*taskrt.Handle[int64], error) { return elsewhere, nil },
		"returned no handle":                   func(context.Context) (*taskrt.Handle[int64], error) { return nil, nil },
		"out of luck":                          func(context.Context) (*taskrt.Handle[int64], error) { return nil, errors.New("out of luck") },
	} {
		_, err := taskrt.Then(ctx, first, tasks.QueueHalf)
		require.ErrorContains(t, err, want)
	}
	_, err = taskrt.Then(ctx, half(2), func(ctx context.Context, n int64, opts ...taskrt.QueueOption) (*taskrt.Handle[int64], error) {
		_, _ = tasks.QueueHalf(ctx, n)
		return tasks.QueueHalf(ctx, n, opts...)
	})
	require.ErrorContains(t, err, "has to be one call of a generated Queue… function")
	long := half(2)
	for range 17 {
		before := long
		long = func(ctx context.Context) (*taskrt.Handle[int64], error) {
			return taskrt.Then(ctx, before, tasks.QueueHalf)
		}
	}
	_, err = long(ctx)
	require.ErrorContains(t, err, "17 deep: at most 16 and 16 are allowed")
}

// TestPoliciesOfWhatFollowsGoByTheResult has the key of a follow-up depend on the result
// of the run before it.
func TestPoliciesOfWhatFollowsGoByTheResult(t *testing.T) {
	var j journal
	inBubble(t, taskrt.ConsumerConfig{}, &j, func(t *testing.T, ctx context.Context) {
		for _, title := range []string{"a", "b"} {
			_, err := taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[string], error) {
				return tasks.QueueSum(ctx, nil, title, taskrt.OnQueue("default"))
			}, func(ctx context.Context, note string, opts ...taskrt.QueueOption) (*taskrt.Handle[taskrt.None], error) {
				return tasks.QueueRecorderOnce(ctx, note, 1, opts...)
			}, taskrt.Delay(time.Minute))
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		_, err := tasks.QueueRecorderOnce(ctx, "a: 0 of 0", 2)
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "one that follows waits with this note")
		time.Sleep(time.Hour)
		require.ElementsMatch(t, []string{"a: 0 of 0", "b: 0 of 0"}, j.notes())
	})
}

func TestEventsAndRetriesOfTheApplication(t *testing.T) {
	var events []string
	cfg := taskrt.ConsumerConfig{
		Concurrency: 1,
		OnEvent: func(e taskrt.Event) {
			text := fmt.Sprintf("%s %d", e.Kind, e.Run.Attempt)
			if e.Err != nil {
				text += " " + e.Err.Message
			}
			if e.Wait > 0 {
				text += " " + e.Wait.String()
			}
			events = append(events, text)
			if e.Kind == taskrt.RunRetried {
				panic("the application's own")
			}
		},
		Retry: func(run *taskrt.Run, err error) (time.Duration, bool) {
			return 90 * time.Minute, run.Attempt != 2
		},
	}
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, cfg, tasks.Tasks(new(journal).recorder(func(context.Context, *taskrt.Run, string) error { return errors.New("no luck") })))
		handle, err := tasks.QueueRecorderRecord(clientContext(context.Background(), b), "x", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = handle.Wait(t.Context())
		require.ErrorContains(t, err, "failed after 2 attempts: no luck")
		require.Equal(t, []string{"started 1", "retried 1 no luck 1h30m0s", "started 2", "failed 2 no luck"}, events)
	})
}

// TestWhatFollowsIsRefusedWhereItIsNotKept has a broker with leases and without policies.
func TestWhatFollowsIsRefusedWhereItIsNotKept(t *testing.T) {
	b := newMemory(t)
	leased := struct {
		broker.Broker
		broker.Leaser
	}{b, b}
	ctx := clientContext(t.Context(), leased)
	_, err := taskrt.Then(ctx, half(4), tasks.QueueHalf)
	require.ErrorContains(t, err, "task half is followed by another, which this broker does not keep; use one that has broker.Policies")
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Zero(t, lengths["default"])
	_, err = half(4)(ctx)
	require.NoError(t, err, "alone")
}

// TestAContextKeptFromThenQueuesNothing calls a stub with the context of a function that
// has returned.
func TestAContextKeptFromThenQueuesNothing(t *testing.T) {
	ctx := clientContext(context.Background(), newMemory(t))
	var kept []context.Context
	keep := func(ctx context.Context) context.Context {
		kept = append(kept, ctx)
		return ctx
	}
	_, err := taskrt.Then(ctx, func(ctx context.Context) (*taskrt.Handle[int64], error) {
		return tasks.QueueHalf(keep(ctx), 2)
	}, func(ctx context.Context, n int64, opts ...taskrt.QueueOption) (*taskrt.Handle[int64], error) {
		return tasks.QueueHalf(keep(ctx), n, opts...)
	})
	require.NoError(t, err)
	require.Len(t, kept, 2)
	for _, late := range kept {
		handle, err := tasks.QueueHalf(late, 2)
		require.ErrorContains(t, err, "has returned; queue with the context that Then or Group was given")
		require.Nil(t, handle)
		_, err = taskrt.Then(late, half(2), tasks.QueueHalf)
		require.ErrorContains(t, err, "has returned; queue with the context that Then or Group was given")
	}
}

// TestPoliciesOfWhatFollowsAreRefusedWhereTheyAreNotKept has follow-ups with policies
// that the broker does not have.
func TestPoliciesOfWhatFollowsAreRefusedWhereTheyAreNotKept(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(t.Context(), core{b})
	sum := func(ctx context.Context) (*taskrt.Handle[string], error) { return tasks.QueueSum(ctx, nil, "s") }
	_, err := taskrt.Then(ctx, sum, func(ctx context.Context, note string, opts ...taskrt.QueueOption) (*taskrt.Handle[taskrt.None], error) {
		return tasks.QueueRecorderOnce(ctx, note, 1, opts...)
	})
	require.ErrorContains(t, err, "task recorder_once has //task:unique, which this broker does not keep")
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Empty(t, lengths)
	_, err = taskrt.Then(ctx, sum, func(ctx context.Context, text string, opts ...taskrt.QueueOption) (*taskrt.Handle[tasks.Answer], error) {
		return tasks.QueueEcho(ctx, text, 1, opts...)
	})
	require.NoError(t, err, "without policies; the consumer queues what follows")
}
