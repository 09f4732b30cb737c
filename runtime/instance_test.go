package runtime_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// observed is a broker that records what consumers and schedulers send of themselves.
type observed struct {
	*memory.Broker
	mu        sync.Mutex
	fails     error
	announced []broker.Instance
	withdrawn []string
	tallies   [][]broker.Tally // of each call
}

func (b *observed) Announce(_ context.Context, i *broker.Instance) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails == nil {
		b.announced = append(b.announced, *i)
	}
	return b.fails
}

func (b *observed) Withdraw(_ context.Context, id string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.withdrawn = append(b.withdrawn, id)
	return b.fails
}

func (b *observed) Instances(context.Context) ([]*broker.Instance, error) { return nil, nil }

func (b *observed) AddTallies(_ context.Context, tallies []broker.Tally) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails == nil {
		b.tallies = append(b.tallies, slices.Clone(tallies))
	}
	return b.fails
}

func (b *observed) Tallies(context.Context, []string, time.Time, time.Time) ([]broker.Tally, error) {
	return nil, nil
}

func (b *observed) setFails(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails = err
}

// last returns the announcement of a role that came last, and how many there were.
func (b *observed) last(role broker.Role) (last broker.Instance, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range b.announced {
		if i.Role == role {
			last, n = i, n+1
		}
	}
	return last, n
}

// TestInstancesAnnounceThemselves follows a process with a consumer and a scheduler from their
// start to their stop, during which a run still executes.
func TestInstancesAnnounceThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &observed{Broker: newMemory(t)}
		set := tasks.Tasks(new(journal).recorder(func(context.Context, *taskrt.Run, string) error {
			time.Sleep(20 * time.Second)
			return nil
		}))
		set = slices.DeleteFunc(set, func(t taskrt.Task) bool { return t.Spec().Kind == taskrt.CPU || t.Name() == "recorder_tick" })
		isTick := func(t taskrt.Task) bool { return t.Spec().Schedule != (taskrt.Timing{}) }
		cfg := taskrt.ConsumerConfig{Concurrency: 7, Logger: quiet, Version: "v1.2.3", Address: "10.0.0.7:8080", Queues: map[string]int{"default": 3, "mail": 1}}
		c, err := taskrt.NewConsumer(b, cfg, slices.DeleteFunc(slices.Clone(set), isTick))
		require.NoError(t, err)
		s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: quiet}, set)
		require.NoError(t, err)
		began := time.Now()
		stopConsumer, stopScheduler := start(t, c.Run), start(t, s.Run)
		synctest.Wait()
		_, err = tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
		require.NoError(t, err)
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()

		i, n := b.last(broker.RoleConsumer)
		require.LessOrEqual(t, n, 3, "at the start, with the session, and after a third of the time")
		require.NotEmpty(t, i.ID)
		require.NotEmpty(t, i.Session)
		host, err := os.Hostname()
		require.NoError(t, err)
		want := broker.Instance{
			ID: i.ID, Role: broker.RoleConsumer, Host: host, PID: os.Getpid(), Version: "v1.2.3", Address: "10.0.0.7:8080", Started: began,
			Queues: map[string]int{"default": 3, "mail": 1}, Session: i.Session, Slots: [2]broker.Slots{taskrt.IO: {Total: 7, Busy: 1}},
		}
		i.Started = i.Started.Round(0)
		want.Started = want.Started.Round(0)
		require.Equal(t, want, i)
		scheduler, _ := b.last(broker.RoleScheduler)
		require.NotEqual(t, i.ID, scheduler.ID)
		require.Equal(t, i.PID, scheduler.PID)
		require.Equal(t, map[string]int{"default": 1}, scheduler.Queues)
		require.Zero(t, scheduler.Slots)

		_, before := b.last(broker.RoleConsumer)
		time.Sleep(time.Hour)
		_, after := b.last(broker.RoleConsumer)
		require.InDelta(t, 3600/10, after-before, 1)

		_, err = tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
		require.NoError(t, err)
		synctest.Wait()
		stopped := make(chan error)
		go func() { stopped <- stopConsumer() }()
		synctest.Wait()
		i, _ = b.last(broker.RoleConsumer)
		require.True(t, i.Stopping, "it is known at once")
		require.Equal(t, 1, i.Slots[taskrt.IO].Busy)
		require.Empty(t, b.withdrawn)
		require.NoError(t, <-stopped)
		require.Equal(t, []string{i.ID}, b.withdrawn)
		require.NoError(t, stopScheduler())
		require.Equal(t, []string{i.ID, scheduler.ID}, b.withdrawn)
	})
}

