package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestAllThatMatchIsChanged(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		const many = 2500 // more than two pages
		for q, delay := range []time.Duration{0, time.Hour} {
			_, err := tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, many), taskrt.OnQueue(fmt.Sprintf("queue-%d", q)), taskrt.Delay(delay))
			require.NoError(t, err)
			_, err = tasks.QueueEcho(ctx, "x", 1, taskrt.OnQueue(fmt.Sprintf("queue-%d", q)), taskrt.Delay(delay))
			require.NoError(t, err)
		}
		counts := func() (queued, delayed, dead int64) {
			list, err := i.Queues(ctx)
			require.NoError(t, err)
			for _, q := range list.Queues {
				queued, delayed, dead = queued+q.Queued, delayed+q.Delayed, dead+q.Dead
			}
			return queued, delayed, dead
		}
		records := taskrt.RunFilter{Task: "recorder_record"}
		r, err := i.CancelAll(ctx, records, taskrt.ChangeOptions{DryRun: true})
		require.NoError(t, err)
		require.Equal(t, 2*many, r.Changed)
		require.EqualValues(t, 2*many+2, r.Total)
		queued, delayed, _ := counts()
		require.Equal(t, [2]int64{many + 1, many + 1}, [2]int64{queued, delayed}, "a dry run changes nothing")

		r, err = i.RunNow(ctx, records, taskrt.ChangeOptions{})
		require.NoError(t, err)
		require.Equal(t, many, r.Changed)
		queued, delayed, _ = counts()
		require.Equal(t, [2]int64{2*many + 1, 1}, [2]int64{queued, delayed})

		stopped, stop := context.WithCancel(ctx)
		changed := 0
		r, err = i.CancelAll(stopped, records, taskrt.ChangeOptions{Progress: func(done taskrt.Changes) {
			if changed = done.Changed; changed > 0 {
				stop()
			}
		}})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, changed, r.Changed)
		require.Positive(t, r.Changed)
		require.Less(t, r.Changed, 2*many)
		rest, err := i.CancelAll(ctx, records, taskrt.ChangeOptions{})
		require.NoError(t, err)
		require.Equal(t, 2*many, r.Changed+rest.Changed)
		require.Zero(t, rest.Stayed)
		queued, delayed, _ = counts()
		require.Equal(t, [2]int64{1, 1}, [2]int64{queued, delayed}, "the echoes stay")

		r, err = i.CancelAll(ctx, taskrt.RunFilter{Queues: []string{"queue-0"}}, taskrt.ChangeOptions{PerSecond: 1000})
		require.NoError(t, err)
		require.Equal(t, 1, r.Changed)
		_, err = i.CancelAll(ctx, taskrt.RunFilter{States: []taskrt.State{broker.StateFailed}}, taskrt.ChangeOptions{})
		require.ErrorContains(t, err, "cancel runs: those in state failed have ended")
	})
}

func TestAllDeadLettersThatMatchAreChanged(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		for _, queue := range []string{"default", "mail"} {
			for n, kind := range []taskrt.FailureKind{taskrt.Failed, taskrt.Timeout, taskrt.Failed} {
				_, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.ID(fmt.Sprintf("%s-%d", queue, n)), taskrt.OnQueue(queue))
				require.NoError(t, err)
				end(t, ctx, b, queue, 1, broker.Dead, &broker.Failure{Kind: kind, Message: "told to"})
			}
		}
		_, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.ID("mail-0"), taskrt.OnQueue("mail"))
		require.NoError(t, err)
		r, err := i.Requeue(ctx, taskrt.RunFilter{Kind: taskrt.Failed}, taskrt.ChangeOptions{DryRun: true})
		require.NoError(t, err)
		require.Equal(t, 4, r.Changed)
		r, err = i.Requeue(ctx, taskrt.RunFilter{Kind: taskrt.Failed}, taskrt.ChangeOptions{})
		require.NoError(t, err)
		require.Equal(t, 3, r.Changed)
		require.Equal(t, 1, r.Stayed)
		require.Equal(t, "mail", r.Stays[0].Queue)
		require.Equal(t, "mail-0", r.Stays[0].ID)
		require.NotEmpty(t, r.Stays[0].Why)

		r, err = i.Delete(ctx, taskrt.RunFilter{IDs: []string{"mail-0", "mail-1", "mail-2", "nobody"}}, taskrt.ChangeOptions{})
		require.NoError(t, err)
		require.Equal(t, 2, r.Changed)
		require.Equal(t, []string{"mail-2", "nobody"}, r.Missing)
		page, err := i.Dead(ctx, taskrt.RunFilter{}, taskrt.PageOptions{})
		require.NoError(t, err)
		require.Len(t, page.Letters, 1)
		require.Equal(t, "default-1", page.Letters[0].ID)
	})
}

// upon is a broker on which others are up than have announced themselves.
type upon struct {
	*memory.Broker
	up  []*broker.Instance
	bad string // queue that cannot be read
}

func (u *upon) Announce(context.Context, *broker.Instance) error { return nil }
func (u *upon) Withdraw(context.Context, string) error           { return nil }
func (u *upon) Instances(context.Context) ([]*broker.Instance, error) {
	return u.up, nil
}

func (u *upon) FindRuns(ctx context.Context, queue string, state broker.State, s broker.RunSearch) (*broker.RunPage, error) {
	if queue == u.bad {
		return nil, errors.New("out of order")
	}
	return u.Broker.FindRuns(ctx, queue, state, s)
}
