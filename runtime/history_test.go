package runtime_test

import (
	"context"
	"errors"
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

// historian is a broker that records the histories in the outcomes that it gets.
type historian struct {
	*memory.Broker
	mu       sync.Mutex
	outcomes []told
}

// told is an outcome with what its run's history was then.
type told struct {
	id      string
	verdict broker.Verdict
	history broker.History
}

type historianSession struct {
	broker.Session
	broker *historian
}

func (b *historian) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := b.Broker.OpenSession(ctx, lease)
	return historianSession{s, b}, err
}

func (s historianSession) Heartbeat(ctx context.Context, report broker.Report) ([]*broker.TaskRun, error) {
	return s.Session.(broker.Heartbeater).Heartbeat(ctx, report)
}

func (s historianSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	s.broker.mu.Lock()
	for _, o := range outcomes {
		h := o.Run.History.OrZero()
		s.broker.outcomes = append(s.broker.outcomes, told{o.Run.ID, o.Verdict, broker.History{Attempts: slices.Clone(h.Attempts), Due: h.Due}})
	}
	s.broker.mu.Unlock()
	return s.Session.Finish(ctx, outcomes...)
}

// of returns the outcomes of a run.
func (b *historian) of(id string) (all []told) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.outcomes {
		if o.id == id {
			all = append(all, o)
		}
	}
	return all
}

func attempt(began time.Time, took time.Duration, kind taskrt.FailureKind, message string) broker.Attempt {
	host, _ := os.Hostname()
	return broker.Attempt{Started: began.Round(0).UTC(), Took: took, Host: fmt.Sprint(host, ":", os.Getpid()), Kind: kind, Message: message}
}

// TestHistoriesTellOfEachAttempt has a run fail, snooze, fail and succeed, and one of which no
// record is kept succeed.
func TestHistoriesTellOfEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &historian{Broker: newMemory(t)}
		var starts []time.Time
		consume(t, b, taskrt.ConsumerConfig{
			Retry: func(*taskrt.Run, error) (time.Duration, bool) { return time.Minute, true },
		}, tasks.Tasks(new(journal).recorder(func(_ context.Context, run *taskrt.Run, note string) error {
			if note == "plain" {
				return nil
			}
			starts = append(starts, time.Now())
			time.Sleep(time.Second)
			switch len(starts) {
			case 1, 3:
				return fmt.Errorf("no luck %d %s", run.Attempt, strings.Repeat("x", 1000))
			case 2:
				return taskrt.Snooze(time.Hour)
			}
			return nil
		})))
		ctx := clientContext(t.Context(), b)
		h, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		plain, err := tasks.QueueRecorderRecord(ctx, "plain")
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.NoError(t, err)
		synctest.Wait()
		got := b.of(h.ID)
		require.Len(t, got, 4)
		first := attempt(starts[0], time.Second, taskrt.Failed, ("no luck 1 " + strings.Repeat("x", 1000))[:broker.MaxAttemptMessage])
		third := attempt(starts[2], time.Second, taskrt.Failed, ("no luck 2 " + strings.Repeat("x", 1000))[:broker.MaxAttemptMessage])
		last := attempt(starts[3], time.Second, "", "")
		require.Equal(t, []broker.Attempt{first}, got[0].history.Attempts)
		require.WithinDuration(t, starts[1], got[0].history.Due, time.Second)
		require.Equal(t, []broker.Attempt{first}, got[1].history.Attempts, "a snooze is no attempt")
		require.WithinDuration(t, starts[2], got[1].history.Due, time.Second)
		require.Equal(t, []broker.Attempt{first, third}, got[2].history.Attempts)
		require.Equal(t, []broker.Attempt{first, third, last}, got[3].history.Attempts)
		require.Empty(t, b.of(plain.ID)[0].history, "nobody can ask for it")
	})
}

// TestHistoriesAreBounded has a run fail more often than its history has attempts.
func TestHistoriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &historian{Broker: newMemory(t)}
		consume(t, b, taskrt.ConsumerConfig{
			Retry: func(run *taskrt.Run, _ error) (time.Duration, bool) { return time.Minute, run.Attempt < 15 },
		}, tasks.Tasks(new(journal).recorder(func(_ context.Context, run *taskrt.Run, _ string) error {
			return fmt.Errorf("no luck %d", run.Attempt)
		})))
		h, err := tasks.QueueRecorderRecord(clientContext(t.Context(), b), "x")
		require.NoError(t, err)
		time.Sleep(time.Hour)
		got := b.of(h.ID)
		require.Len(t, got, 15)
		require.Equal(t, broker.Dead, got[14].verdict)
		attempts := got[14].history.Attempts
		require.Len(t, attempts, broker.MaxHistory)
		require.Equal(t, "no luck 6", attempts[0].Message)
		require.Equal(t, "no luck 15", attempts[broker.MaxHistory-1].Message)
	})
}

// TestACancelledRunHasItsAttempt cancels a run that executes, and one that waits.
func TestACancelledRunHasItsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &historian{Broker: newMemory(t)}
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, tasks.Tasks(new(journal).recorder(func(ctx context.Context, _ *taskrt.Run, _ string) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})))
		ctx := clientContext(t.Context(), b)
		h, err := tasks.QueueRecorderRecord(ctx, "x")
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.NoError(t, h.Cancel(ctx))
		time.Sleep(time.Second)
		got := b.of(h.ID)
		require.Len(t, got, 1)
		require.Equal(t, broker.Dropped, got[0].verdict)
		require.Len(t, got[0].history.Attempts, 1)
		require.Equal(t, taskrt.Cancelled, got[0].history.Attempts[0].Kind)
		require.Equal(t, "on request", got[0].history.Attempts[0].Message)
	})
}

