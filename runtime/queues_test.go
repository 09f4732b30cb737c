package runtime_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

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
