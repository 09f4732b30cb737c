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

func inBubble(t *testing.T, cfg taskrt.ConsumerConfig, j *journal, test func(t *testing.T, ctx context.Context)) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, cfg, tasks.Tasks(j.recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		test(t, ctx)
	})
}

func TestResultsGoFromTaskToTask(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		twice := taskrt.Then(tasks.CallHalf(40), tasks.NextHalf())
		eighth, err := taskrt.Then(twice, tasks.NextHalf().With(taskrt.Delay(10*time.Minute))).Queue(ctx, taskrt.ID("eighth"))
		require.NoError(t, err)
		require.Equal(t, "eighth", eighth.ID)
		status, err := eighth.Status(ctx)
		require.NoError(t, err)
		require.Equal(t, taskrt.Status{ID: "eighth", Task: "half", Queue: "default", State: "delayed"}, status, "before it is queued")
		began := time.Now()
		n, err := eighth.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 5, n)
		require.GreaterOrEqual(t, time.Since(began), 10*time.Minute, "its delay counts from what it follows")
	})
}

// TestTheFirstOfThreeIsWaitedFor has the last run of a chain alone keep a record.
func TestTheFirstOfThreeIsWaitedFor(t *testing.T) {
	j := new(journal)
	inBubble(t, taskrt.ConsumerConfig{}, j, func(t *testing.T, ctx context.Context) {
		record := func(note string) taskrt.Next[taskrt.None, taskrt.None] {
			return taskrt.After[taskrt.None](tasks.CallRecorderRecord(note))
		}
		first := tasks.CallRecorderRecord("first").With(taskrt.Delay(time.Minute))
		last, err := taskrt.Then(taskrt.Then(first, record("second")), record("third")).Queue(ctx, taskrt.Keep(time.Minute))
		require.NoError(t, err)
		status, err := last.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "delayed", status.State)
		_, err = last.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"first", "second", "third"}, j.notes())
	})
}

// TestAChainCanFollowARun joins two chains, and a group with a chain that gathers it.
func TestAChainCanFollowARun(t *testing.T) {
	j := new(journal)
	inBubble(t, taskrt.ConsumerConfig{}, j, func(t *testing.T, ctx context.Context) {
		chain := taskrt.Then(tasks.CallRecorderRecord("a"), taskrt.After[taskrt.None](tasks.CallRecorderRecord("b")))
		for _, call := range []taskrt.Call[taskrt.None]{
			taskrt.Then(tasks.CallHalf(2), taskrt.After[int64](chain)),
			taskrt.Group(halves(2, 4), taskrt.After[[]int64](chain)),
		} {
			last, err := call.Queue(ctx, taskrt.Keep(time.Minute))
			require.NoError(t, err)
			_, err = last.Wait(ctx)
			require.NoError(t, err)
		}
		require.Equal(t, []string{"a", "b", "a", "b"}, j.notes())
	})
}

func TestWhatFollowsAFailureDoesNotRun(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		last, err := taskrt.Then(tasks.CallHalf(7), tasks.NextHalf()).Queue(ctx)
		require.NoError(t, err)
		_, err = last.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, "7 is odd", failure.Message)
		require.NotEqual(t, last.ID, failure.ID, "the run that failed is the first")
		status, err := last.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "failed", status.State)
		require.Equal(t, failure.ID, status.Err.ID)
	})
}

