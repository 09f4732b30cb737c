package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// heard is what a consumer says of left out runs.
type heard struct {
	mu     sync.Mutex
	log    bytes.Buffer
	events []taskrt.Event
}

func (h *heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(b)
}

func (h *heard) config() taskrt.ConsumerConfig {
	return taskrt.ConsumerConfig{
		Logger: slog.New(slog.NewTextHandler(h, nil)),
		OnEvent: func(e taskrt.Event) {
			if e.Kind == taskrt.RunDropped {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.events = append(h.events, e)
			}
		},
	}
}

func (h *heard) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// onBoth runs a test over the embedded broker, in a bubble, and over Redis.
func onBoth(t *testing.T, test func(t *testing.T, b broker.Broker)) {
	t.Run("embedded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(t, newMemory(t)) })
	})
	t.Run("redis", func(t *testing.T) {
		test(t, openRedis(t, redistest.Start(t)))
	})
}

// once has a unique key of the result that it gets.
func once(opts ...taskrt.QueueOption) taskrt.Next[string, taskrt.None] {
	return tasks.NextRecorderOnce(1).With(opts...)
}

// TestASkippedRunIsReportedOnAnotherGoroutine has OnEvent end its goroutine, and then not
// return: other runs are executed all the same.
func TestASkippedRunIsReportedOnAnotherGoroutine(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		told := make(chan string, 2)
		release := make(chan struct{})
		defer close(release)
		consume(t, b, taskrt.ConsumerConfig{OnEvent: func(e taskrt.Event) {
			if e.Kind != taskrt.RunDropped {
				return
			}
			told <- e.Run.ID
			if len(told) == 1 {
				goruntime.Goexit()
			}
			<-release
		}}, tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		_, err := tasks.QueueRecorderOnce(ctx, "a: 0 of 0", 1, taskrt.Delay(time.Hour))
		require.NoError(t, err)
		for range 2 {
			left, err := taskrt.Then(tasks.CallSum(nil, "a"), once(taskrt.Keep(time.Hour))).Queue(ctx)
			require.NoError(t, err)
			_, err = left.Wait(ctx)
			require.ErrorIs(t, err, taskrt.ErrDuplicate)
		}
		require.Eventually(t, func() bool { return len(told) == 2 }, 20*time.Second, time.Millisecond)
		other, err := tasks.QueueRecorderRecord(ctx, "other", taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = other.Wait(ctx)
		require.NoError(t, err)
	})
}

// TestWhoeverHoldsASkippedRunLearnsIt has what follows be in the way of a
// live run, by its key and by its id, in its own queue and in another.
func TestWhoeverHoldsASkippedRunLearnsIt(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		var h heard
		consume(t, b, h.config(), tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		byKey, err := tasks.QueueRecorderOnce(ctx, "a: 0 of 0", 1, taskrt.Delay(time.Hour))
		require.NoError(t, err)
		kept, err := tasks.QueueHalf(ctx, 2, taskrt.ID("kept"), taskrt.Delay(time.Hour))
		require.NoError(t, err)
		_, err = tasks.QueueRecorderRecord(ctx, "x", taskrt.ID("unkept"), taskrt.Delay(time.Hour))
		require.NoError(t, err)

		const sum = "the-sum"
		left, err := taskrt.Then(tasks.CallSum(nil, "a").With(taskrt.ID(sum)), once(taskrt.Keep(time.Hour))).Queue(ctx)
		require.NoError(t, err)
		requireSkipped := func(id, by string, wait func(context.Context) error, status func(context.Context) (taskrt.Status, error)) {
			t.Helper()
			waitErr := wait(ctx)
			_, statusErr := status(ctx)
			for _, err := range []error{waitErr, statusErr} {
				require.ErrorIs(t, err, taskrt.ErrDuplicate)
				var duplicate *taskrt.DuplicateError
				require.ErrorAs(t, err, &duplicate)
				require.Equal(t, []broker.Duplicate{{ID: by}}, duplicate.Runs)
				require.ErrorContains(t, err, "run "+id+" was left out when run ")
			}
		}
		requireSkipped(left.ID, byKey.ID, wait(left), left.Status)

		same, err := taskrt.Then(tasks.CallHalf(8), tasks.NextHalf()).Queue(ctx, taskrt.ID("kept"))
		require.NoError(t, err)
		requireSkipped("kept", "kept", wait(same), same.Status)
		status, err := kept.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "delayed", status.State, "the run in its way")

		after, err := taskrt.Then(taskrt.Then(tasks.CallHalf(8), tasks.NextHalf().With(taskrt.ID("unkept"))), tasks.NextHalf()).Queue(ctx)
		require.NoError(t, err)
		requireSkipped("unkept", "unkept", wait(after), after.Status)

		unheard, err := taskrt.Then(tasks.CallSum(nil, "a"), once()).Queue(ctx, taskrt.Header("trace", "x"))
		require.NoError(t, err)
		_, err = unheard.Wait(ctx)
		require.ErrorIs(t, err, taskrt.ErrNoRecord, "it keeps none")
		unkeptSum, err := taskrt.Then(tasks.CallSum(nil, "b"), once(taskrt.Keep(time.Minute))).Queue(ctx)
		require.NoError(t, err)
		_, err = unkeptSum.Wait(ctx)
		require.NoError(t, err, "nothing is in its way")

		require.Eventually(t, func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.events) == 4
		}, 20*time.Second, 10*time.Millisecond)
		require.Contains(t, h.text(), fmt.Sprintf("task=recorder_once run=%s queue=default after=%s live=%s", left.ID, sum, byKey.ID), "the first of its task")
		h.mu.Lock()
		defer h.mu.Unlock()
		require.True(t, slices.ContainsFunc(h.events, func(e taskrt.Event) bool { return e.Run.ID == unheard.ID }))
		for _, e := range h.events {
			require.Equal(t, taskrt.Duplicate, e.Err.Kind)
			require.ErrorIs(t, e.Err, taskrt.ErrDuplicate)
			if e.Run.ID == left.ID {
				require.Equal(t, sum, e.Run.ParentID)
				require.Contains(t, e.Err.Message, "run "+byKey.ID)
			}
		}
	})
}

