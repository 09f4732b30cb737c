package tick

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stepped is a broker whose clock, and the ticks that were queued on it, a test sees.
type stepped struct {
	*memory.Broker
	mu    sync.Mutex
	step  time.Duration // of the broker's clock
	ticks []time.Time
}

func (s *stepped) Now(context.Context) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.step), nil
}

func (s *stepped) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	err := s.Broker.QueueTick(ctx, run, tick)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ticks = append(s.ticks, tick)
	}
	return err
}

func (s *stepped) taken() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	ticks := s.ticks
	s.ticks = nil
	return ticks
}

// clockTest is a scheduler with a clock of its own.
type clockTest struct {
	*testing.T
	b    *stepped
	mu   sync.Mutex
	step time.Duration // of the scheduler's clock
}

func (c *clockTest) put(scheduler, server time.Duration) {
	c.mu.Lock()
	c.step = scheduler
	c.mu.Unlock()
	c.b.mu.Lock()
	c.b.step = server
	c.b.mu.Unlock()
}

// start runs a scheduler of a task that runs at this interval.
func (c *clockTest) start(every time.Duration) (stop func()) {
	task := &Task{
		Name: "task", Queue: "q", Rule: Rule{Every: every},
		NewRun: func(now time.Time) *broker.TaskRun {
			return &broker.TaskRun{Task: "task", Queue: "q", QueuedAt: now, Payload: []byte("\x80")}
		},
		ApplyPolicies: func(*broker.TaskRun) error { return nil },
	}
	s, err := New(c.b, slog.New(slog.NewTextHandler(io.Discard, nil)), []*Task{task}, map[string]*Task{"task": task})
	require.NoError(c, err)
	s.clock.wall = func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return time.Now().Add(c.step)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { s.Run(ctx) })
	return func() {
		cancel()
		run.Wait()
	}
}

func inClockTest(t *testing.T, f func(c *clockTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &stepped{Broker: memory.New()}
		f(&clockTest{T: t, b: b})
		require.NoError(t, b.Close())
	})
}

// wait lets time pass and returns the ticks that were queued.
func (c *clockTest) wait(d time.Duration) []time.Time {
	time.Sleep(d) // of synctest
	synctest.Wait()
	return c.b.taken()
}

func TestAClockFarAheadClaimsNoTicksOfTheFuture(t *testing.T) {
	inClockTest(t, func(c *clockTest) {
		c.put(24*time.Hour, 0)
		stop := c.start(time.Second)
		ticks := c.wait(time.Minute)
		require.InDelta(t, 60, len(ticks), 1, "it goes by the broker's clock")
		require.False(t, ticks[len(ticks)-1].After(time.Now()))
		c.put(0, 0) // put right
		require.InDelta(t, 120, len(c.wait(2*time.Minute)), 1)
		stop()
	})
}

// TestSchedulesGoOnWhenClocksArePutBack puts back the server's clock, the
// scheduler's, or both, by an hour.
func TestSchedulesGoOnWhenClocksArePutBack(t *testing.T) {
	for name, step := range map[string][2]time.Duration{
		"the server's": {0, -time.Hour}, "the scheduler's": {-time.Hour, 0}, "both": {-time.Hour, -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			inClockTest(t, func(c *clockTest) {
				stop := c.start(time.Second)
				require.NotEmpty(t, c.wait(time.Minute))
				c.put(step[0], step[1])
				c.wait(time.Minute) // by when it is noticed
				require.InDelta(t, 60, len(c.wait(time.Minute)), 1)
				stop()
				stop = c.start(time.Second) // one that knows nothing of before
				c.wait(time.Minute)
				ticks := c.wait(time.Minute)
				require.InDelta(t, 60, len(ticks), 1)
				require.Len(t, slices.CompactFunc(slices.Clone(ticks), time.Time.Equal), len(ticks), "no tick twice")
				stop()
			})
		})
	}
}

func TestFewTicksAreNotRepeatedWhenClocksArePutBack(t *testing.T) {
	inClockTest(t, func(c *clockTest) {
		stop := c.start(time.Hour)
		before := c.wait(5*time.Hour + time.Minute)
		require.Len(t, before, 5)
		c.put(-2*time.Hour, -2*time.Hour)
		require.Empty(t, c.wait(2*time.Hour-2*time.Minute), "these instants were named before")
		after := c.wait(3 * time.Hour)
		require.Len(t, after, 2)
		require.Equal(t, before[4].Add(time.Hour), after[0])
		stop()
	})
}

// TestClaimsOfTheFutureDoNotStopASchedule has another process claim a tick of
// tomorrow, before and while the scheduler runs.
func TestClaimsOfTheFutureDoNotStopASchedule(t *testing.T) {
	t.Run("before", func(t *testing.T) { testClaimsOfTheFuture(t, true) })
	t.Run("meanwhile", func(t *testing.T) { testClaimsOfTheFuture(t, false) })
}

func testClaimsOfTheFuture(t *testing.T, before bool) {
	inClockTest(t, func(c *clockTest) {
		claim := func() {
			run := &broker.TaskRun{ID: "claimed", Task: "task", Queue: "q"}
			require.NoError(t, c.b.Broker.QueueTick(context.Background(), run, time.Now().Add(24*time.Hour)))
		}
		if before {
			claim()
		}
		stop := c.start(time.Second)
		c.wait(time.Minute)
		if !before {
			claim()
		}
		c.wait(2 * time.Minute)
		require.InDelta(t, 60, len(c.wait(time.Minute)), 1)
		stop()
	})
}

func TestTicksAreRewoundOnRedis(t *testing.T) {
	server := redistest.Start(t)
	b, err := redis.Open(t.Context(), server.URL(), redis.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	var clock broker.Clock = b
	var schedules broker.Ticks = b
	now, err := clock.Now(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), now, time.Minute)
	future := now.Add(time.Hour)
	require.NoError(t, schedules.QueueTick(t.Context(), &broker.TaskRun{ID: "a", Task: "task", Queue: "q"}, future))
	require.NoError(t, clock.RewindTicks(t.Context(), "q", "task", "", future.Add(1), now), "another tick is the last")
	last, err := schedules.LastTick(t.Context(), "q", "task")
	require.NoError(t, err)
	require.True(t, last.Equal(future))
	require.NoError(t, clock.RewindTicks(t.Context(), "q", "task", "", future, now))
	last, err = schedules.LastTick(t.Context(), "q", "task")
	require.NoError(t, err)
	require.True(t, last.Equal(now))
	require.NoError(t, schedules.QueueTick(t.Context(), &broker.TaskRun{ID: "b", Task: "task", Queue: "q"}, now.Add(time.Second)))
}
