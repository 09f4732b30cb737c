package runtime_test

import (
	"context"
	"errors"
	"math"
	goruntime "runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestFailedAttemptsAreRetriedWithinThePolicysWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(context.Context, *taskrt.Run, string) error {
			return errors.New("out of luck")
		})))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = handle.Wait(ctx)

		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, taskrt.RunError{Task: "recorder_record", ID: handle.ID, Kind: taskrt.Failed, Attempt: 4, Message: "out of luck"}, *failure)
		require.Equal(t, "run "+handle.ID+" of task recorder_record: failed after 4 attempts: out of luck", failure.Error())
		runs := j.all()
		require.Len(t, runs, 4, "one attempt and three retries")
		for i, ceiling := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			require.Equal(t, i+1, runs[i].run.Attempt)
			wait := runs[i+1].at.Sub(runs[i].at)
			require.Positive(t, wait)
			require.LessOrEqual(t, wait, ceiling+time.Millisecond, "wait after attempt %d", i+1)
		}
		dead, err := b.DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Len(t, dead, 1)
		require.Equal(t, handle.ID, dead[0].Run.ID)
	})
}

func TestVerdictsOfATask(t *testing.T) {
	for _, test := range []struct {
		name     string
		err      error
		attempts int
		after    time.Duration // between the first two attempts
	}{
		{"permanent", taskrt.Permanent(errors.New("no")), 1, 0},
		{"wrapped permanent", errors.Join(errors.New("why"), taskrt.Permanent(errors.New("no"))), 1, 0},
		{"retry after", taskrt.RetryAfter(42*time.Minute, errors.New("later")), 4, 42 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newMemory(t)
				var j journal
				consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(func(context.Context, *taskrt.Run, string) error { return test.err })))
				ctx := clientContext(context.Background(), b)
				handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
				require.NoError(t, err)
				_, err = handle.Wait(ctx)
				require.ErrorContains(t, err, test.err.Error())
				runs := j.all()
				require.Len(t, runs, test.attempts)
				if test.attempts > 1 {
					wait := runs[1].at.Sub(runs[0].at)
					require.GreaterOrEqual(t, wait, test.after, "never sooner than asked for")
					require.LessOrEqual(t, wait, test.after+time.Minute)
				}
			})
		})
	}
	require.NoError(t, taskrt.Permanent(nil))
	require.NoError(t, taskrt.RetryAfter(time.Second, nil))
}

// TestTheLongestWaitIsACentury, which every broker can write down.
func TestTheLongestWaitIsACentury(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for name, test := range map[string]struct {
		err   error
		retry func(*taskrt.Run, error) (time.Duration, bool)
	}{
		"asked for by the task": {err: taskrt.RetryAfter(math.MaxInt64, errors.New("later"))},
		"asked for by the application": {
			err:   errors.New("later"),
			retry: func(*taskrt.Run, error) (time.Duration, bool) { return math.MaxInt64, true },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newMemory(t)
				consume(t, b, taskrt.ConsumerConfig{Retry: test.retry}, tasks.Tasks(new(journal).recorder(
					func(context.Context, *taskrt.Run, string) error { return test.err })))
				ctx := clientContext(context.Background(), b)
				began := time.Now()
				handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
				require.NoError(t, err)
				time.Sleep(time.Second)
				status, err := handle.Status(ctx)
				require.NoError(t, err)
				require.EqualValues(t, "delayed", status.State)
				delayed, err := b.Runs(ctx, "default", broker.StateDelayed, 10)
				require.NoError(t, err)
				require.Len(t, delayed, 1)
				require.WithinDuration(t, began.Add(century), delayed[0].Due, time.Second)
			})
		})
	}
}

func TestPanicAndGoexitAreFailedAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1}, tasks.Tasks(&tasks.Recorder{Do: func(_ context.Context, _ *taskrt.Run, note string) error {
			if note == "goexit" {
				goruntime.Goexit()
			}
			panic("at the disco")
		}}))
		ctx := clientContext(context.Background(), b)
		for note, want := range map[string]string{"panic": "panic: at the disco", "goexit": "the task called runtime.Goexit"} {
			handle, err := tasks.QueueRecorderRecord(ctx, note, taskrt.Keep(time.Minute))
			require.NoError(t, err)
			_, err = handle.Wait(ctx)
			var failure *taskrt.RunError
			require.ErrorAs(t, err, &failure)
			require.Equal(t, want, failure.Message)
			require.Equal(t, 4, failure.Attempt)
			if note == "panic" {
				require.Contains(t, failure.Stack, "attempt_test.go")
			}
		}
	})
}

func TestTimeoutEndsAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		start := time.Now()
		var took []time.Duration
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, run *taskrt.Run, _ string) error {
			began := time.Now()
			require.Equal(t, began.Add(5*time.Second), run.Deadline)
			<-ctx.Done()
			took = append(took, time.Since(began))
			return taskrt.Permanent(ctx.Err())
		}}))
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, taskrt.Timeout, failure.Kind)
		require.Equal(t, []time.Duration{5 * time.Second}, took)
		require.Equal(t, 5*time.Second, time.Since(start))
	})
}

func TestExpiredRunIsDroppedUnstarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		ctx := clientContext(context.Background(), b)
		handle, err := tasks.QueueRecorderExpiring(ctx, "x")
		require.NoError(t, err)
		time.Sleep(11 * time.Second)
		var j journal
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(nil)))
		_, err = handle.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, taskrt.Expired, failure.Kind)
		require.Empty(t, j.all())
	})
}
