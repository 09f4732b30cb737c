package metrics_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/metrics"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// oddQueue is a broker of which one queue cannot be read in full.
type oddQueue struct{ *memory.Broker }

func (o oddQueue) Queue(ctx context.Context, queue string) (*broker.QueueInfo, error) {
	info, err := o.Broker.Queue(ctx, queue)
	if queue == "odd" {
		err = errors.New("a key is of a wrong type")
	}
	return info, err
}

// TestAQueueThatCannotBeReadIsNoOutage: the broker is up, and the queue counts as unread.
func TestAQueueThatCannotBeReadIsNoOutage(t *testing.T) {
	for queue, want := range map[string]float64{"odd": 1, "even": 0} {
		r := newRecorder(t, metrics.Config{})
		b := memory.New()
		t.Cleanup(func() { require.NoError(t, b.Close()) })
		got := gather(t, r.NewCollector(oddQueue{b}, []taskrt.Task{testTask("a", queue), testTask("b", "fine")}))
		require.EqualValues(t, 1, got["taskgen_up"].GetMetric()[0].GetGauge().GetValue(), queue)
		require.Equal(t, want, got["taskgen_queues_unread"].GetMetric()[0].GetGauge().GetValue(), queue)
		require.Contains(t, series(got["taskgen_queue_runs"]), "queue=fine state=ready")
	}
}
