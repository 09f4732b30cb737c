package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// down is a broker that answers no session while it is down.
type down struct {
	broker.Broker
	broker.Leaser
	now atomic.Bool
	// leaves: it can be left all the same.
	leaves bool
}

type downSession struct {
	broker.Session
	d *down
}

var errDown = errors.New("the server is down")

func (d *down) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := d.Leaser.OpenSession(ctx, lease)
	return downSession{s, d}, err
}

func (s downSession) Renew(ctx context.Context) error {
	if s.d.now.Load() {
		return errDown
	}
	return s.Session.Renew(ctx)
}

func (s downSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	if s.d.now.Load() {
		return broker.Finished{}, errDown
	}
	return s.Session.Finish(ctx, outcomes...)
}

func (s downSession) Close(ctx context.Context) error {
	if s.d.now.Load() && !s.d.leaves {
		return errDown
	}
	return s.Session.Close(ctx)
}

// TestWhatCannotBeRecordedAtTheStopIsLeftToTheLease has the broker be away at a stop. The
// runs are not given back, which would not count their delivery.
func TestWhatCannotBeRecordedAtTheStopIsLeftToTheLease(t *testing.T) {
	for name, hold := range map[string]time.Duration{"done": 0, "cancelled": time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t)
				b := &down{Broker: m, Leaser: m, leaves: true}
				var j journal
				do := j.recorder(func(ctx context.Context, run *taskrt.Run, _ string) error {
					if run.Delivery > 1 {
						return nil
					}
					b.now.Store(true)
					select {
					case <-time.After(hold):
					case <-ctx.Done():
					}
					return ctx.Err()
				})
				const lease = 10 * time.Second
				stop := consume(t, b, taskrt.ConsumerConfig{Lease: lease, Grace: time.Second}, tasks.Tasks(do))
				_, err := tasks.QueueRecorderRecord(clientContext(context.Background(), m), "x")
				require.NoError(t, err)
				synctest.Wait()
				start := time.Now()
				err = stop()
				require.ErrorIs(t, err, errDown)
				require.ErrorContains(t, err, "record what became of 1 run: the server is down; they may start again when the lease ends")
				require.LessOrEqual(t, time.Since(start), 3*time.Second, "grace and two seconds")

				consume(t, m, taskrt.ConsumerConfig{Lease: lease}, tasks.Tasks(do))
				time.Sleep(time.Minute)
				entries := j.all()
				require.Len(t, entries, 2)
				require.Equal(t, 2, entries[1].run.Delivery, "each start is a delivery of its own")
			})
		})
	}
}

func TestAnIdleConsumerStopsCleanlyWhileTheServerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		b := &down{Broker: m, Leaser: m}
		var log syncBuffer
		var j journal
		stop := consume(t, b, taskrt.ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(j.recorder(nil)))
		_, err := tasks.QueueRecorderRecord(clientContext(context.Background(), m), "x")
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, j.all(), 1)
		b.now.Store(true)
		require.NoError(t, stop(), "it held nothing")
		require.Contains(t, log.String(), errDown.Error())
	})
}

func TestAStopSaysWhatItWaitsForAndWhatItGaveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var log syncBuffer
		stop := consume(t, m, taskrt.ConsumerConfig{Concurrency: 3, Grace: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, _ *taskrt.Run, _ string) error {
				<-ctx.Done()
				return ctx.Err()
			}}))
		_, err := tasks.QueueRecorderRecordBatch(clientContext(context.Background(), m), make([]tasks.RecorderRecordParams, 5))
		require.NoError(t, err)
		synctest.Wait()
		stopped := make(chan error)
		go func() { stopped <- stop() }()
		synctest.Wait()
		require.Contains(t, log.String(), `level=INFO msg="stopping: waiting up to 3s for 3 running tasks"`, "at once")
		require.NotContains(t, log.String(), "stopped")
		require.NoError(t, <-stopped)
		require.Contains(t, log.String(), `msg="stopped executing tasks" given_back_unstarted=0 given_back_interrupted=3`)
	})
}

func TestWhatHappensToManyRunsIsLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var log syncBuffer
		stop := consume(t, m, taskrt.ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(nil))
		const kinds, each = 3, 100
		for i := range kinds * each {
			require.NoError(t, m.QueueTasks(t.Context(), &broker.TaskRun{
				ID: fmt.Sprint("run-", i), Task: fmt.Sprint("unknown-", i%kinds), Queue: "default", QueuedAt: time.Now(), Payload: []byte{0x80},
			}))
		}
		lines := func() int { return strings.Count(log.String(), "no such task here") }
		time.Sleep(time.Second)
		require.Equal(t, kinds, lines(), "the first of each kind")
		require.Contains(t, log.String(), "task=unknown-1 run=run-1 queue=default")
		time.Sleep(time.Minute)
		require.Equal(t, 7*kinds, lines(), "six sums of each")
		require.Regexp(t, `task=unknown-2 more_runs=\d{3,} last=run-\d+`, log.String())
		require.NoError(t, stop())
		require.Equal(t, 8*kinds, lines(), "what came since")
	})
}