// wait is a handle's Wait without its result.
func wait[R any](h *taskrt.Handle[R]) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := h.Wait(ctx)
		return err
	}
}

// TestARunWithAnIDThatWasUsedBeforeIsWaitedFor has the record of an earlier run stand
// under the id until the run is queued.
func TestARunWithAnIDThatWasUsedBeforeIsWaitedFor(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		before, err := tasks.QueueHalf(ctx, 6, taskrt.ID("daily"))
		require.NoError(t, err)
		n, err := before.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		daily, err := taskrt.Then(tasks.CallHalf(40).With(taskrt.Delay(500*time.Millisecond)), tasks.NextHalf()).Queue(ctx, taskrt.ID("daily"))
		require.NoError(t, err)
		status, err := daily.Status(ctx)
		require.NoError(t, err)
		require.Equal(t, taskrt.Status{ID: "daily", Task: "half", Queue: "default", State: "delayed"}, status)
		n, err = daily.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 10, n)
		status, err = daily.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "succeeded", status.State)
	})
}

// TestCancelOfWhatFollows goes back to what is there, and leaves alone a live run
// with its id.
func TestCancelOfWhatFollows(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		other, err := tasks.QueueHalf(ctx, 2, taskrt.ID("same"), taskrt.Delay(time.Hour))
		require.NoError(t, err)
		first := tasks.CallHalf(8).With(taskrt.ID("first"))
		same := taskrt.Then(first.With(taskrt.Delay(time.Hour)), tasks.NextHalf().With(taskrt.ID("same")))
		last, err := taskrt.Then(same, tasks.NextHalf()).Queue(ctx)
		require.NoError(t, err)
		require.NoError(t, last.Cancel(ctx))
		_, err = last.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, "first", failure.ID)
		require.ErrorIs(t, err, taskrt.ErrCancelled)
		status, err := other.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "delayed", status.State)
		require.ErrorIs(t, last.Cancel(ctx), taskrt.ErrNoRecord, "all is over")

		second, err := taskrt.Then(first, tasks.NextHalf()).Queue(ctx, taskrt.Delay(time.Hour))
		require.NoError(t, err)
		_, err = tasks.HandleHalf(ctx, "first").Wait(ctx)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return second.Cancel(ctx) == nil }, 20*time.Second, 10*time.Millisecond)
		_, err = second.Wait(ctx)
		require.ErrorAs(t, err, &failure)
		require.Equal(t, second.ID, failure.ID)
		require.ErrorIs(t, err, taskrt.ErrCancelled)
	})
}

// TestAGatheringRunExpiresFromItsOwnQueueing has the members take longer than the time of
// //task:expire.
func TestAGatheringRunExpiresFromItsOwnQueueing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b broker.Broker) {
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(new(journal).recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		expire := func(next taskrt.QueueHandler) taskrt.QueueHandler {
			return func(ctx context.Context, runs ...*broker.TaskRun) error {
				runs[len(runs)-1].Expire = time.Second // the gathering one
				return next(ctx, runs...)
			}
		}
		ctx = taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{expire}}))
		total, err := taskrt.Group([]taskrt.Call[int64]{tasks.CallHalf(2).With(taskrt.Delay(2 * time.Second))}, sums()).Queue(ctx)
		require.NoError(t, err)
		text, err := total.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, "s: 1 of 1", text)
	})
}

