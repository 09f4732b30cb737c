package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestRetryAfterIsSpread has 2,000 runs turned away together by a service that asks
// for three seconds.
func TestRetryAfterIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const runs, asked = 2000, 3 * time.Second
		b := newMemory(t)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			if run.Attempt == 1 {
				return taskrt.RetryAfter(asked, errors.New("503"))
			}
			return nil
		})))
		began := time.Now()
		_, err := tasks.QueueRecorderRecordBatch(clientContext(context.Background(), b), make([]tasks.RecorderRecordParams, runs))
		require.NoError(t, err)
		time.Sleep(time.Minute)
		entries := j.all()
		require.Len(t, entries, 2*runs)
		tenths := map[time.Duration]int{}
		for _, e := range entries[runs:] {
			wait := e.at.Sub(began)
			require.GreaterOrEqual(t, wait, asked)
			require.LessOrEqual(t, wait, asked+asked/2+100*time.Millisecond)
			tenths[(wait-asked)/(asked/20)]++
		}
		for tenth := range time.Duration(10) {
			require.InDelta(t, runs/10, tenths[tenth], runs/20, "second attempts in a tenth of the spread")
		}
	})
}

func TestSnoozePutsARunOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var (
			j      journal
			events []taskrt.Event
		)
		consume(t, b, taskrt.ConsumerConfig{
			Concurrency: 1,
			OnEvent: func(e taskrt.Event) {
				if e.Kind != taskrt.RunRecorded {
					events = append(events, e)
				}
			},
			Retry: func(*taskrt.Run, error) (time.Duration, bool) {
				t.Error("the retry policy was asked of a run that snoozes")
				return 0, false
			},
		}, tasks.Tasks(j.recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			if time.Since(run.QueuedAt) < 20*time.Minute {
				return fmt.Errorf("the bank is closed: %w", taskrt.Snooze(5*time.Minute))
			}
			return nil
		})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		time.Sleep(time.Second)
		status, err := handle.Status(ctx)
		require.NoError(t, err)
		require.Equal(t, taskrt.State("delayed"), status.State)
		require.Nil(t, status.Err, "no failure is recorded")
		require.Zero(t, status.Attempt)
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
		runs := j.all()
		require.Len(t, runs, 5, "more often than the task has attempts")
		for i, run := range runs {
			require.Equal(t, 1, run.run.Attempt, "no attempt was spent")
			require.Equal(t, 1, run.run.Delivery, "no delivery was spent")
			require.Equal(t, time.Duration(i)*5*time.Minute, run.at.Sub(runs[0].at).Round(time.Second))
		}
		dead, err := b.DeadLetters(ctx, "default", 1)
		require.NoError(t, err)
		require.Empty(t, dead)
		require.Equal(t, taskrt.RunReturned, events[1].Kind)
		require.Equal(t, 5*time.Minute, events[1].Wait)
		require.Nil(t, events[1].Err)
	})
}

func TestSnoozeOfNothingDoesNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(_ context.Context, run *taskrt.Run, note string) error {
			return map[string]error{"zero": taskrt.Snooze(0), "negative": taskrt.Snooze(-time.Hour), "for ever": taskrt.Snooze(1<<63 - 1)}[note]
		})))
		ctx := clientContext(context.Background(), b)
		for _, note := range []string{"zero", "negative", "for ever"} {
			_, err := tasks.QueueRecorderRecord(ctx, note)
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		counts := map[string]int{}
		for _, note := range j.notes() {
			counts[note]++
		}
		require.LessOrEqual(t, counts["zero"], 1001, "at most once a millisecond")
		require.Greater(t, counts["zero"], 10)
		require.LessOrEqual(t, counts["negative"], 1001)
		require.Equal(t, 1, counts["for ever"])
		delayed, err := b.Runs(ctx, "default", broker.StateDelayed, 10)
		require.NoError(t, err)
		require.NotEmpty(t, delayed)
	})
}

func TestPermanentlySnoozedIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(context.Context, *taskrt.Run, string) error {
			return taskrt.Permanent(taskrt.Snooze(time.Minute))
		})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.ErrorContains(t, err, "snoozed for 1m0s")
	})
}

// TestSnoozingCountsForExpiry has a run snooze until its time of //task:expire is over.
func TestSnoozingCountsForExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(context.Context, *taskrt.Run, string) error {
			return taskrt.Snooze(time.Minute)
		})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderBrief(ctx, "x", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, taskrt.Expired, failure.Kind)
	})
}

// TestAUniqueRunUntilItsStart makes a change while the run for the change before
// it goes on: it gets a run of its own, and one alone however many follow.
func TestAUniqueRunUntilItsStart(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		started, release := make(chan string, 10), make(chan struct{})
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			started <- run.ID
			<-release
			return nil
		})))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		first, err := tasks.QueueRecorderWaiting(ctx, "z", 1)
		require.NoError(t, err)
		require.Equal(t, first.ID, <-started)
		second, err := tasks.QueueRecorderWaiting(ctx, "z", 2, taskrt.Delay(50*time.Millisecond))
		require.NoError(t, err, "a change while the first runs")
		again, err := tasks.QueueRecorderWaiting(ctx, "z", 3)
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "a change while the second waits")
		require.Equal(t, second.ID, again.ID)
		require.Equal(t, second.ID, <-started)
		third, err := tasks.QueueRecorderWaiting(ctx, "z", 4)
		require.NoError(t, err, "a change while both run")
		require.Equal(t, third.ID, <-started)
		close(release)
	})
}

// TestASmoothRateStartsEvenly has a backlog start one by one, where a rate counts
// in windows.
func TestASmoothRateStartsEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		for range 40 {
			_, err := tasks.QueueRecorderSmooth(ctx, "x")
			require.NoError(t, err)
		}
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(nil)))
		time.Sleep(10 * time.Second)
		runs := j.all()
		require.Len(t, runs, 40)
		for i, run := range runs[1:] {
			require.GreaterOrEqual(t, run.at.Sub(runs[i].at), 100*time.Millisecond)
		}
		require.Less(t, runs[39].at.Sub(runs[0].at), 4100*time.Millisecond, "the rate is used")
	})
}
