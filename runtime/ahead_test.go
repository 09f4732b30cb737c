package runtime_test

import (
	"context"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestRunsHeldUpBehindALongOneGoToAnotherConsumer has short runs make a consumer with one
// slot prefetch more, before a long run takes its slot.
func TestRunsHeldUpBehindALongOneGoToAnotherConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		long := make(chan struct{})
		work := tasks.Tasks(j.recorder(func(ctx context.Context, _ *taskrt.Run, note string) error {
			if note == "long" {
				<-long
			}
			time.Sleep(time.Millisecond) // the bubble's clock
			return nil
		}))
		ctx := clientContext(context.Background(), b)
		queue := func(note string, n int) {
			for range n {
				_, err := tasks.QueueRecorderRecord(ctx, note)
				require.NoError(t, err)
			}
		}
		queue("short", 200)
		queue("long", 1)
		queue("held up", 10)
		stop := consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, work)
		time.Sleep(time.Second)
		require.Len(t, j.notes(), 201, "the rest waits for the slot")
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 10, lengths["default"], "runs that a consumer does not keep for itself")

		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, work)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		runs := j.all()
		require.Len(t, runs, 211)
		for _, run := range runs[201:] {
			require.Equal(t, 1, run.run.Attempt)
			require.Equal(t, 1, run.run.Delivery, "to be handed back is no delivery")
		}
		close(long)
		synctest.Wait()
		require.NoError(t, stop())
	})
}

// TestATaskThatEndsItsGoroutineCostsNoSlot has tasks end the goroutines of their slots.
func TestATaskThatEndsItsGoroutineCostsNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var ended atomic.Int64
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 2}, tasks.Tasks(&tasks.Recorder{Do: func(context.Context, *taskrt.Run, string) error {
			ended.Add(1)
			goruntime.Goexit()
			return nil
		}}))
		ctx := clientContext(context.Background(), b)
		for range 100 {
			_, err := tasks.QueueRecorderRecord(ctx, "x")
			require.NoError(t, err)
		}
		time.Sleep(time.Hour) // the bubble's clock: past all retries
		require.EqualValues(t, 400, ended.Load(), "each run has four attempts")
	})
}

// stuck is a broker whose Finish does not return in time.
type stuck struct {
	broker.Broker
	broker.Leaser
}

type stuckSession struct{ broker.Session }

func (b stuck) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := b.Leaser.OpenSession(ctx, lease)
	return stuckSession{s}, err
}

func (stuckSession) Finish(ctx context.Context, _ ...broker.Outcome) (broker.Finished, error) {
	<-ctx.Done()
	return broker.Finished{}, ctx.Err()
}

// TestTheContextOfATaskEndsBeforeItsOutcomeIsHandedOver has more outcomes wait for the
// broker than a consumer keeps, so that Finish blocks.
func TestTheContextOfATaskEndsBeforeItsOutcomeIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		var (
			mu   sync.Mutex
			last context.Context
			runs int
		)
		const queued = 3000
		consume(t, stuck{m, m}, taskrt.ConsumerConfig{Concurrency: 1, Processes: 1}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, _ *taskrt.Run, _ string) error {
			mu.Lock()
			defer mu.Unlock()
			last = ctx
			runs++
			return nil
		}}))
		_, err := tasks.QueueRecorderRecordBatch(clientContext(context.Background(), m), make([]tasks.RecorderRecordParams, queued))
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Greater(t, runs, 700)
		require.Less(t, runs, queued, "it did not wait")
		require.ErrorIs(t, last.Err(), context.Canceled)
	})
}

// TestTheContextOfATaskEndsForWhatOutlivesIt covers each way of asking a task's
// context, which is made when first asked.
func TestTheContextOfATaskEndsForWhatOutlivesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var unasked, asked context.Context
		told := make(chan struct{})
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, _ *taskrt.Run, note string) error {
			require.NoError(t, ctx.Err())
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 5*time.Second, time.Until(deadline), "the task's timeout")
			switch note {
			case "unasked":
				unasked = ctx
			case "asked":
				asked = ctx
				context.AfterFunc(ctx, func() { close(told) })
				require.NotNil(t, ctx.Done())
			case "late":
				time.Sleep(6 * time.Second)
				require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
				require.ErrorIs(t, context.Cause(ctx), context.DeadlineExceeded)
				<-ctx.Done()
			}
			return nil
		}}))
		ctx := clientContext(context.Background(), b)
		for _, note := range []string{"unasked", "asked", "late"} {
			_, err := tasks.QueueRecorderRecord(ctx, note)
			require.NoError(t, err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, ended := range []context.Context{unasked, asked} {
			require.ErrorIs(t, ended.Err(), context.Canceled)
			<-ended.Done()
			require.ErrorIs(t, context.Cause(ended), context.Canceled)
		}
		<-told
	})
}
