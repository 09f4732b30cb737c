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
// a run of one of its queues executes, and compares the queues of the others with what
// they did before.
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

	// rate is how many runs of the living queue go through one after the other, and how
	// long the slowest took.
	rate := func(d time.Duration) (n int, slowest time.Duration) {
		for start := time.Now(); time.Since(start) < d; n++ {
			began := time.Now()
			handle, err := tasks.QueueRecorderRecord(ctx, "short", taskrt.OnQueue(living), taskrt.Keep(time.Minute))
			require.NoError(t, err)
			_, err = handle.Wait(ctx)
			require.NoError(t, err)
			slowest = max(slowest, time.Since(began))
		}
		return n, slowest
	}
	long, err := tasks.QueueRecorderMail(ctx, "long", taskrt.OnQueue(living), taskrt.Keep(time.Minute))
	require.NoError(t, err)
	_, err = tasks.QueueRecorderMail(ctx, "dying", taskrt.OnQueue(dying))
	require.NoError(t, err)
	<-began
	rate(time.Second)
	before, slowBefore := rate(2 * time.Second)
	victim.Kill9()
	rate(time.Second) // in which it is noticed
	after, slow := rate(2 * lease)
	t.Logf("%d runs in 2s before, the slowest in %v; %d in 4s after, the slowest in %v", before, slowBefore, after, slow)
	require.Greater(t, after, before, "in twice the time") // without the others' help it is a run a second
	require.EqualValues(t, 1, held.Load(), "a run of the living queue lost its lease")
	require.Positive(t, lost.Load(), "the run of the dead node goes on although its lease ended")
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
