package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// lame is a broker that fails, after a while, in everything about one queue.
type lame struct {
	*memory.Broker
	queue string
	after time.Duration // an error comes so late
	down  atomic.Bool
	taken atomic.Int64 // runs of the queue
}

type lameSession struct {
	broker.Session
	l *lame
}

var errLame = errors.New("the queue is lame")

func (l *lame) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := l.Broker.OpenSession(ctx, lease)
	return &lameSession{s, l}, err
}

// fail takes its time, and fails, if a queue among those is the lame one.
func (l *lame) fail(ctx context.Context, queues ...string) error {
	if !l.down.Load() || !slices.Contains(queues, l.queue) {
		return nil
	}
	timer := time.NewTimer(l.after)
	defer timer.Stop()
	select {
	case <-timer.C:
		return errLame
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *lameSession) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	runs, err := s.Session.Take(ctx, want)
	for _, run := range runs {
		if run.Queue == s.l.queue {
			s.l.taken.Add(1)
		}
	}
	return runs, err
}

func (s *lameSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	var all broker.Finished
	var failed error
	for _, o := range outcomes {
		if err := s.l.fail(ctx, o.Run.Queue); err != nil {
			failed = err
			continue
		}
		done, err := s.Session.Finish(ctx, o)
		all.Fenced, all.Skipped = append(all.Fenced, done.Fenced...), append(all.Skipped, done.Skipped...)
		failed = errors.Join(failed, err)
	}
	return all, failed
}

// Heartbeat hears of the runs of the other queues, beside its error.
func (s *lameSession) Heartbeat(ctx context.Context, report broker.Report) ([]*broker.TaskRun, error) {
	runs, err := s.Session.(broker.Heartbeater).Heartbeat(ctx, report)
	if s.l.down.Load() {
		err = errors.Join(err, errLame)
	}
	return runs, err
}

// TestAQueueWhoseOutcomesFailHoldsUpNoOther has outcomes of one queue fail late, and
// counts what becomes of another's meanwhile.
func TestAQueueWhoseOutcomesFailHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &lame{Broker: newMemory(t), queue: "lame", after: 3 * time.Second}
		b.down.Store(true)
		var j journal
		const slots = 5
		consume(t, b, taskrt.ConsumerConfig{
			Concurrency: slots, Queues: map[string]int{"lame": 1, "well": 1},
		}, tasks.Tasks(j.recorder(nil)))
		ctx := clientContext(context.Background(), b)
		const n = 10_000
		for range n / 1000 {
			_, err := tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, 1000), taskrt.OnQueue("lame"))
			require.NoError(t, err)
		}
		time.Sleep(10 * time.Second)
		require.Less(t, b.taken.Load(), int64(n/2), "runs are taken whose outcomes cannot be recorded")
		for range 100 {
			handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.OnQueue("well"), taskrt.Keep(time.Hour))
			require.NoError(t, err)
			soon, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, err = handle.Wait(soon)
			cancel()
			require.NoError(t, err, "a run waits for the outcomes of another queue")
		}
		b.down.Store(false)
		time.Sleep(time.Minute)
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.Zero(t, lengths["lame"], "the queue is taken from again")
		require.Len(t, j.all(), n+100)
	})
}

// TestACancelIsHeardThoughAnotherQueueFails cancels a run while the broker fails heartbeats
// for another queue.
func TestACancelIsHeardThoughAnotherQueueFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &lame{Broker: newMemory(t), queue: "lame"}
		b.down.Store(true)
		consume(t, b, taskrt.ConsumerConfig{Queues: map[string]int{"lame": 1, "well": 1}},
			tasks.Tasks(new(journal).recorder(func(ctx context.Context, _ *taskrt.Run, _ string) error {
				<-ctx.Done()
				return ctx.Err()
			})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.OnQueue("well"), taskrt.Keep(time.Hour))
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.NoError(t, handle.Cancel(ctx))
		soon, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err = handle.Wait(soon)
		require.ErrorIs(t, err, taskrt.ErrCancelled)
	})
}

// picky is a broker that records nothing in a call with an outcome of some runs.
type picky struct {
	*memory.Broker
	why     error
	refuses atomic.Pointer[string] // the run of this id; nil: none
	tried   atomic.Int64           // outcomes of it
	gather  time.Duration          // how long the first request takes: further outcomes gather behind it
	first   sync.Once
}

type pickySession struct {
	broker.Session
	p *picky
}

func (p *picky) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := p.Broker.OpenSession(ctx, lease)
	return &pickySession{s, p}, err
}

