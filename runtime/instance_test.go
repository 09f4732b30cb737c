package runtime_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
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

// refusing is a broker that may fail announcements and tallies.
type refusing struct {
	*memory.Broker
	fails atomic.Bool
}

func (b *refusing) Announce(ctx context.Context, i *broker.Instance) error {
	if b.fails.Load() {
		return errAway
	}
	return b.Broker.Announce(ctx, i)
}

func (b *refusing) Withdraw(ctx context.Context, id string) error {
	if b.fails.Load() {
		return errAway
	}
	return b.Broker.Withdraw(ctx, id)
}

func (b *refusing) AddTallies(ctx context.Context, tallies []broker.Tally) error {
	if b.fails.Load() {
		return errAway
	}
	return b.Broker.AddTallies(ctx, tallies)
}

// instanceOf returns the instance of a role, nil if there is none.
func instanceOf(t *testing.T, b broker.Instances, role broker.Role) *broker.Instance {
	t.Helper()
	all, err := b.Instances(t.Context())
	require.NoError(t, err)
	i := slices.IndexFunc(all, func(i *broker.Instance) bool { return i.Role == role })
	if i < 0 {
		return nil
	}
	return all[i]
}

// TestInstancesAnnounceThemselves follows a process with a consumer and a scheduler from their
// start to their stop, during which a run still executes.
func TestInstancesAnnounceThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
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

		i := instanceOf(t, b, broker.RoleConsumer)
		require.NotNil(t, i)
		require.NotEmpty(t, i.ID)
		require.Less(t, time.Since(i.Seen), time.Second)
		require.NotEmpty(t, i.Session)
		host, err := os.Hostname()
		require.NoError(t, err)
		want := broker.Instance{
			ID: i.ID, Role: broker.RoleConsumer, Host: host, PID: os.Getpid(), Version: "v1.2.3", Address: "10.0.0.7:8080",
			Queues: map[string]int{"default": 3, "mail": 1}, Session: i.Session, Slots: [2]broker.Slots{taskrt.IO: {Total: 7, Busy: 1}},
		}
		want.Started, want.Seen = began.Round(0).UTC(), i.Seen
		require.Equal(t, want, *i)
		scheduler := instanceOf(t, b, broker.RoleScheduler)
		require.NotEqual(t, i.ID, scheduler.ID)
		require.Equal(t, i.PID, scheduler.PID)
		require.Equal(t, map[string]int{"default": 1}, scheduler.Queues)
		require.Zero(t, scheduler.Slots)

		time.Sleep(time.Hour)
		require.Equal(t, i.ID, instanceOf(t, b, broker.RoleConsumer).ID)
		_, err = tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
		require.NoError(t, err)
		synctest.Wait()
		stopped := make(chan error)
		go func() { stopped <- stopConsumer() }()
		synctest.Wait()
		i = instanceOf(t, b, broker.RoleConsumer)
		require.True(t, i.Stopping, "it is known at once")
		require.Equal(t, 1, i.Slots[taskrt.IO].Busy)
		require.NoError(t, <-stopped)
		require.Nil(t, instanceOf(t, b, broker.RoleConsumer), "at once")
		require.NotNil(t, instanceOf(t, b, broker.RoleScheduler))
		require.NoError(t, stopScheduler())
		require.Nil(t, instanceOf(t, b, broker.RoleScheduler))
	})
}

// TestABrokerThatTakesNoInstancesStopsNoWork fails all announcements and tallies, and later
// takes them.
func TestABrokerThatTakesNoInstancesStopsNoWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &refusing{Broker: newMemory(t)}
		b.fails.Store(true)
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
		b.fails.Store(false)
		require.Nil(t, instanceOf(t, b, broker.RoleConsumer))
		time.Sleep(time.Minute)
		require.NotNil(t, instanceOf(t, b, broker.RoleConsumer))
		tallies, err := b.Tallies(ctx, []string{"default"}, time.Now().Add(-2*time.Hour), time.Now())
		require.NoError(t, err)
		require.Len(t, tallies, 2, "of both minutes")
		b.fails.Store(true)
		began := time.Now()
		require.NoError(t, stop())
		require.Less(t, time.Since(began), 2*time.Second)
	})
}

// TestTalliesCountWhatBecomesOfRuns has runs of two queues and minutes succeed, retry, fail,
// expire, be cancelled and snooze.
func TestTalliesCountWhatBecomesOfRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
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

		all, err := b.Tallies(ctx, []string{"default", "other"}, midnight, time.Now())
		require.NoError(t, err)
		sum := map[string]broker.Tally{}
		for _, tally := range all {
			key := fmt.Sprintf("%s %s %d", tally.Queue, tally.Task, tally.Minute.Sub(midnight)/time.Minute)
			tally.Queue, tally.Task, tally.Minute = "", "", time.Time{}
			sum[key] = tally
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
			b := newMemory(t)
			consume(t, b, taskrt.ConsumerConfig{NoTallies: off}, tasks.Tasks(new(journal).recorder(nil)))
			_, err := tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
			require.NoError(t, err)
			time.Sleep(time.Minute)
			tallies, err := b.Tallies(t.Context(), []string{"default"}, time.Now().Add(-time.Hour), time.Now())
			require.NoError(t, err)
			require.Equal(t, off, len(tallies) == 0)
		})
	}
}