func TestLineageOfWhatFollows(t *testing.T) {
	j := new(journal)
	inBubble(t, taskrt.ConsumerConfig{}, j, func(t *testing.T, ctx context.Context) {
		after := taskrt.After[taskrt.None](tasks.CallRecorderRecord("after").With(taskrt.Header("trace", "abc")))
		last, err := taskrt.Then(tasks.CallRecorderRecord("first"), after).Queue(ctx, taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = last.Wait(ctx)
		require.NoError(t, err)
		entries := j.all()
		require.Len(t, entries, 2)
		require.Equal(t, "first", entries[0].note)
		require.Equal(t, "after", entries[1].note)
		require.Equal(t, entries[0].run.ID, entries[1].run.ParentID)
		require.Equal(t, entries[0].run.ID, entries[1].run.RootID)
		require.Equal(t, map[string]string{"trace": "abc"}, entries[1].run.Headers)
	})
}

// TestPoliciesOfWhatFollowsGoByTheResult has the key of a follow-up depend on the result
// of the run before it.
func TestPoliciesOfWhatFollowsGoByTheResult(t *testing.T) {
	var j journal
	inBubble(t, taskrt.ConsumerConfig{}, &j, func(t *testing.T, ctx context.Context) {
		for _, title := range []string{"a", "b"} {
			first := tasks.CallSum(nil, title).With(taskrt.OnQueue("default"))
			_, err := taskrt.Then(first, tasks.NextRecorderOnce(1)).Queue(ctx, taskrt.Delay(time.Minute))
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		_, err := tasks.QueueRecorderOnce(ctx, "a: 0 of 0", 2)
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "one that follows waits with this note")
		time.Sleep(time.Hour)
		require.ElementsMatch(t, []string{"a: 0 of 0", "b: 0 of 0"}, j.notes())
	})
}

func TestEventsAndRetriesOfTheApplication(t *testing.T) {
	var events []string
	cfg := taskrt.ConsumerConfig{
		Concurrency: 1,
		OnEvent: func(e taskrt.Event) {
			if e.Kind == taskrt.RunRecorded {
				return
			}
			text := fmt.Sprintf("%s %d", e.Kind, e.Run.Attempt)
			if e.Err != nil {
				text += " " + e.Err.Message
			}
			if e.Wait > 0 {
				text += " " + e.Wait.String()
			}
			events = append(events, text)
			if e.Kind == taskrt.RunRetried {
				panic("the application's own")
			}
		},
		Retry: func(run *taskrt.Run, err error) (time.Duration, bool) {
			return 90 * time.Minute, run.Attempt != 2
		},
	}
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, cfg, tasks.Tasks(new(journal).recorder(func(context.Context, *taskrt.Run, string) error { return errors.New("no luck") })))
		handle, err := tasks.QueueRecorderRecord(clientContext(context.Background(), b), "x", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = handle.Wait(t.Context())
		require.ErrorContains(t, err, "failed after 2 attempts: no luck")
		require.Equal(t, []string{"started 1", "retried 1 no luck 1h30m0s", "started 2", "failed 2 no luck"}, events)
	})
}

// TestWhatFollowsIsRefusedWhereItIsNotKept has a broker with leases and without policies.
func TestWhatFollowsIsRefusedWhereItIsNotKept(t *testing.T) {
	b := newMemory(t)
	leased := struct {
		broker.Broker
		broker.Leaser
	}{b, b}
	ctx := clientContext(t.Context(), leased)
	_, err := taskrt.Then(tasks.CallHalf(4), tasks.NextHalf()).Queue(ctx)
	require.ErrorContains(t, err, "task half is followed by another, which this broker does not keep; use one that has broker.Policies")
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Zero(t, lengths["default"])
	_, err = tasks.QueueHalf(ctx, 4)
	require.NoError(t, err, "alone")
}

// TestPoliciesOfWhatFollowsAreRefusedWhereTheyAreNotKept has follow-ups with policies
// that the broker does not have.
func TestPoliciesOfWhatFollowsAreRefusedWhereTheyAreNotKept(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(t.Context(), core{b})
	sum := tasks.CallSum(nil, "s")
	_, err := taskrt.Then(sum, tasks.NextRecorderOnce(1)).Queue(ctx)
	require.ErrorContains(t, err, "task recorder_once has //task:unique, which this broker does not keep")
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Empty(t, lengths)
	_, err = taskrt.Then(sum, tasks.NextEcho(1)).Queue(ctx)
	require.NoError(t, err, "without policies; the consumer queues what follows")
}
