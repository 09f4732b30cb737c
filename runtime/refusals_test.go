package runtime_test

import (
	"context"
	"errors"
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

func TestABrokerThatCannotTellKindsApartKeepsTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := core{newMemory(t)}
		var running, most atomic.Int64
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 3}, tasks.Tasks(&tasks.Recorder{Do: func(context.Context, *taskrt.Run, string) error {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(4 * time.Second)
			return nil
		}}))
		ctx := clientContext(context.Background(), b)
		for range 50 {
			_, err := tasks.QueueRecorderRecord(ctx, "x")
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		require.EqualValues(t, 3, most.Load())
	})
}

// uncounted is a core broker that does not count deliveries.
type uncounted struct{ broker.Broker }

func (u uncounted) GetTaskRuns(ctx context.Context, queues []string, n int) ([]*broker.TaskRun, error) {
	runs, err := u.Broker.GetTaskRuns(ctx, queues, n)
	for _, run := range runs {
		run.Deliveries = 0
	}
	return runs, err
}

func TestARunThatCannotBeHandedBackHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := uncounted{newMemory(t)}
		var j journal
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 2}, tasks.Tasks(j.recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			if run.Attempt == 1 {
				return errors.New("again")
			}
			return nil
		})))
		ctx := clientContext(context.Background(), b)
		require.NoError(t, b.QueueTasks(ctx, &broker.TaskRun{ID: "unknown", Task: "unknown", Queue: "default", Payload: []byte{0x80}}))
		time.Sleep(time.Second)
		_, err := tasks.QueueRecorderRecord(ctx, "x")
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		require.Len(t, j.all(), 2)
		require.Equal(t, 1, j.all()[0].run.Delivery)
	})
}

func TestARunGrownTooLargeForItsRetryIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &growing{Broker: newMemory(t)}
		b.Leaser = b.Broker.(broker.Leaser)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(&tasks.Recorder{Do: func(context.Context, *taskrt.Run, string) error { return errors.New("again") }}))
		ctx := clientContext(context.Background(), b.Broker)
		_, err := tasks.QueueRecorderRecord(ctx, "x")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		dead, err := b.Broker.(broker.Records).DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Len(t, dead, 1)
		require.Contains(t, dead[0].Failure.Message, "the run cannot be stored for its retry: header")
	})
}

func TestARunGrownTooLargeToBeGivenBackIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &growing{Broker: newMemory(t), more: 2}
		b.Leaser = b.Broker.(broker.Leaser)
		ctx := clientContext(context.Background(), b.Broker)
		for _, note := range []string{"long", "behind", "behind"} {
			_, err := tasks.QueueRecorderRecord(ctx, note)
			require.NoError(t, err)
		}
		var j journal
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, tasks.Tasks(j.recorder(func(context.Context, *taskrt.Run, string) error {
			time.Sleep(time.Second)
			return nil
		})))
		time.Sleep(time.Minute)
		require.Equal(t, []string{"long"}, j.notes())
		dead, err := b.Broker.(broker.Records).DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Len(t, dead, 2, "those that waited behind it")
		require.Contains(t, dead[0].Failure.Message, "the run cannot be stored for its retry: header")
	})
}

// growing adds a header that is too large to every run it hands out, and hands
// out more than it was asked for.
type growing struct {
	broker.Broker
	broker.Leaser
	more int
}

type growingSession struct {
	broker.Session
	more int
}

func (g *growing) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := g.Leaser.OpenSession(ctx, lease)
	return growingSession{s, g.more}, err
}

func (s growingSession) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	want.IO += s.more
	runs, err := s.Session.Take(ctx, want)
	for _, run := range runs {
		run.Headers = map[string]string{"trace": strings.Repeat("x", 2*broker.MaxHeader)}
	}
	return runs, err
}

func TestExpiryIsForRunsThatNeverStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			if run.Attempt == 1 {
				return taskrt.RetryAfter(time.Minute, errors.New("not yet"))
			}
			return nil
		})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderExpiring(ctx, "x") // within 10s
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.NoError(t, err, "it was started in time, so its retry runs")
	})
}

