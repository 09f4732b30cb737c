package runtime_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestUniqueTasksNameTheRunInTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		gate := make(chan struct{})
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(func(context.Context, *taskrt.Run, string) error {
			<-gate
			return nil
		})))
		ctx := clientContext(context.Background(), b)
		first, err := tasks.QueueRecorderOnce(ctx, "a", 1, taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = tasks.QueueRecorderOnce(ctx, "b", 1)
		require.NoError(t, err, "another note")
		again, err := tasks.QueueRecorderOnce(ctx, "a", 2)
		require.ErrorIs(t, err, taskrt.ErrDuplicate)
		require.Equal(t, first.ID, again.ID, "the run that is there")
		require.EqualError(t, err, "queue task recorder_once as "+first.ID+": run "+first.ID+", queued or running, has the same parameters or id")

		_, err = tasks.QueueRecorderOnceBatch(ctx, []tasks.RecorderOnceParams{{Note: "c"}, {Note: "a"}, {Note: "c"}, {Note: "d"}})
		var duplicates *taskrt.DuplicateError
		require.ErrorAs(t, err, &duplicates)
		require.Len(t, duplicates.Runs, 2)
		require.Equal(t, broker.Duplicate{Index: 1, ID: first.ID}, duplicates.Runs[0])
		require.Equal(t, 2, duplicates.Runs[1].Index)
		_, err = tasks.QueueRecorderOnceBatch(ctx, []tasks.RecorderOnceParams{{Note: "c"}, {Note: "d"}})
		require.NoError(t, err, "the refused batch left no lock")

		close(gate)
		_, err = first.Wait(ctx)
		require.NoError(t, err)
		_, err = tasks.QueueRecorderOnce(ctx, "a", 3)
		require.NoError(t, err, "after the end of the first")
	})
}

// TestARefusedGroupOrChainHasTheHandleOfWhatLives, or none.
func TestARefusedGroupOrChainHasTheHandleOfWhatLives(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		member := func(note string, opts ...taskrt.QueueOption) []taskrt.Call[taskrt.None] {
			return []taskrt.Call[taskrt.None]{tasks.CallRecorderOnce(note, 1).With(opts...)}
		}
		kept := taskrt.Keep(time.Hour)
		gather := taskrt.After[[]taskrt.None](tasks.CallRecorderOnce("gathers", 1).With(kept))
		first, err := taskrt.Group(member("a"), gather).Queue(ctx)
		require.NoError(t, err)

		again, err := taskrt.Group(member("b"), gather).Queue(ctx)
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "the key of what gathers")
		require.Equal(t, first.ID, again.ID)
		status, err := again.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "delayed", status.State)

		record := taskrt.After[[]taskrt.None](tasks.CallRecorderRecord("x").With(kept))
		own, err := taskrt.Group(member("c", taskrt.ID("member")), record).Queue(ctx, taskrt.ID("own"))
		require.NoError(t, err)
		again, err = taskrt.Group(member("d", taskrt.ID("other")), record).Queue(ctx, taskrt.ID("own"))
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "the id of what gathers")
		require.Equal(t, own.ID, again.ID)
		again, err = taskrt.Group(member("d", taskrt.ID("member")), record).Queue(ctx, taskrt.ID("new"))
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "the id of a member")
		require.Nil(t, again)
		again, err = taskrt.Group(member("a"), record).Queue(ctx)
		var duplicates *taskrt.DuplicateError
		require.ErrorAs(t, err, &duplicates, "the key of a member")
		require.Len(t, duplicates.Runs, 1)
		require.Nil(t, again)

		after := taskrt.After[taskrt.None](tasks.CallRecorderRecord("x"))
		again, err = taskrt.Then(tasks.CallRecorderOnce("a", 1), after).Queue(ctx)
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "the key of the first")
		require.Nil(t, again)
	})
}

func TestLimitsHoldAcrossConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		running, most := map[string]int{}, map[string]int{}
		var mu sync.Mutex
		count := func(note string, by int) {
			mu.Lock()
			defer mu.Unlock()
			running[note] += by
			most[note] = max(most[note], running[note])
		}
		recorder := j.recorder(func(_ context.Context, _ *taskrt.Run, note string) error {
			count(note, 1)
			time.Sleep(100 * time.Millisecond)
			count(note, -1)
			return nil
		})
		for range 3 {
			consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(recorder))
		}
		ctx := clientContext(context.Background(), b)
		began := time.Now()
		for i := range 20 {
			for _, tenant := range []string{"a", "b"} {
				_, err := tasks.QueueRecorderLimited(ctx, tenant, i)
				require.NoError(t, err)
			}
		}
		for range 7 {
			_, err := tasks.QueueRecorderRated(ctx, "rated")
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, map[string]int{"a": 2, "b": 2, "rated": 3}, most)
		entries := j.all()
		require.Len(t, entries, 47)
		last, starts := time.Time{}, []time.Time(nil)
		for _, e := range entries {
			if e.note == "rated" {
				starts = append(starts, e.at)
			} else {
				last = e.at
			}
		}
		require.Less(t, last.Sub(began), 1100*time.Millisecond, "when the last limited run started: slots were never idle")
		for i, at := range starts[3:] {
			require.GreaterOrEqual(t, at.Sub(starts[i]), time.Second, "from a start to the third after it")
		}
	})
}

func TestTenantsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		for _, tenant := range []string{"a", "a", "a", "a", "b", "c", "c"} {
			_, err := tasks.QueueRecorderShared(ctx, tenant, 1)
			require.NoError(t, err)
		}
		var j journal
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, tasks.Tasks(j.recorder(nil)))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"a", "b", "c", "a", "c", "a", "a"}, j.notes())
	})
}

func TestQueueMiddlewareWrapsQueueing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		stamp := func(value string) taskrt.QueueMiddleware {
			return func(next taskrt.QueueHandler) taskrt.QueueHandler {
				return func(ctx context.Context, runs ...*broker.TaskRun) error {
					for _, run := range runs {
						if run.Headers == nil {
							run.Headers = map[string]string{}
						}
						run.Headers["by"] += value
					}
					if runs[0].Task == "echo" {
						return errors.New("no echo today")
					}
					return next(ctx, runs...)
				}
			}
		}
		client := taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{stamp("1"), stamp("2")}})
		ctx := taskrt.WithClient(context.Background(), client)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(nil)))
		_, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Header("by", "0"))
		require.NoError(t, err)
		synctest.Wait() // the first run ends before there is a second
		_, err = tasks.QueueRecorderRecordBatch(ctx, []tasks.RecorderRecordParams{{Note: "y"}})
		require.NoError(t, err)
		_, err = tasks.QueueEcho(ctx, "x", 1)
		require.ErrorContains(t, err, "queue task echo: no echo today")
		time.Sleep(time.Second)
		entries := j.all()
		require.Len(t, entries, 2)
		require.Equal(t, "012", entries[0].run.Headers["by"])
		require.Equal(t, "12", entries[1].run.Headers["by"])
	})
}

// TestLimitedRunsGetSlotsThatComeFree has all slots of a consumer in use when it asks for
// more.
func TestLimitedRunsGetSlotsThatComeFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, tasks.Tasks(j.recorder(func(_ context.Context, _ *taskrt.Run, note string) error {
			time.Sleep(5 * time.Millisecond) // so short that it takes ahead
			return nil
		})))
		for range 40 {
			_, err := tasks.QueueRecorderRecord(ctx, "plain")
			require.NoError(t, err)
		}
		for i := range 5 {
			_, err := tasks.QueueRecorderLimited(ctx, "limited", i)
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		require.Len(t, j.all(), 45)
	})
}