func (s *pickySession) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	s.p.first.Do(func() { time.Sleep(s.p.gather) })
	if id := s.p.refuses.Load(); id != nil && slices.ContainsFunc(outcomes, func(o broker.Outcome) bool { return o.Run.ID == *id }) {
		s.p.tried.Add(1)
		return broker.Finished{}, s.p.why
	}
	return s.Session.Finish(ctx, outcomes...)
}

// TestAnOutcomeThatCannotBeRecordedHoldsUpNoOther has the outcome of one run fail for
// ever, alone and among many.
func TestAnOutcomeThatCannotBeRecordedHoldsUpNoOther(t *testing.T) {
	for _, test := range []struct {
		name string
		n    int // runs that end at the same time
		why  error
	}{
		{"alone, refused", 1, errors.New("WRONGTYPE")},
		{"among many, refused", 500, errors.New("WRONGTYPE")},
		{"among many, its connection breaks", 500, broker.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &picky{Broker: newMemory(t), why: test.why, gather: 2 * time.Millisecond}
				end := make(chan struct{})
				var handles []*taskrt.Handle[taskrt.None]
				stop := consume(t, p, taskrt.ConsumerConfig{Concurrency: test.n}, tasks.Tasks(new(journal).recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
					<-end
					if run.ID != handles[0].ID {
						time.Sleep(time.Millisecond) // so that all other outcomes are in one request
					}
					return nil
				})))
				ctx := clientContext(context.Background(), p)
				var err error
				handles, err = tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, test.n), taskrt.Keep(time.Hour))
				require.NoError(t, err)
				poison := handles[test.n/2]
				p.refuses.Store(&poison.ID)
				synctest.Wait()
				close(end)
				later, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
				require.NoError(t, err)
				for _, handle := range append(handles, later) {
					if handle == poison {
						continue
					}
					soon, cancel := context.WithTimeout(ctx, 10*time.Second)
					_, err = handle.Wait(soon)
					cancel()
					require.NoError(t, err, "a run waits for the outcome of another")
				}
				before := p.tried.Load()
				time.Sleep(10 * time.Minute)
				status, err := poison.Status(ctx)
				require.NoError(t, err)
				require.Equal(t, broker.StateRunning, status.State)
				require.InDelta(t, 10, p.tried.Load()-before, 8, "it is tried again now and then")
				p.refuses.Store(nil)
				_, err = poison.Wait(ctx)
				require.NoError(t, err)
				require.NoError(t, stop())
			})
		})
	}
}

// TestAnOutcomeThatCannotBeRecordedIsToldAtTheEnd has a consumer stop that never could
// record one.
func TestAnOutcomeThatCannotBeRecordedIsToldAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &picky{Broker: newMemory(t), why: errors.New("WRONGTYPE")}
		c, err := taskrt.NewConsumer(p, taskrt.ConsumerConfig{Logger: quiet}, tasks.Tasks(new(journal).recorder(nil)))
		require.NoError(t, err)
		ctx, stop := context.WithCancel(clientContext(context.Background(), p))
		id := "poison"
		p.refuses.Store(&id)
		over := make(chan error)
		go func() { over <- c.Run(ctx) }()
		_, err = tasks.QueueRecorderRecord(ctx, "x", taskrt.ID(id))
		require.NoError(t, err)
		time.Sleep(time.Minute)
		stop()
		require.ErrorContains(t, <-over, "record what became of 1 run: WRONGTYPE")
	})
}

// TestARunWhoseFollowersABrokerRefusesIsADeadLetter has a broker that stores less at once
// than the contract allows.
func TestARunWhoseFollowersABrokerRefusesIsADeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &narrow{Broker: newMemory(t)}
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx := clientContext(context.Background(), b)
		after, err := taskrt.Then(tasks.CallHalf(8), tasks.NextHalf()).Queue(ctx)
		require.NoError(t, err)
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err = after.Wait(soon)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, taskrt.Failed, failure.Kind)
		require.Contains(t, failure.Message, "the runs that are to follow cannot be stored: 1 of 0 runs: ")
		letters, err := b.DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Len(t, letters, 1)
	})
}

// narrow is a broker that stores no runs that follow others.
type narrow struct{ *memory.Broker }

type narrowSession struct{ broker.Session }

func (n *narrow) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := n.Broker.OpenSession(ctx, lease)
	return narrowSession{s}, err
}

func (s narrowSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	for _, o := range outcomes {
		if len(o.Next) > 0 {
			return broker.Finished{}, fmt.Errorf("%d of 0 runs: %w", len(o.Next), broker.ErrBatchTooLarge)
		}
	}
	return s.Session.Finish(ctx, outcomes...)
}
