package metrics_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// announced is a broker that knows its instances.
type announced struct {
	*memory.Broker
	mu  sync.Mutex
	all map[string]*broker.Instance
}

func (a *announced) Announce(_ context.Context, i *broker.Instance) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := *i
	c.Seen = time.Now()
	a.all[i.ID] = &c
	return nil
}

func (a *announced) Withdraw(_ context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, id)
	return nil
}

func (a *announced) Instances(context.Context) ([]*broker.Instance, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.all)), nil
}

// TestAProcessThatNobodyScrapesHidesNoFleet has this process scraped, beside others that started
// before it: one serves metrics that nobody reads, the other is scraped as well, for a time.
func TestAProcessThatNobodyScrapesHidesNoFleet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &announced{Broker: memory.New(), all: map[string]*broker.Instance{}}
		defer b.Close()
		task := boundTask("t", func(context.Context) error { return nil })
		consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: slog.New(slog.DiscardHandler), Address: ":8080"}, []taskrt.Task{task})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- consumer.Run(ctx) }()
		collector := newRecorder(t, metrics.Config{}).NewCollector(b, []taskrt.Task{task}).Watch(consumer)
		start := time.Now()
		other := func(id string, scraped time.Time) {
			require.NoError(t, b.Announce(t.Context(), &broker.Instance{
				ID: id, Role: broker.RoleConsumer, Host: "other", PID: 1, Started: start.Add(-time.Hour), Address: "other:8080", Scraped: scraped,
			}))
		}
		shows := func(want bool, when string) {
			t.Helper()
			time.Sleep(15 * time.Second) // the interval of a Prometheus
			_, shown := gather(t, collector)["taskgen_queue_runs"]
			require.Equal(t, want, shown, when)
		}
		for range 4 {
			other("laptop", time.Time{})
			shows(true, "beside one that nobody scrapes")
		}
		other("laptop", time.Now())
		shows(true, "beside one that is scraped only now")
		other("server", start)
		shows(false, "beside one that was scraped before")
		other("server", time.Time{})
		shows(true, "when that is no longer scraped")
		other("server", start)
		shows(false, "when it is scraped again")
		shows(true, "when it has not announced itself for a while")
		stop()
		require.NoError(t, <-stopped)
	})
}
