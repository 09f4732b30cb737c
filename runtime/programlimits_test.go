package runtime_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestAChangedLimitHoldsForWhatIsQueued has runs that a version queued which let four run at
// once; the one that executes them lets one, and has another name for the task.
func TestAChangedLimitHoldsForWhatIsQueued(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		before, now := keyed("call"), keyed("call_partner", "call")
		for _, d := range []*taskrt.Definition[[]byte, taskrt.None]{before, now} {
			d.Spec.Unique, d.Spec.Fair = 0, false
			d.Spec.Limit = taskrt.Limit{Concurrency: 1}
		}
		before.Spec.Limit.Concurrency = 4
		values, other := codec.AppendString(nil, "a"), codec.AppendString(nil, "b")
		for range 8 {
			_, err := taskrt.Queue(ctx, before, &values)
			require.NoError(t, err)
		}
		_, err := taskrt.Queue(ctx, before, &other)
		require.NoError(t, err)

		var mu sync.Mutex
		running, most, ended := 0, 0, 0
		both, done := make(chan struct{}), make(chan struct{})
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 10}, []taskrt.Task{taskrt.Bind(now, func(ctx context.Context, _ *[]byte) (taskrt.None, error) {
			mu.Lock()
			running++
			most = max(most, running)
			if running == 2 && ended == 0 {
				close(both)
			}
			mu.Unlock()
			select {
			case <-both: // one of each value: the first two run until both do
			case <-ctx.Done():
			}
			mu.Lock()
			defer mu.Unlock()
			running--
			if ended++; ended == 9 {
				close(done)
			}
			return taskrt.None{}, nil
		})})
		select {
		case <-done:
		case <-ctx.Done():
			t.Fatal("the runs have not ended")
		}
		require.Equal(t, 2, most, "runs at once, of two values")
	})
}
