package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func decode(t *testing.T, payload []byte, params any) {
	t.Helper()
	require.NoError(t, msgpack.Unmarshal(payload, params))
}

func TestResultComesBackTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueEcho(ctx, "hello", 2)
		require.NoError(t, err)
		answer, err := handle.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "hello", answer.Text)
		require.Equal(t, []string{"hello", "hello"}, answer.Parts)
		require.True(t, answer.At.Equal(time.Now()))
		status, err := handle.Status(ctx)
		require.NoError(t, err)
		require.Len(t, status.Attempts, 1)
		require.False(t, status.EndedAt.Before(status.QueuedAt))
		require.Equal(t, taskrt.Status{
			ID: handle.ID, Task: "echo", Queue: "default", State: "succeeded", Attempt: 1,
			QueuedAt: status.QueuedAt, EndedAt: status.EndedAt, Attempts: status.Attempts,
		}, status)

		time.Sleep(time.Hour + time.Second) // the bubble's clock: past the default time that results are kept
		_, err = handle.Wait(ctx)
		require.ErrorIs(t, err, taskrt.ErrNoRecord)
	})
}

func TestUnknownTaskWaitsForAConsumerThatKnowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		all := tasks.Tasks(nil)
		var without []taskrt.Task
		for _, task := range all {
			if task.Name() != "echo" {
				without = append(without, task)
			}
		}
		consume(t, b, taskrt.ConsumerConfig{}, without)
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueEcho(ctx, "patience", 1)
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		status, err := handle.Status(ctx)
		require.NoError(t, err)
		require.Zero(t, status.Attempt)
		consume(t, b, taskrt.ConsumerConfig{}, all)
		answer, err := handle.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "patience", answer.Text)
	})
}

func TestConcurrencyIsNeverExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var running, most atomic.Int64
		var done sync.WaitGroup
		stop := consume(t, b, taskrt.ConsumerConfig{Concurrency: 3}, tasks.Tasks(&tasks.Recorder{Do: func(context.Context, *taskrt.Run, string) error {
			defer done.Done()
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(8 * time.Second) // ignores the end of its context, which comes after 5s
			return nil
		}}))
		ctx := clientContext(context.Background(), b)
		done.Add(30)
		for range 30 {
			_, err := tasks.QueueRecorderRecord(ctx, "x")
			require.NoError(t, err)
		}
		start := time.Now()
		done.Wait()
		require.EqualValues(t, 3, most.Load())
		require.Equal(t, 80*time.Second, time.Since(start))
		require.NoError(t, stop())
	})
}

func TestStopWaitsForRunningTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var finished atomic.Int64
		stop := consume(t, b, taskrt.ConsumerConfig{Concurrency: 2}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, _ *taskrt.Run, _ string) error {
			time.Sleep(4 * time.Second)
			finished.Add(1)
			return ctx.Err()
		}}))
		ctx := clientContext(context.Background(), b)
		for range 10 {
			_, err := tasks.QueueRecorderRecord(ctx, "x")
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		start := time.Now()
		require.NoError(t, stop())
		require.Equal(t, 3*time.Second, time.Since(start))
		require.EqualValues(t, 2, finished.Load())
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 8, lengths["default"], "what was not started stays queued")
	})
}

func TestAfterTheGraceTimeRunsAreCancelledAndHandedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var cause error
		stop := consume(t, b, taskrt.ConsumerConfig{Grace: time.Second}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, _ *taskrt.Run, _ string) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		}}))
		ctx := clientContext(context.Background(), b)
		_, err := tasks.QueueRecorderRecord(ctx, "x")
		require.NoError(t, err)
		time.Sleep(time.Second)
		start := time.Now()
		require.NoError(t, stop())
		require.Equal(t, time.Second, time.Since(start))
		require.EqualError(t, cause, "the consumer stops")

		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(nil)))
		synctest.Wait()
		runs := j.all()
		require.Len(t, runs, 1)
		require.Equal(t, 1, runs[0].run.Attempt, "the interrupted attempt does not count")
	})
}

func TestTaskThatIgnoresTheStopIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		release := make(chan struct{})
		stop := consume(t, b, taskrt.ConsumerConfig{Grace: time.Second}, tasks.Tasks(&tasks.Recorder{Do: func(context.Context, *taskrt.Run, string) error {
			<-release
			return nil
		}}))
		_, err := tasks.QueueRecorderRecord(clientContext(context.Background(), b), "x")
		require.NoError(t, err)
		synctest.Wait()
		start := time.Now()
		require.ErrorContains(t, stop(), "tasks that ignored the end of their contexts go on unsupervised: 1 run")
		require.LessOrEqual(t, time.Since(start), 3*time.Second, "grace and two seconds")
		close(release)
	})
}

// unreliable is a broker whose sessions cannot renew their leases once cut.
type unreliable struct {
	broker.Broker
	broker.Leaser
	cut atomic.Bool
}

type unreliableSession struct {
	broker.Session
	b *unreliable
}

func (u *unreliable) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := u.Leaser.OpenSession(ctx, lease)
	return &unreliableSession{s, u}, err
}

func (s *unreliableSession) Renew(ctx context.Context) error {
	if s.b.cut.Load() {
		<-ctx.Done() // hangs
		return ctx.Err()
	}
	return s.Session.Renew(ctx)
}

func TestRunsEndBeforeAnUnrenewedLeaseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		b := &unreliable{Broker: m, Leaser: m}
		const lease = 10 * time.Second
		type end struct {
			after    time.Duration
			cause    error
			delivery int
		}
		var cut time.Time
		var starts atomic.Int64
		ends := make(chan end, 10)
		consume(t, b, taskrt.ConsumerConfig{Lease: lease, Concurrency: 1}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, run *taskrt.Run, _ string) error {
			if starts.Add(1) == 1 {
				<-ctx.Done()
				ends <- end{time.Since(cut), context.Cause(ctx), run.Delivery}
				return ctx.Err()
			}
			ends <- end{time.Since(cut), nil, run.Delivery}
			return nil
		}}))
		ctx := clientContext(context.Background(), b)
		cut = time.Now()
		b.cut.Store(true)
		_, err := tasks.QueueRecorderExpiring(ctx, "x") // 5m of time
		require.NoError(t, err)

		first := <-ends
		require.ErrorContains(t, first.cause, "lease lost")
		require.Less(t, first.after, lease, "cancelled before the lease ended")
		b.cut.Store(false)
		second := <-ends
		require.NoError(t, second.cause)
		require.Less(t, second.after, lease+2*time.Second+time.Second/2, "started elsewhere in time")
		require.Equal(t, first.delivery+1, second.delivery, "each start is a delivery of its own")
	})
}

func TestWeightsAndStrictOrderOfQueues(t *testing.T) {
	for _, strict := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newMemory(t)
			ctx := clientContext(context.Background(), b)
			const each = 400
			for range each {
				for _, queue := range []string{"critical", "default"} {
					_, err := tasks.QueueRecorderRecord(ctx, queue, taskrt.OnQueue(queue))
					require.NoError(t, err)
				}
			}
			var j journal
			consume(t, b, taskrt.ConsumerConfig{Concurrency: 1, Strict: strict, Queues: map[string]int{"critical": 6, "default": 3}},
				tasks.Tasks(j.recorder(nil)))
			synctest.Wait()
			notes := j.notes()
			require.Len(t, notes, 2*each)
			critical := 0
			for _, note := range notes[:each] {
				if note == "critical" {
					critical++
				}
			}
			if strict {
				require.Equal(t, each, critical)
			} else {
				require.InDelta(t, each*2/3, critical, each/8, "of the first half")
			}
		})
	}
}

func TestMiddlewareWrapsEveryRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var seen []string
		layer := func(name string) taskrt.Middleware {
			return func(next taskrt.Handler) taskrt.Handler {
				return func(ctx context.Context, run *taskrt.Run) error {
					seen = append(seen, name+" before "+run.Task)
					err := next(ctx, run)
					seen = append(seen, name+" after")
					return err
				}
			}
		}
		consume(t, b, taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{layer("outer"), layer("inner")}}, tasks.Tasks(nil))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueEcho(ctx, "x", 1)
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"outer before echo", "inner before echo", "inner after", "outer after"}, seen)
	})
}

func TestUndecodableParametersFailForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil))
		ctx := context.Background()
		for id, payload := range map[string]string{
			"missing": "\x81\xa4text\xa1x", "type": "\x82\xa4text\x01\xa5times\x01", "garbage": "\xdd\xff\xff\xff\xff", "empty": "",
		} {
			require.NoError(t, b.QueueTasks(ctx, &broker.TaskRun{ID: id, Task: "echo", Queue: "default", Payload: []byte(payload), Keep: time.Hour}))
			record, err := b.WaitRecord(ctx, "default", id)
			require.NoError(t, err)
			require.Equal(t, broker.StateFailed, record.State, id)
			require.Equal(t, broker.FailureSchema, record.Failure.Kind, id)
			require.Contains(t, record.Failure.Message, "decode parameters of task echo: ", id)
			require.Equal(t, 1, record.Attempt, id)
		}
	})
}

func TestLineageAndContextInsideATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(ctx context.Context, run *taskrt.Run, note string) error {
			if note == "3" {
				return nil
			}
			_, err := tasks.QueueRecorderRecord(ctx, string(note[0]+1)) // the stub finds its client by itself
			return err
		})))
		_, err := tasks.QueueRecorderRecord(clientContext(context.Background(), b), "1")
		require.NoError(t, err)
		synctest.Wait()
		runs := j.all()
		require.Len(t, runs, 3)
		root := runs[0].run.ID
		require.Empty(t, runs[0].run.ParentID)
		require.Equal(t, root, runs[0].run.RootID)
		require.Equal(t, root, runs[1].run.ParentID)
		require.Equal(t, runs[1].run.ID, runs[2].run.ParentID)
		require.Equal(t, root, runs[2].run.RootID)
	})
	_, ok := taskrt.CurrentRun(context.Background())
	require.False(t, ok)
}

// core hides everything of a broker but the three core methods.
type core struct{ broker.Broker }

func TestABrokerWithThreeMethodsIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := core{newMemory(t)}
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			if run.Attempt < 3 {
				return errors.New("again")
			}
			return nil
		})))
		schedule(t, b, tasks.Tasks(j.recorder(nil)))
		ctx := clientContext(context.Background(), b)
		_, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.ID("one"))
		require.NoError(t, err)
		time.Sleep(10*time.Second + time.Second/2)
		attempts, ticks := 0, 0
		for _, e := range j.all() {
			switch {
			case e.note == "x":
				attempts++
			case e.note == "tick" && e.run.Attempt == 1:
				ticks++
			}
		}
		require.Equal(t, 3, attempts)
		require.Equal(t, 10, ticks)
	})
}