// TestHistoriesTellOfDeaths takes a run twice with sessions that vanish, before a consumer gets
// it.
func TestHistoriesTellOfDeaths(t *testing.T) {
	for _, deaths := range []int{1, 2, 5} {
		synctest.Test(t, func(t *testing.T) {
			b := &historian{Broker: newMemory(t)}
			ctx := clientContext(t.Context(), b)
			h, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
			require.NoError(t, err)
			for range deaths {
				s, err := b.Broker.OpenSession(ctx, time.Second)
				require.NoError(t, err)
				runs, err := s.Take(ctx, broker.Want{Queues: []string{"default"}, IO: 1})
				require.NoError(t, err)
				require.Len(t, runs, 1)
				time.Sleep(2 * time.Second)
				_, err = b.Recover(ctx, []string{"default"})
				require.NoError(t, err)
			}
			consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
			_, err = h.Wait(ctx)
			synctest.Wait()
			got := b.of(h.ID)
			require.Len(t, got, 1)
			attempts := got[0].history.Attempts
			if deaths < 3 {
				require.NoError(t, err)
				require.Len(t, attempts, deaths+1)
				require.Empty(t, attempts[deaths].Kind)
				attempts = attempts[:deaths]
			} else {
				require.ErrorContains(t, err, "crashed")
				require.Len(t, attempts, deaths, "it was not executed again")
			}
			for _, a := range attempts {
				require.Equal(t, broker.Attempt{Kind: taskrt.Crashed, Message: "it did not come to an end: its process died, or its consumer stopped renewing its lease"}, a)
			}
		})
	}
}

// TestHistoriesOfSecretsHideThem has an error quote a secret parameter.
func TestHistoriesOfSecretsHideThem(t *testing.T) {
	b := &historian{Broker: newMemory(t)}
	consume(t, b, taskrt.ConsumerConfig{Retry: func(*taskrt.Run, error) (time.Duration, bool) { return 0, false }}, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	const secret = "correct horse battery"
	h, err := tasks.QueueLeak(ctx, "error", secret, [8]byte{}, nil, 0, 0, tasks.Credentials{}, nil, taskrt.Keep(time.Minute))
	require.NoError(t, err)
	_, err = h.Wait(ctx)
	var failure *taskrt.RunError
	require.True(t, errors.As(err, &failure))
	got := b.of(h.ID)
	require.NotEmpty(t, got)
	message := got[len(got)-1].history.Attempts[0].Message
	require.Contains(t, message, "***")
	require.NotContains(t, message, secret)
}

// TestAChildThatCrashesIsInTheHistoryOnce has a CPU-bound run crash until it is a dead letter.
func TestAChildThatCrashesIsInTheHistoryOnce(t *testing.T) {
	b := &historian{Broker: newMemory(t)}
	c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: quiet, MaxCrashes: 2}, tasks.Tasks(nil))
	require.NoError(t, err)
	start(t, c.Run)
	ctx := clientContext(childContext(t), b)
	h, err := tasks.QueueMisbehave(ctx, "exit", taskrt.Keep(time.Minute))
	require.NoError(t, err)
	_, err = h.Wait(ctx)
	require.Error(t, err)
	got := b.of(h.ID)
	attempts := got[len(got)-1].history.Attempts
	require.Len(t, attempts, 2)
	for _, a := range attempts {
		require.Equal(t, taskrt.Crashed, a.Kind)
		require.False(t, a.Started.IsZero())
		require.Contains(t, a.Message, "child process")
	}
}

// TestStatusTellsTimesAndAttempts asks while a run waits, executes and has ended.
func TestStatusTellsTimesAndAttempts(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		release := make(chan struct{}, 2)
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		h, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Hour))
		require.NoError(t, err)
		status, err := h.Status(ctx)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), status.QueuedAt, time.Second)
		queued := status.QueuedAt
		require.Equal(t, taskrt.Status{ID: h.ID, Task: "recorder_record", Queue: "default", State: broker.StateQueued, QueuedAt: queued}, status)

		consume(t, b, taskrt.ConsumerConfig{Retry: func(*taskrt.Run, error) (time.Duration, bool) { return time.Millisecond, true }},
			tasks.Tasks(new(journal).recorder(func(ctx context.Context, run *taskrt.Run, _ string) error {
				if run.Attempt == 1 {
					return errors.New("no luck")
				}
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil
			})))
		require.Eventually(t, func() bool {
			status, err = h.Status(ctx)
			return err == nil && status.State == broker.StateRunning && status.Attempt == 1
		}, 20*time.Second, 10*time.Millisecond)
		require.Len(t, status.Attempts, 1)
		require.Equal(t, "no luck", status.Attempts[0].Message)
		require.Equal(t, taskrt.Failed, status.Attempts[0].Kind)
		require.Contains(t, status.Attempts[0].Host, fmt.Sprint(":", os.Getpid()))
		require.Zero(t, status.EndedAt)
		release <- struct{}{}
		_, err = h.Wait(ctx)
		require.NoError(t, err)
		status, err = h.Status(ctx)
		require.NoError(t, err)
		require.WithinDuration(t, queued, status.QueuedAt, time.Millisecond)
		require.False(t, status.EndedAt.Before(status.Attempts[1].Started.Add(-time.Second)))
		require.Len(t, status.Attempts, 2)
		require.Empty(t, status.Attempts[1].Kind)
	})
}
