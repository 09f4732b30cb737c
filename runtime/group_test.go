package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestGroupGathersResultsInOrder(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		halves := func(numbers ...int64) func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
			return func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
				params := make([]tasks.HalfParams, len(numbers))
				for i, n := range numbers {
					params[i].N = n
				}
				return tasks.QueueHalfBatch(ctx, params)
			}
		}
		sum := func(ctx context.Context, parts []int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
			return tasks.QueueSum(ctx, parts, "halves", opts...)
		}
		total, err := taskrt.Group(ctx, halves(2, 40, 600), sum)
		require.NoError(t, err)
		text, err := total.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "halves: 321 of 3", text)

		failing, err := taskrt.Group(ctx, halves(2, 3, 4, 5), sum)
		require.NoError(t, err)
		_, err = failing.Wait(ctx)
		require.ErrorContains(t, err, "2 of 4 members of the group failed, the first: ")
		require.ErrorContains(t, err, "3 is odd")

		partial, err := taskrt.Group(ctx, halves(2, 3, 4, 5), sum, taskrt.SkipFailed())
		require.NoError(t, err)
		text, err = partial.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "halves: 3 of 2", text)

		_, err = taskrt.Group(ctx, halves(), sum)
		require.ErrorContains(t, err, "returned no handle; where there is nothing to wait for, queue what gathers by itself")
	})
}

// TestGroupInTheMiddle has a run follow the one that gathers a group.
func TestGroupInTheMiddle(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		gathered := func(ctx context.Context) (*taskrt.Handle[string], error) {
			return taskrt.Group(ctx, func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
				return tasks.QueueHalfBatch(ctx, []tasks.HalfParams{{N: 2}, {N: 4}})
			}, func(ctx context.Context, parts []int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
				return tasks.QueueSum(ctx, parts, "s", opts...)
			})
		}
		echo, err := taskrt.Then(ctx, gathered, func(ctx context.Context, text string, opts ...taskrt.QueueOption) (*taskrt.Handle[tasks.Answer], error) {
			return tasks.QueueEcho(ctx, text, 1, opts...)
		})
		require.NoError(t, err)
		answer, err := echo.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 3 of 2", answer.Text)
	})
}

// TestAGroupIsAllThatItsMembersFunctionQueues has the function return too few handles,
// and one twice.
func TestAGroupIsAllThatItsMembersFunctionQueues(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(context.Background(), b)
	type handles = []*taskrt.Handle[int64]
	for want, members := range map[string]func(context.Context) (handles, error){
		"queued 2 runs and returned 1 handle": func(ctx context.Context) (handles, error) {
			if _, err := tasks.QueueEcho(ctx, "by the way", 1); err != nil {
				return nil, err
			}
			h, err := tasks.QueueHalf(ctx, 2)
			return handles{h}, err
		},
		"or is one twice": func(ctx context.Context) (handles, error) {
			h, err := tasks.QueueHalf(ctx, 2)
			return handles{h, h}, err
		},
		"member 1 has no handle": func(ctx context.Context) (handles, error) {
			h, err := tasks.QueueHalf(ctx, 2)
			return handles{h, nil}, err
		},
	} {
		handle, err := taskrt.Group(ctx, members, func(ctx context.Context, parts []int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
			return tasks.QueueSum(ctx, parts, "s", opts...)
		})
		require.ErrorContains(t, err, want)
		require.Nil(t, handle)
	}
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Empty(t, lengths)
}

// forgetful is a broker that cannot be asked for the members of a group at
// first.
type forgetful struct {
	*memory.Broker
	asked int
}

func (f *forgetful) Members(ctx context.Context, group broker.Group) ([]*broker.Record, error) {
	if f.asked++; f.asked <= 10 {
		return nil, errors.New("the server is down")
	}
	return f.Broker.Members(ctx, group)
}

// TestAnOutageSpendsNoAttemptOfAGatheringRun has the broker fail when a run asks for the
// results of its group.
func TestAnOutageSpendsNoAttemptOfAGatheringRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &forgetful{Broker: newMemory(t)}
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		total, err := taskrt.Group(ctx, func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
			return tasks.QueueHalfBatch(ctx, []tasks.HalfParams{{N: 2}, {N: 4}})
		}, func(ctx context.Context, parts []int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
			return tasks.QueueSum(ctx, parts, "s", opts...)
		})
		require.NoError(t, err)
		text, err := total.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 3 of 2", text)
		status, err := total.Status(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, status.Attempt)
	})
}

// overfull is a broker with which no group can be gathered.
type overfull struct{ *memory.Broker }

func (overfull) Members(context.Context, broker.Group) ([]*broker.Record, error) {
	return nil, fmt.Errorf("read group g: %w", broker.ErrGroupTooLarge)
}

func TestAGroupThatIsTooLargeFailsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := overfull{newMemory(t)}
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		total, err := taskrt.Group(ctx, func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
			return tasks.QueueHalfBatch(ctx, []tasks.HalfParams{{N: 2}})
		}, func(ctx context.Context, parts []int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
			return tasks.QueueSum(ctx, parts, "s", opts...)
		})
		require.NoError(t, err)
		_, err = total.Wait(ctx)
		require.ErrorContains(t, err, broker.ErrGroupTooLarge.Error())
		status, err := total.Status(ctx)
		require.NoError(t, err)
		require.Equal(t, 1, status.Attempt, "it is not tried again")
	})
}

// TestAGroupIsGatheredOnceItsDeadMemberHasSucceeded queues the dead member again, and
// after it the gathering run.
func TestAGroupIsGatheredOnceItsDeadMemberHasSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var repaired atomic.Bool
		breaks := func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				if run.ID == "broken" && !repaired.Load() {
					return taskrt.Permanent(errors.New("the database is down"))
				}
				return next(ctx, run)
			}
		}
		consume(t, b, taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{breaks}}, tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		total, err := taskrt.Group(ctx, func(ctx context.Context) ([]*taskrt.Handle[int64], error) {
			whole, err := tasks.QueueHalf(ctx, 2)
			if err != nil {
				return nil, err
			}
			broken, err := tasks.QueueHalf(ctx, 4, taskrt.ID("broken"))
			return []*taskrt.Handle[int64]{whole, broken}, err
		}, func(ctx context.Context, parts []int64, opts ...taskrt.QueueOption) (*taskrt.Handle[string], error) {
			return tasks.QueueSum(ctx, parts, "s", opts...)
		})
		require.NoError(t, err)
		again := func(queue, id string) {
			t.Helper()
			n, err := b.RequeueDead(ctx, queue, id)
			require.NoError(t, err)
			require.Equal(t, 1, n, "dead letters queued again")
		}
		fails := func() {
			t.Helper()
			_, err = total.Wait(ctx)
			require.ErrorContains(t, err, "1 of 2 members of the group failed, the first: run broken of task half: failed")
		}
		fails()
		again("sums", total.ID) // too early
		fails()
		repaired.Store(true)
		again("default", "broken")
		time.Sleep(time.Second) // the bubble's clock
		again("sums", total.ID)
		text, err := total.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 3 of 2", text)
	})
}