// TestABrokerThatTakesNoInstancesStopsNoWork fails all announcements and tallies, and later
// takes them.
func TestABrokerThatTakesNoInstancesStopsNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &observed{Broker: newMemory(t), fails: errAway}
		var h heard
		cfg := h.config()
		stop := consume(t, b, cfg, tasks.Tasks(new(journal).recorder(nil)))
		ctx := clientContext(t.Context(), b)
		run := func() {
			h, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
			require.NoError(t, err)
			_, err = h.Wait(ctx)
			require.NoError(t, err)
		}
		run()
		time.Sleep(time.Hour)
		run()
		require.Equal(t, 1, strings.Count(h.text(), "cannot announce itself"), h.text())
		require.Equal(t, 1, strings.Count(h.text(), "cannot send tallies"), h.text())
		b.setFails(nil)
		time.Sleep(time.Minute)
		_, n := b.last(broker.RoleConsumer)
		require.InDelta(t, 6, n, 1)
		require.Len(t, b.tallies, 1)
		require.Len(t, b.tallies[0], 2, "of both minutes")
		b.setFails(errAway)
		began := time.Now()
		require.NoError(t, stop())
		require.Less(t, time.Since(began), 2*time.Second)
	})
}

// TestTalliesCountWhatBecomesOfRuns has runs of two queues and minutes succeed, retry, fail,
// expire, be cancelled and snooze.
func TestTalliesCountWhatBecomesOfRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &observed{Broker: newMemory(t)}
		attempts := map[string]int{}
		stop := consume(t, b, taskrt.ConsumerConfig{
			Concurrency: 1, Queues: map[string]int{"default": 1, "other": 1},
			Retry: func(run *taskrt.Run, _ error) (time.Duration, bool) { return time.Minute, run.Attempt < 2 },
		}, tasks.Tasks(new(journal).recorder(func(ctx context.Context, run *taskrt.Run, note string) error {
			attempts[note]++
			time.Sleep(3 * time.Second)
			switch {
			case note == "fails":
				return fmt.Errorf("no luck")
			case note == "snoozes" && attempts[note] == 1:
				return taskrt.Snooze(10 * time.Minute)
			case note == "cancelled":
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})))
		ctx := clientContext(t.Context(), b)
		midnight := time.Now()
		queue := func(note string, opts ...taskrt.QueueOption) *taskrt.Handle[taskrt.None] {
			h, err := tasks.QueueRecorderRecord(ctx, note, opts...)
			require.NoError(t, err)
			return h
		}
		queue("a")
		time.Sleep(4 * time.Second)
		queue("b", taskrt.OnQueue("other"))
		time.Sleep(4 * time.Second)
		queue("c", taskrt.Delay(time.Minute-8*time.Second))
		queue("fails", taskrt.Delay(5*time.Minute))
		queue("snoozes", taskrt.Delay(10*time.Minute))
		time.Sleep(time.Hour)
		cancelled := queue("cancelled")
		time.Sleep(time.Second)
		require.NoError(t, cancelled.Cancel(ctx))
		require.NoError(t, b.Pause(ctx, "default", true))
		_, err := tasks.QueueRecorderExpiring(ctx, "expires")
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, b.Pause(ctx, "default", false))
		time.Sleep(time.Second)
		require.NoError(t, stop())

		sum := map[string]broker.Tally{}
		for _, call := range b.tallies {
			for _, tally := range call {
				require.Zero(t, tally.Minute.Second())
				require.Equal(t, time.UTC, tally.Minute.Location())
				key := fmt.Sprintf("%s %s %d", tally.Queue, tally.Task, tally.Minute.Sub(midnight)/time.Minute)
				of := sum[key]
				of.Add(&tally)
				sum[key] = of
			}
		}
		require.Equal(t, broker.Tally{Succeeded: 1, Waits: histogram(0), Times: histogram(3 * time.Second)}, sum["default recorder_record 0"])
		require.Equal(t, broker.Tally{Succeeded: 1, Waits: histogram(0), Times: histogram(3 * time.Second)}, sum["other recorder_record 0"])
		require.Equal(t, broker.Tally{Succeeded: 1, Waits: histogram(0), Times: histogram(3 * time.Second)}, sum["default recorder_record 1"])
		require.Equal(t, broker.Tally{Retried: 1, Waits: histogram(0), Times: histogram(3 * time.Second)}, sum["default recorder_record 5"])
		require.Equal(t, broker.Tally{Dead: 1, Waits: histogram(0), Times: histogram(3 * time.Second)}, sum["default recorder_record 6"], "it was due again after a minute")
		require.Equal(t, broker.Tally{Succeeded: 1, Waits: histogram(0), Times: histogram(3 * time.Second)}, sum["default recorder_record 20"], "the snooze was no attempt, and no wait")
		require.Len(t, sum, 8, "%v", sum)
		var dropped int64
		for _, tally := range sum {
			dropped += tally.Dropped
		}
		require.EqualValues(t, 2, dropped)
	})
}

func histogram(durations ...time.Duration) (h broker.Histogram) {
	for _, d := range durations {
		h.Observe(d)
	}
	return h
}

// TestNoTalliesSendsNone compares a consumer with NoTallies with one without.
func TestNoTalliesSendsNone(t *testing.T) {
	for _, off := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := &observed{Broker: newMemory(t)}
			consume(t, b, taskrt.ConsumerConfig{NoTallies: off}, tasks.Tasks(new(journal).recorder(nil)))
			_, err := tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
			require.NoError(t, err)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Equal(t, off, len(b.tallies) == 0)
		})
	}
}
