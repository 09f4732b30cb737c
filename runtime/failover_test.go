//go:build !windows

package runtime_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestAFailoverThatForgetsEndsHoldsNothing has runs end on a master whose replica
// lags and takes over, while their consumer goes on with longer runs.
func TestAFailoverThatForgetsEndsHoldsNothing(t *testing.T) {
	t.Parallel() // it mostly waits
	const lease, long = 5 * time.Second, 5
	master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	replica := redistest.Start(t, "--repl-diskless-sync-delay", "0", "--replicaof", strings.Replace(master.Addr(), ":", " ", 1))
	address := redistest.StartAddress(t, master)
	b, err := brokerurl.Open(t.Context(), address.URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(io.Closer).Close()) })
	ctx := clientContext(t.Context(), b)

	var mu sync.Mutex
	starts := map[string]int{}
	started := func(note string) int {
		mu.Lock()
		defer mu.Unlock()
		return starts[note]
	}
	release := map[string]chan struct{}{"long": make(chan struct{}), "short": make(chan struct{}), "tenant": make(chan struct{})}
	consume(t, b, taskrt.ConsumerConfig{Lease: lease, Concurrency: 20}, tasks.Tasks(&tasks.Recorder{
		Do: func(ctx context.Context, _ *taskrt.Run, note string) error {
			mu.Lock()
			starts[note]++
			mu.Unlock()
			select {
			case <-release[note]:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
	}))
	keep := taskrt.Keep(time.Hour)
	for range long {
		_, err := tasks.QueueRecorderBrief(ctx, "long") // which has no short timeout
		require.NoError(t, err)
	}
	once, err := tasks.QueueRecorderOnce(ctx, "short", 1, keep)
	require.NoError(t, err)
	var ended []*taskrt.Handle[taskrt.None]
	for n := range 2 {
		h, err := tasks.QueueRecorderLimited(ctx, "tenant", n, keep)
		require.NoError(t, err)
		ended = append(ended, h)
	}
	ended = append(ended, once)
	require.Eventually(t, func() bool {
		return started("long") == long && started("short") == 1 && started("tenant") == 2
	}, 10*time.Second, time.Millisecond)
	replicated(t, master)

	_, err = replica.Do("REPLICAOF", "NO", "ONE") // from now on it lags
	require.NoError(t, err)
	close(release["short"])
	close(release["tenant"])
	for _, h := range ended {
		_, err := h.Wait(ctx)
		require.NoError(t, err)
	}
	master.Kill9()
	address.MoveTo(replica)

	require.Eventually(t, func() bool {
		for _, h := range ended {
			if status, err := h.Status(ctx); err != nil || status.State != broker.StateSucceeded {
				return false
			}
		}
		return true
	}, lease+2*time.Second, 20*time.Millisecond, "nothing that has ended is running")
	again, err := tasks.QueueRecorderOnce(ctx, "short", 2, keep)
	require.NoError(t, err, "the unique key is free")
	_, err = again.Wait(ctx)
	require.NoError(t, err)
	next, err := tasks.QueueRecorderLimited(ctx, "tenant", 3, keep)
	require.NoError(t, err)
	_, err = next.Wait(ctx)
	require.NoError(t, err, "the limit has room")
	require.Equal(t, long, started("long"), "the long runs went on")
	close(release["long"])
	require.Eventually(t, func() bool {
		info, err := b.(broker.Controls).Queue(ctx, "default")
		return err == nil && info.Queued+info.Delayed+info.Running == 0
	}, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, long, started("long"))
}

// replicated waits until a replica has what the server did.
func replicated(t *testing.T, master *redistest.Server) {
	t.Helper()
	require.Eventually(t, func() bool {
		reply, err := master.Do("INFO", "replication")
		if err != nil {
			return false
		}
		text, offsets := strings.Fields(reply.(string)), []string{}
		for _, line := range text {
			if offset, ok := strings.CutPrefix(line, "master_repl_offset:"); ok {
				offsets = append(offsets, offset)
			}
			if _, rest, ok := strings.Cut(line, ",offset="); ok && strings.HasPrefix(line, "slave0:") {
				offset, _, _ := strings.Cut(rest, ",")
				offsets = append(offsets, offset)
			}
		}
		return len(offsets) == 2 && offsets[0] == offsets[1]
	}, 20*time.Second, 10*time.Millisecond)
}