// TestACoreBrokersConsumerTellsOfWhatItLeavesOut has a consumer queue follow-ups itself,
// as its broker has no leases.
func TestACoreBrokersConsumerTellsOfWhatItLeavesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var h heard
		consume(t, core{b}, h.config(), tasks.Tasks(new(journal).recorder(nil)))
		ctx := clientContext(context.Background(), core{b})
		_, err := tasks.QueueHalf(ctx, 2, taskrt.ID("live"), taskrt.Delay(time.Hour))
		require.NoError(t, err)
		_, err = taskrt.Then(tasks.CallHalf(8), tasks.NextHalf()).Queue(ctx, taskrt.ID("live"))
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Contains(t, h.text(), "run=live queue=default")
		require.Len(t, h.events, 1)
	})
}

// TestAFollowerTooLargeToBeStoredFailsItsRunAlone has a result make a follow-up too
// large, while other runs end in the same request.
func TestAFollowerTooLargeToBeStoredFailsItsRunAlone(t *testing.T) {
	large := &taskrt.Definition[struct{}, string]{
		Spec:         taskrt.Spec{Name: "large", Result: "string", Keep: time.Hour},
		AppendParams: func(_ *struct{}, b []byte) ([]byte, error) { return append(b, 0x80), nil },
		ReadParams:   func(_ *struct{}, r *codec.Reader) { r.Skip() },
		AppendResult: func(b []byte, s *string) ([]byte, error) { return codec.AppendString(b, *s), nil },
		ReadResult:   func(r *codec.Reader, s *string) { *s = r.String() },
	}
	onBoth(t, func(t *testing.T, b broker.Broker) {
		bound := taskrt.Bind(large, func(context.Context, *struct{}) (string, error) {
			return strings.Repeat("x", broker.MaxBatch), nil
		})
		consume(t, b, taskrt.ConsumerConfig{MaxResult: 2 * broker.MaxBatch}, tasks.Tasks(new(journal).recorder(nil)), []taskrt.Task{bound})
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		const first = "the-large"
		after, err := taskrt.Then(taskrt.NewCall(large, &struct{}{}).With(taskrt.ID(first)), once(taskrt.Keep(time.Hour))).Queue(ctx)
		require.NoError(t, err)
		good, err := taskrt.Then(tasks.CallHalf(8), tasks.NextHalf()).Queue(ctx)
		require.NoError(t, err)

		_, err = after.Wait(ctx)
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, first, failure.ID)
		require.Equal(t, taskrt.Failed, failure.Kind)
		require.Contains(t, failure.Message, fmt.Sprintf("run %q of task \"recorder_once\", which is to follow, cannot be stored, with ", after.ID))
		require.Contains(t, failure.Message, fmt.Sprintf("at most %d are allowed: ", broker.MaxBatch))
		require.Contains(t, failure.Message, "return less, or keep it elsewhere and return where, then queue the run before it again (dead retry)")
		n, err := good.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
		letters, err := b.(broker.Records).DeadLetters(ctx, "default", 10)
		require.NoError(t, err)
		require.Len(t, letters, 1)
		require.Equal(t, first, letters[0].ID)
	})
}

// slow takes its time to finish, and notes how large the results of a call are.
type slow struct {
	broker.Broker
	broker.Leaser
	mu    sync.Mutex
	sizes []int // MiB
}

type slowSession struct {
	broker.Session
	s *slow
}

func (s *slow) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	session, err := s.Leaser.OpenSession(ctx, lease)
	return slowSession{session, s}, err
}

func (s slowSession) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	size := 0
	for _, o := range outcomes {
		size += len(o.Result)
	}
	s.s.mu.Lock()
	s.s.sizes = append(s.s.sizes, size>>20)
	s.s.mu.Unlock()
	time.Sleep(time.Second)
	return s.Session.Finish(ctx, outcomes...)
}

// TestOutcomesGoInPortions has many large outcomes gather while the broker is slow.
func TestOutcomesGoInPortions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t)
		s := &slow{Broker: m, Leaser: m}
		consume(t, s, taskrt.ConsumerConfig{Concurrency: 20, MaxResult: 20 << 20, MaxPayload: 32 << 20}, tasks.Tasks(nil))
		ctx := clientContext(context.Background(), m)
		_, err := tasks.QueueSum(ctx, nil, "small")
		require.NoError(t, err)
		time.Sleep(100 * time.Millisecond) // until it is being finished
		large := taskrt.WithClient(ctx, taskrt.NewClient(m, taskrt.ClientConfig{MaxPayload: 32 << 20}))
		for _, mib := range []int{3, 3, 3, 3, 3, 3, 3, 18, 1} {
			_, err = tasks.QueueSum(large, nil, strings.Repeat("x", mib<<20))
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Equal(t, []int{0, 15, 6, 18, 1}, s.sizes, "MiB in each request")
	})
}
