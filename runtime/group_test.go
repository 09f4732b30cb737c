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
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestGroupGathersResultsInOrder(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		sum := tasks.NextSum("halves")
		total, err := taskrt.Group(halves(2, 40, 600), sum).Queue(ctx)
		require.NoError(t, err)
		text, err := total.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "halves: 321 of 3", text)

		failing, err := taskrt.Group(halves(2, 3, 4, 5), sum).Queue(ctx)
		require.NoError(t, err)
		_, err = failing.Wait(ctx)
		require.ErrorContains(t, err, "2 of 4 members of the group failed, the first: ")
		require.ErrorContains(t, err, "3 is odd")

		partial, err := taskrt.Group(halves(2, 3, 4, 5), sum.With(taskrt.SkipFailed())).Queue(ctx)
		require.NoError(t, err)
		text, err = partial.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "halves: 3 of 2", text)

		partial, err = taskrt.Group(halves(2, 3), sum).Queue(ctx, taskrt.SkipFailed())
		require.NoError(t, err)
		text, err = partial.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "halves: 1 of 1", text)
	})
}

// TestGroupInTheMiddle has a run follow the one that gathers a group.
func TestGroupInTheMiddle(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		echo, err := taskrt.Then(taskrt.Group(halves(2, 4), sums()), tasks.NextEcho(1)).Queue(ctx)
		require.NoError(t, err)
		answer, err := echo.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 3 of 2", answer.Text)
	})
}

// TestMembersOfAGroupCanBeChains has members of two and three runs, some of which fail at the
// second, are skipped there, or are cancelled.
func TestMembersOfAGroupCanBeChains(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		quarter := func(n int64, opts ...taskrt.QueueOption) taskrt.Call[int64] {
			return taskrt.Then(tasks.CallHalf(n), tasks.NextHalf().With(opts...))
		}
		eighth := taskrt.Then(quarter(80), tasks.NextHalf())
		total, err := taskrt.Group([]taskrt.Call[int64]{quarter(8), tasks.CallHalf(6), eighth}, sums()).Queue(ctx)
		require.NoError(t, err)
		text, err := total.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 15 of 3", text)

		_, err = tasks.QueueHalf(ctx, 2, taskrt.ID("live"), taskrt.Delay(time.Hour))
		require.NoError(t, err)
		held := quarter(8, taskrt.ID("held"), taskrt.Delay(time.Hour))
		members := []taskrt.Call[int64]{quarter(6), quarter(8, taskrt.ID("live")), held, quarter(400)}
		failing, err := taskrt.Group(members, sums()).Queue(ctx)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return tasks.HandleHalf(ctx, "held").Cancel(ctx) == nil }, 20*time.Second, 10*time.Millisecond)
		_, err = failing.Wait(ctx)
		require.ErrorContains(t, err, "3 of 4 members of the group failed, the first: ")
		require.ErrorContains(t, err, "3 is odd")

		partial, err := taskrt.Group(members[:2:2], sums()).Queue(ctx, taskrt.SkipFailed())
		require.NoError(t, err)
		text, err = partial.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 0 of 0", text)
	})
}

// TestMembersOfAGroupCanBeOfSeveralTasks has two tasks with results of one type.
func TestMembersOfAGroupCanBeOfSeveralTasks(t *testing.T) {
	nine := &taskrt.Definition[struct{}, int64]{
		Spec:         taskrt.Spec{Name: "nine", Result: "int64"},
		AppendParams: func(_ *struct{}, b []byte) ([]byte, error) { return codec.AppendMapLen(b, 0), nil },
		ReadParams:   func(_ *struct{}, r *codec.Reader) { r.Skip() },
		AppendResult: func(b []byte, n *int64) ([]byte, error) { return codec.AppendInt(b, *n), nil },
		ReadResult:   func(r *codec.Reader, n *int64) { *n = r.Int64() },
	}
	bound := taskrt.Bind(nine, func(context.Context, *struct{}) (int64, error) { return 9, nil })
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil), []taskrt.Task{bound})
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		total, err := taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(8), taskrt.NewCall(nine, new(struct{}))}, sums()).Queue(ctx)
		require.NoError(t, err)
		text, err := total.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 13 of 2", text)
	})
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
		total, err := taskrt.Group(halves(2, 4), sums()).Queue(ctx)
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
		total, err := taskrt.Group(halves(2), sums()).Queue(ctx)
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
		members := []taskrt.Call[int64]{tasks.CallHalf(2), tasks.CallHalf(4).With(taskrt.ID("broken"))}
		total, err := taskrt.Group(members, sums()).Queue(ctx)
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
