package runtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestWaitOutlivesAnOutage kills the server under waits, for longer than a call's
// own timeout allows, and begins another one meanwhile. One whose context ends
// says why it has no answer.
func TestWaitOutlivesAnOutage(t *testing.T) {
	t.Parallel() // it mostly waits
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	b := openRedis(t, server)
	ctx, cancel := context.WithTimeout(clientContext(t.Context(), b), time.Minute)
	defer cancel()
	handle, err := tasks.QueueEcho(ctx, "hello", 1)
	require.NoError(t, err)
	ended := make(chan error, 2)
	wait := func() {
		_, err := handle.Wait(ctx)
		ended <- err
	}
	go wait()
	server.Kill9()
	go wait()
	short, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	_, err = handle.Wait(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, broker.ErrUnavailable)
	require.ErrorContains(t, err, "connection refused")
	require.Empty(t, ended, "waits with more time go on")
	server.Restart()
	consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil))
	for range 2 {
		require.NoError(t, <-ended)
	}
}