func TestMiddlewareSeesPanicsAndItsOwnHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var seen []error
		layer := func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				require.NotContains(t, run.Headers, "scribble", "what a middleware writes is not stored")
				run.Headers["scribble"] = "x"
				err := next(ctx, run)
				seen = append(seen, err)
				return err
			}
		}
		consume(t, b, taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{layer}},
			tasks.Tasks(&tasks.Recorder{Do: func(context.Context, *taskrt.Run, string) error { panic("at the disco") }}))
		require.NoError(t, b.QueueTasks(context.Background(), &broker.TaskRun{
			ID: "a", Task: "recorder_record", Queue: "default", Payload: []byte("\x81\xa4note\xa1x"), Headers: map[string]string{"a": "b"}}))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, seen, 4)
		require.EqualError(t, seen[0], "panic: at the disco")
	})
}

func TestMiddlewareCannotInventAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		skip := func(taskrt.Handler) taskrt.Handler {
			return func(context.Context, *taskrt.Run) error { return nil }
		}
		consume(t, b, taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{skip}}, tasks.Tasks(nil))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueEcho(ctx, "x", 1)
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.ErrorContains(t, err, "a middleware returned nil without calling the task, which has a result")
	})
}

// deaf loses the reply of the first Finish.
type deaf struct {
	broker.Broker
	broker.Leaser
	once atomic.Bool
}

type deafSession struct {
	broker.Session
	d *deaf
}

func (d *deaf) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := d.Leaser.OpenSession(ctx, lease)
	return &deafSession{s, d}, err
}

func (s *deafSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	done, err := s.Session.Finish(ctx, outcomes...)
	if s.d.once.CompareAndSwap(false, true) {
		return broker.Finished{}, errors.New("reply lost")
	}
	return done, err
}

func TestALostReplyIsNoLostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		b := &deaf{Broker: m, Leaser: m}
		var log syncBuffer
		var j journal
		consume(t, b, taskrt.ConsumerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, tasks.Tasks(j.recorder(nil)))
		_, err := tasks.QueueRecorderRecord(clientContext(context.Background(), m), "x")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Len(t, j.all(), 1)
		require.Contains(t, log.String(), "trying again")
		require.NotContains(t, log.String(), "was not applied")
	})
}

// late is a broker whose first joins fail.
type late struct {
	broker.Broker
	broker.Leaser
	joins, fail atomic.Int64
}

func (l *late) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	l.joins.Add(1)
	if l.fail.Add(-1) >= 0 {
		return nil, errors.New("not yet")
	}
	return l.Leaser.OpenSession(ctx, lease)
}

func TestTheLeaseCountsFromTheJoinThatSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		b := &late{Broker: m, Leaser: m}
		b.fail.Store(4)
		stop := consume(t, b, taskrt.ConsumerConfig{Lease: 200 * time.Millisecond}, tasks.Tasks(nil))
		time.Sleep(time.Minute)
		require.NoError(t, stop())
		require.EqualValues(t, 5, b.joins.Load())
	})
}

func TestTheApplicationsPayloadLimitHoldsInsideTasks(t *testing.T) {
	for _, test := range []struct {
		limit int
		fits  bool
	}{{0, false}, {8 << 20, true}} {
		synctest.Test(t, func(t *testing.T) {
			b := newMemory(t)
			var inner error
			consume(t, b, taskrt.ConsumerConfig{MaxPayload: test.limit}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, _ *taskrt.Run, _ string) error {
				_, inner = tasks.QueueEcho(ctx, strings.Repeat("x", 2<<20), 1, taskrt.OnQueue("elsewhere"))
				return nil
			}}))
			_, err := tasks.QueueRecorderRecord(clientContext(context.Background(), b), "x")
			require.NoError(t, err)
			synctest.Wait()
			if test.fits {
				require.NoError(t, inner)
			} else {
				require.ErrorIs(t, inner, taskrt.ErrPayloadTooLarge)
			}
		})
	}
}

func TestARunWithoutAKindThatThereIsEndsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &strange{Broker: newMemory(t)}
		b.Leaser = b.Broker.(broker.Leaser)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil))
		ctx := clientContext(context.Background(), b.Broker)
		_, err := tasks.QueueEcho(ctx, "x", 1)
		require.NoError(t, err)
		synctest.Wait()
		dead, err := b.Broker.(broker.Records).DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Len(t, dead, 1)
		require.Contains(t, dead[0].Failure.Message, "kind 5")
	})
}

// strange hands out runs of a kind that there is not.
type strange struct {
	broker.Broker
	broker.Leaser
}

type strangeSession struct{ broker.Session }

func (g *strange) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := g.Leaser.OpenSession(ctx, lease)
	return strangeSession{s}, err
}

func (s strangeSession) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	runs, err := s.Session.Take(ctx, want)
	for _, run := range runs {
		run.Kind = 5
	}
	return runs, err
}
