//go:build !windows

package runtime_test

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestOneOfThreeMastersDeadCostsOnlyItsQueues kills a master that has no replica while
// a run of one of its queues executes. The runs of another master's queue go on.
func TestOneOfThreeMastersDeadCostsOnlyItsQueues(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "1000", "--cluster-replica-no-failover", "yes")
	b, err := brokerurl.Open(t.Context(), c.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.(io.Closer).Close() })
	ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), 2*time.Minute)
	t.Cleanup(cancel)

	owner := func(queue string) *redistest.Server { return c.Owner(c.Slot("{" + queue + "}")) }
	victim := c.Nodes[0]
	var dying, living string
	for i := 0; dying == "" || living == ""; i++ {
		switch name := fmt.Sprint("queue-", i); {
		case owner(name) == victim && dying == "":
			dying = name
		case owner(name) != victim && living == "":
			living = name
		}
	}
	var lost, held atomic.Int64
	began, release := make(chan struct{}, 1), make(chan struct{})
	const lease = 2 * time.Second
	consume(t, b, taskrt.ConsumerConfig{Lease: lease, Concurrency: 10, Queues: map[string]int{dying: 1, living: 1}},
		tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, run *taskrt.Run, note string) error {
			switch note {
			case "dying":
				select {
				case began <- struct{}{}:
				default:
				}
				<-ctx.Done()
				lost.Add(1)
				return ctx.Err()
			case "long":
				held.Add(1)
				select {
				case <-release:
				case <-ctx.Done():
					held.Add(-1)
				}
			}
			return ctx.Err()
		}}))

	// pass has runs of the living queue go through one after the other, until there were
	// enough or the time is over.
	pass := func(enough int, d time.Duration) (n int) {
		for start := time.Now(); n < enough && time.Since(start) < d; n++ {
			handle, err := tasks.QueueRecorderRecord(ctx, "short", taskrt.OnQueue(living), taskrt.Keep(time.Minute))
			require.NoError(t, err)
			_, err = handle.Wait(ctx)
			require.NoError(t, err)
		}
		return n
	}
	long, err := tasks.QueueRecorderMail(ctx, "long", taskrt.OnQueue(living), taskrt.Keep(time.Minute))
	require.NoError(t, err)
	_, err = tasks.QueueRecorderMail(ctx, "dying", taskrt.OnQueue(dying))
	require.NoError(t, err)
	<-began
	pass(50, time.Minute)
	victim.Kill9()
	pass(50, time.Second) // in which the death is noticed
	const enough = 40     // of what would be a run a second if each take waited for the dead node
	require.Equal(t, enough, pass(enough, 4*lease), "runs of the living queue in four leases of the dead node's")
	require.Eventually(t, func() bool { return lost.Load() > 0 }, time.Minute, time.Millisecond,
		"the run of the dead node goes on although its lease ended")
	require.EqualValues(t, 1, held.Load(), "a run of the living queue lost its lease")
	close(release)
	_, err = long.Wait(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, held.Load(), "it ran once")

	lengths, err := b.QueueLength(ctx)
	if err == nil || lengths != nil { // the names may have been on the dead node
		require.Contains(t, lengths, living)
	}
	victim.Restart()
	c.WaitStable()
	require.Eventually(t, func() bool {
		info, err := b.(broker.Controls).Queue(ctx, living)
		return err == nil && info.Queued+info.Running == 0
	}, 20*time.Second, 20*time.Millisecond)
}
