package runtime_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestQueuesThatMatchAreTakenFrom has hundreds of queues appear while the consumer runs,
// and some that do not match.
func TestQueuesThatMatchAreTakenFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		queue := func(name string) {
			t.Helper()
			_, err := tasks.QueueRecorderRecord(ctx, name, taskrt.OnQueue(name))
			require.NoError(t, err)
		}
		queue("tenant-before")
		queue("other")
		queue("tenant-x-slow")
		var j journal
		consume(t, b, taskrt.ConsumerConfig{Queues: map[string]int{"tenant-*": 1, "*-slow*": 2, "named": 3}}, tasks.Tasks(j.recorder(nil)))
		synctest.Wait()
		require.ElementsMatch(t, []string{"tenant-before", "tenant-x-slow"}, j.notes())
		for i := range 300 {
			queue(fmt.Sprintf("tenant-%d", i))
		}
		queue("named")
		queue("tenant")
		queue("my-tenant-1")
		queue("a-slow-b")
		time.Sleep(3 * time.Second)
		require.Len(t, j.notes(), 2+300+2)
		require.Contains(t, j.notes(), "a-slow-b")
		require.NotContains(t, j.notes(), "tenant")
		require.NotContains(t, j.notes(), "my-tenant-1")
		require.NotContains(t, j.notes(), "other")
	})
}

// TestRunsAreTakenFromTheQueuesThatATaskHadBefore queues runs as the version did that had
// the task in another queue.
func TestRunsAreTakenFromTheQueuesThatATaskHadBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		type none = struct{}
		d := &taskrt.Definition[none, taskrt.None]{
			Spec:         taskrt.Spec{Name: "send", Queue: "beta", From: []string{"alpha"}},
			AppendParams: func(_ *none, b []byte) ([]byte, error) { return codec.AppendMapLen(b, 0), nil },
			ReadParams:   func(_ *none, r *codec.Reader) { r.MapLen() },
		}
		var took []string
		bound := taskrt.Bind(d, func(ctx context.Context, _ *none) (taskrt.None, error) {
			run, _ := taskrt.CurrentRun(ctx)
			took = append(took, run.Queue)
			return taskrt.None{}, nil
		})
		for _, opts := range [][]taskrt.QueueOption{{taskrt.OnQueue("alpha")}, {taskrt.OnQueue("other")}, nil} {
			_, err := taskrt.Queue(ctx, d, &none{}, opts...)
			require.NoError(t, err)
		}
		stop := consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, []taskrt.Task{bound})
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		require.ElementsMatch(t, []string{"alpha", "beta"}, took)
	})
}

func TestConsumerWaitsForAQueueThatMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		stop := consume(t, b, taskrt.ConsumerConfig{Queues: map[string]int{"a*b": 1}}, tasks.Tasks(j.recorder(nil)))
		time.Sleep(time.Minute)
		_, err := tasks.QueueRecorderRecord(clientContext(context.Background(), b), "x", taskrt.OnQueue("a-b"))
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"x"}, j.notes())
		require.NoError(t, stop())
	})
}
