package runtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// noParameters is a task that has none.
func noParameters(spec taskrt.Spec) *taskrt.Definition[struct{}, taskrt.None] {
	return &taskrt.Definition[struct{}, taskrt.None]{
		Spec:         spec,
		AppendParams: func(_ *struct{}, b []byte) ([]byte, error) { return codec.AppendMapLen(b, 0), nil },
		ReadParams:   func(_ *struct{}, r *codec.Reader) { r.Skip() },
	}
}

// TestARunOfAVersionWithoutParametersIsLeftToOthers has a version with a parameter take a run
// of one that had none, whose consumer comes up a minute later.
func TestARunOfAVersionWithoutParametersIsLeftToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		before := noParameters(taskrt.Spec{Name: "tick", Kind: taskrt.IO, Keep: time.Hour})
		now := &taskrt.Definition[int, taskrt.None]{
			Spec:         taskrt.Spec{Name: "tick", Kind: taskrt.IO, Keep: time.Hour, Params: "b int"},
			AppendParams: func(p *int, b []byte) ([]byte, error) { return codec.AppendInt(b, int64(*p)), nil },
			ReadParams: func(p *int, r *codec.Reader) {
				var seen uint64
				r.Skip()
				r.Require(seen|^uint64(1), "b")
			},
		}
		ctx := clientContext(context.Background(), b)
		queued, err := taskrt.Queue(ctx, before, &struct{}{})
		require.NoError(t, err)
		call, err := taskrt.NewCall(before, &struct{}{}).Queue(ctx)
		require.NoError(t, err)
		batch, err := taskrt.QueueBatch(ctx, before, make([]struct{}, 1))
		require.NoError(t, err)
		consume(t, b, taskrt.ConsumerConfig{}, []taskrt.Task{taskrt.Bind(now, func(context.Context, *int) (taskrt.None, error) {
			return taskrt.None{}, nil
		})})
		time.Sleep(time.Minute)
		consume(t, b, taskrt.ConsumerConfig{}, []taskrt.Task{taskrt.Bind(before, func(context.Context, *struct{}) (taskrt.None, error) {
			return taskrt.None{}, nil
		})})
		for _, h := range []*taskrt.Handle[taskrt.None]{queued, call, batch[0]} {
			_, err := h.Wait(ctx)
			require.NoError(t, err)
		}
	})
}

// TestAHandleFindsARunThatWasQueuedBeforeItsTaskMoved asks for runs of both queues by id.
func TestAHandleFindsARunThatWasQueuedBeforeItsTaskMoved(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		spec := taskrt.Spec{Name: "send", Kind: taskrt.IO, Queue: "alpha", Keep: time.Hour}
		before := noParameters(spec)
		spec.Queue, spec.From = "beta", []string{"gamma", "alpha"}
		now := noParameters(spec)
		for _, d := range []*taskrt.Definition[struct{}, taskrt.None]{before, now} {
			queued, err := taskrt.Queue(ctx, d, &struct{}{})
			require.NoError(t, err)
			status, err := taskrt.HandleOf(ctx, now, queued.ID).Status(ctx)
			require.NoError(t, err)
			require.Equal(t, d.Spec.Queue, status.Queue)
			_, err = taskrt.HandleOf(ctx, now, queued.ID, taskrt.OnQueue("delta")).Status(ctx)
			require.ErrorIs(t, err, taskrt.ErrNoRecord, "another queue was named")
			require.NoError(t, taskrt.HandleOf(ctx, now, queued.ID).Cancel(ctx))
			_, err = taskrt.HandleOf(ctx, now, queued.ID).Wait(ctx)
			var failed *taskrt.RunError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, taskrt.Cancelled, failed.Kind)
		}
		_, err := taskrt.HandleOf(ctx, now, "unknown").Wait(ctx)
		require.ErrorIs(t, err, taskrt.ErrNoRecord)
		require.ErrorContains(t, err, "if it is not in queue beta or gamma or alpha")
	})
}
