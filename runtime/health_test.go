package runtime_test

import (
	"context"
	"errors"
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

// outage is a broker that does not answer renewals and ticks while it is away. With hangs, a
// call that opens a session does not return.
type outage struct {
	*memory.Broker
	away  atomic.Bool
	hangs chan struct{} // until it is closed; nil: it does not
}

type outageSession struct {
	broker.Session
	broker *outage
}

var errAway = errors.New("the broker is away")

func (b *outage) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	if b.away.Load() && b.hangs != nil {
		<-b.hangs // whatever ctx says
	}
	if b.away.Load() {
		return nil, errAway
	}
	s, err := b.Broker.OpenSession(ctx, lease)
	return outageSession{s, b}, err
}

func (s outageSession) Renew(ctx context.Context) error {
	if s.broker.away.Load() {
		return errAway
	}
	return s.Session.Renew(ctx)
}

func (b *outage) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	if b.away.Load() {
		return errAway
	}
	return b.Broker.QueueTick(ctx, run, tick)
}

// TestHealthOfAConsumer follows a consumer from before Run to behind it, through an outage of
// the broker.
func TestHealthOfAConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &outage{Broker: newMemory(t)}
		c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: quiet}, tasks.Tasks(new(journal).recorder(func(context.Context, *taskrt.Run, string) error {
			time.Sleep(5 * time.Second)
			return nil
		})))
		require.NoError(t, err)
		require.Equal(t, taskrt.Health{Live: true, Reason: "the consumer does not run"}, c.Health())

		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- c.Run(ctx) }()
		time.Sleep(time.Hour)
		h := c.Health()
		require.Less(t, time.Since(h.Answered), 10*time.Second)
		require.Equal(t, taskrt.Health{Running: true, Live: true, Ready: true, Answered: h.Answered}, h)

		b.away.Store(true)
		time.Sleep(20 * time.Second)
		h = c.Health()
		require.False(t, h.Ready)
		require.True(t, h.Live, "a restart would not help")
		require.Equal(t, "the consumer has no session with the broker", h.Reason)
		time.Sleep(time.Hour)
		require.True(t, c.Health().Live)
		b.away.Store(false)
		time.Sleep(20 * time.Second)
		require.True(t, c.Health().Ready)
		stats := c.Stats()
		require.EqualValues(t, 1, stats.LeasesLost)
		require.GreaterOrEqual(t, stats.Operations["renew"].Count(), int64(3600/2.5))
		require.NotZero(t, stats.Operations["renew"].Errors)
		require.NotZero(t, stats.Operations["open"].Errors)

		_, err = tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1, c.Stats().Slots[taskrt.IO].Busy)
		stop()
		synctest.Wait()
		h = c.Health()
		require.True(t, h.Stopping)
		require.True(t, h.Live)
		require.False(t, h.Ready)
		require.Equal(t, "the consumer stops", h.Reason)
		require.NoError(t, <-stopped)
		require.False(t, c.Health().Running)
		synctest.Wait() // the run has ended; its slot is free a moment later
		require.Zero(t, c.Stats().Slots[taskrt.IO].Busy)
		require.NotZero(t, c.Stats().Operations["finish"].Count())
	})
}

// TestAConsumerThatHangsIsNotLive has a broker that never returns from a call.
func TestAConsumerThatHangsIsNotLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &outage{Broker: newMemory(t), hangs: make(chan struct{})}
		c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: quiet}, tasks.Tasks(new(journal).recorder(nil)))
		require.NoError(t, err)
		start(t, c.Run)
		defer close(b.hangs)
		time.Sleep(time.Minute)
		require.True(t, c.Health().Live)
		b.away.Store(true)
		time.Sleep(20 * time.Second)
		require.True(t, c.Health().Live, "it may still answer")
		time.Sleep(time.Minute)
		h := c.Health()
		require.False(t, h.Live)
		require.False(t, h.Ready)
		require.Equal(t, "the loop that renews the lease hangs", h.Reason)
	})
}

// TestHealthOfAScheduler has a scheduler miss ticks in an outage of the broker.
func TestHealthOfAScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &outage{Broker: newMemory(t)}
		s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: quiet}, tasks.Tasks(new(journal).recorder(nil)))
		require.NoError(t, err)
		require.Equal(t, taskrt.Health{Live: true, Reason: "the scheduler does not run"}, s.Health())
		stop := start(t, s.Run)
		time.Sleep(10*time.Minute + time.Second/2)
		require.True(t, s.Health().Ready)
		ticks := func() (of taskrt.TickStats) {
			for _, ts := range s.Stats().Ticks {
				if ts.Task == "recorder_tick" {
					of = ts
				}
			}
			return of
		}
		require.InDelta(t, 600, ticks().Queued, 1)
		require.Less(t, s.Stats().Lag.Sum, time.Second, "none was late")

		b.away.Store(true)
		time.Sleep(10 * time.Minute)
		h := s.Health()
		require.True(t, h.Live)
		require.False(t, h.Ready)
		require.Equal(t, "ticks that are due cannot be queued", h.Reason)
		require.NotZero(t, ticks().Failed)

		before := ticks()
		b.away.Store(false)
		time.Sleep(time.Minute)
		require.True(t, s.Health().Ready)
		require.InDelta(t, 500, ticks().Missed, 6, "the latest 100 of them ran")
		require.InDelta(t, 60+100, ticks().Queued-before.Queued, 6)
		require.Equal(t, taskrt.TickStats{Task: "recorder_tick", Queue: "default", Queued: ticks().Queued, Missed: ticks().Missed, Failed: ticks().Failed}, ticks())
		require.NoError(t, stop())
		require.False(t, s.Health().Running)
	})
}

// TestTicksOfTwoSchedulersAreCountedOnce has two schedulers claim the same ticks.
func TestTicksOfTwoSchedulersAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var queued, claimed int64
		var both []*taskrt.Scheduler
		for range 2 {
			s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: quiet}, tasks.Tasks(new(journal).recorder(nil)))
			require.NoError(t, err)
			start(t, s.Run)
			both = append(both, s)
		}
		time.Sleep(time.Minute + time.Second/2)
		for _, s := range both {
			for _, ts := range s.Stats().Ticks {
				if ts.Task == "recorder_tick" {
					queued, claimed = queued+ts.Queued, claimed+ts.Claimed
				}
			}
		}
		require.InDelta(t, 60, queued, 1)
		require.Positive(t, claimed)
		require.LessOrEqual(t, claimed, queued, "a tick that one queued is counted by the other at most once")
	})
}

// TestKilledChildrenAreCounted cancels a run that does not stop by itself.
func TestKilledChildrenAreCounted(t *testing.T) {
	b := newMemory(t)
	c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: quiet, Processes: 1}, tasks.Tasks(nil))
	require.NoError(t, err)
	start(t, c.Run)
	ctx := clientContext(childContext(t), b)
	warm, err := tasks.QueueSquare(ctx, 3)
	require.NoError(t, err)
	_, err = warm.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, 1, c.Stats().Children)
	require.Empty(t, c.Stats().Kills)
	h, err := tasks.QueueMisbehave(ctx, "spin", taskrt.Keep(time.Minute))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return c.Stats().Slots[taskrt.CPU].Busy == 1 }, 20*time.Second, time.Millisecond)
	require.NoError(t, h.Cancel(ctx))
	_, err = h.Wait(ctx)
	require.ErrorIs(t, err, taskrt.ErrCancelled)
	require.Equal(t, map[string]int64{"cancelled": 1}, c.Stats().Kills)
}
