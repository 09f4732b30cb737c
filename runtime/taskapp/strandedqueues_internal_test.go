package taskapp

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestServeWarnsOfQueuesThatNobodyTakesFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.New()
		ctx, stop := context.WithCancel(context.Background())
		queue := func(id, task, queue string) {
			require.NoError(t, b.QueueTasks(ctx, &broker.TaskRun{ID: id, Task: task, Queue: queue, Payload: []byte{0x80}}))
		}
		queue("a", "send", "mail")
		queue("b", "report", "served")
		queue("c", "foreign", "others")
		served := &broker.Instance{ID: "one", Role: broker.RoleConsumer, Queues: map[string]int{"served": 1}}
		i, err := taskrt.NewInspector(b)
		require.NoError(t, err)
		var log bytes.Buffer
		known := func(task string) bool { return task == "send" || task == "report" }
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			watchStranded(ctx, i, known, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		announce := func(d time.Duration) { // as a consumer does, for so long
			for range d / (10 * time.Second) {
				require.NoError(t, b.Announce(ctx, served))
				time.Sleep(10 * time.Second)
			}
			synctest.Wait()
		}
		lines := func() int { return strings.Count(log.String(), "no consumer takes from queues") }
		announce(20 * time.Second)
		require.Zero(t, lines(), "others may still come up")
		announce(11 * time.Minute)
		require.Equal(t, 1, lines(), log.String())
		require.Contains(t, log.String(), "queues=mail tasks=send\n")

		served.Queues["mail"] = 1
		announce(6 * time.Minute)
		delete(served.Queues, "mail")
		queue("d", "report", "left")
		announce(6 * time.Minute)
		require.Equal(t, 2, lines(), log.String())
		require.Contains(t, log.String(), `queues="left, mail" tasks="report, send"`)
		stop()
		<-ended
		require.NoError(t, b.Close())
	})
}