func TestRunsQueuedBeforeATaskChangedItsKindStillRun(t *testing.T) {
	queue := func(b broker.Broker, id, task string, kind broker.Kind, payload string) {
		require.NoError(t, b.QueueTasks(context.Background(), &broker.TaskRun{ID: id, Task: task, Queue: "default", Kind: kind, Payload: []byte(payload), Keep: time.Hour}))
	}
	t.Run("io became cpu", func(t *testing.T) {
		b := newMemory(t)
		queue(b, "was-io", "square", broker.IO, "\x81\xa1n\x05")
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil))
		record, err := b.WaitRecord(childContext(t), "default", "was-io")
		require.NoError(t, err)
		require.Equal(t, broker.StateSucceeded, record.State)
	})
	t.Run("cpu became io with 300 runs queued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newMemory(t)
			for i := range 300 {
				queue(b, fmt.Sprint("was-cpu-", i), "recorder_record", broker.CPU, "\x81\xa4note\xa1x")
			}
			var only []taskrt.Task
			for _, task := range tasks.Tasks(nil) {
				if task.Name() == "recorder_record" {
					only = append(only, task)
				}
			}
			consume(t, b, taskrt.ConsumerConfig{}, only)
			start := time.Now()
			for i := range 300 {
				_, err := b.WaitRecord(context.Background(), "default", fmt.Sprint("was-cpu-", i))
				require.NoError(t, err)
			}
			require.LessOrEqual(t, time.Since(start), 20*time.Second, "of virtual time; one each 10 s takes 50 minutes")
		})
	})
	t.Run("cpu became io, and no other task is cpu", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newMemory(t)
			queue(b, "was-cpu", "recorder_record", broker.CPU, "\x81\xa4note\xa1x")
			var only []taskrt.Task
			for _, task := range tasks.Tasks(nil) {
				if task.Name() == "recorder_record" {
					only = append(only, task)
				}
			}
			consume(t, b, taskrt.ConsumerConfig{}, only)
			start := time.Now()
			record, err := b.WaitRecord(context.Background(), "default", "was-cpu")
			require.NoError(t, err)
			require.Equal(t, broker.StateSucceeded, record.State)
			require.LessOrEqual(t, time.Since(start), 20*time.Second)
		})
	})
}

func TestConsumerRefusesWhatIsWrong(t *testing.T) {
	b := newMemory(t)
	for _, test := range []struct {
		cfg  taskrt.ConsumerConfig
		sets [][]taskrt.Task
		want string
	}{
		{taskrt.ConsumerConfig{}, nil, "make a consumer: it has no tasks; pass what the generated Tasks functions return"},
		{taskrt.ConsumerConfig{}, [][]taskrt.Task{tasks.Tasks(nil), tasks.Tasks(nil)}, `two tasks are named "`},
		{taskrt.ConsumerConfig{Concurrency: -1}, [][]taskrt.Task{tasks.Tasks(nil)}, "make a consumer: field Concurrency is -1, it must be from 0, the default, to 1000000"},
		{taskrt.ConsumerConfig{Processes: 10_001}, [][]taskrt.Task{tasks.Tasks(nil)}, "field Processes is 10001, it must be from 0, the default, to 10000"},
		{taskrt.ConsumerConfig{Lease: time.Millisecond}, [][]taskrt.Task{tasks.Tasks(nil)}, "field Lease is 1ms, it must be at least 100ms"},
		{taskrt.ConsumerConfig{Grace: -1}, [][]taskrt.Task{tasks.Tasks(nil)}, "field Grace is -1ns"},
		{taskrt.ConsumerConfig{Queues: map[string]int{"a": 0}}, [][]taskrt.Task{tasks.Tasks(nil)}, `field Queues: queue "a" has the weight 0`},
	} {
		_, err := taskrt.NewConsumer(b, test.cfg, test.sets...)
		require.ErrorContains(t, err, test.want)
	}
}

// TestQueuesThatAreNotTakenFromAreSaidOnce, and not once a task.
func TestQueuesThatAreNotTakenFromAreSaidOnce(t *testing.T) {
	var log bytes.Buffer
	b := newMemory(t)
	stop := consume(t, b, taskrt.ConsumerConfig{
		Queues: map[string]int{"mail": 1},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, tasks.Tasks(new(journal).recorder(nil)))
	require.NoError(t, stop())
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	require.Regexp(t, `msg="this consumer does not take from the queues of some of its tasks" queues="default, shared, sums" tasks="\w+(, \w+){4} and \d+ more"`, log.String())
}
