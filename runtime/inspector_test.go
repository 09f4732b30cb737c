package runtime_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// inspected does f with an inspector of the embedded broker and one of Redis. ctx has a
// client for stubs.
func inspected(t *testing.T, f func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector)) {
	t.Helper()
	test := func(b broker.Broker) func(*testing.T) {
		return func(t *testing.T) {
			i, err := taskrt.NewInspector(b, tasks.Tasks(nil))
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			f(t, clientContext(ctx, b), b, i)
		}
	}
	t.Run("memory", test(newMemory(t)))
	b, err := redis.Open(t.Context(), redistest.Start(t).URL(), redis.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	t.Run("redis", test(b))
}

// end takes the runs of a queue and ends those with a verdict and a failure.
func end(t *testing.T, ctx context.Context, b broker.Broker, queue string, n int, verdict broker.Verdict, f *broker.Failure) {
	t.Helper()
	s, err := b.(broker.Leaser).OpenSession(ctx, time.Minute)
	require.NoError(t, err)
	for n > 0 {
		runs, err := s.Take(ctx, broker.Want{Queues: []string{queue}, IO: n, CPU: n})
		require.NoError(t, err)
		for _, run := range runs {
			run.Attempt++
			_, err := s.Finish(ctx, broker.Outcome{Run: run, Verdict: verdict, Failure: f})
			require.NoError(t, err)
			n--
		}
	}
	require.NoError(t, s.Close(ctx))
}

// pages returns the ids of all pages of runs that a filter chooses.
func pages(t *testing.T, ctx context.Context, i *taskrt.Inspector, f taskrt.RunFilter, o taskrt.PageOptions) (ids []string, looked int) {
	t.Helper()
	for n := 0; n == 0 || o.After != ""; n++ {
		require.Less(t, n, 1000, "pages go on for ever")
		page, err := i.Runs(ctx, f, o)
		require.NoError(t, err)
		require.Empty(t, page.Skipped)
		require.LessOrEqual(t, len(page.Runs), o.Max)
		for _, run := range page.Runs {
			ids = append(ids, run.Run.ID)
		}
		o.After = page.After
		looked += page.Looked
	}
	return ids, looked
}

func TestPagesGoThroughAllQueuesAndStates(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, _ broker.Broker, i *taskrt.Inspector) {
		var want, echoes, tagged []string
		for _, delay := range []time.Duration{0, time.Hour} { // queued runs are listed before delayed ones
			for q := range 30 {
				for n := range q % 5 {
					id := fmt.Sprintf("%v-%02d-%d", delay > 0, q, n)
					options := []taskrt.QueueOption{taskrt.ID(id), taskrt.OnQueue(fmt.Sprintf("queue-%02d", q)), taskrt.Delay(delay * time.Duration(n+1))}
					var err error
					if n == 1 {
						_, err = tasks.QueueEcho(ctx, "x", 1, options...)
						echoes, tagged = append(echoes, id), append(tagged, id)
					} else {
						_, err = tasks.QueueRecorderRecord(ctx, "x", options...)
					}
					require.NoError(t, err)
					want = append(want, id)
				}
			}
		}
		for _, most := range []int{1, 7, 1000} {
			got, looked := pages(t, ctx, i, taskrt.RunFilter{}, taskrt.PageOptions{Max: most})
			require.Equal(t, want, got, "%d a page", most)
			require.GreaterOrEqual(t, looked, len(want))
		}
		for _, test := range []struct {
			filter taskrt.RunFilter
			want   []string
		}{
			{taskrt.RunFilter{Task: "echo"}, echoes},
			{taskrt.RunFilter{Tag: "demo"}, tagged},
			{taskrt.RunFilter{Task: "recorder_record", Tag: "demo"}, nil},
			{taskrt.RunFilter{Task: "gone"}, nil},
			{taskrt.RunFilter{Key: "true-04"}, []string{"true-04-0", "true-04-1", "true-04-2", "true-04-3"}},
			{taskrt.RunFilter{IDs: []string{"false-01-0", "true-01-0"}}, []string{"false-01-0", "true-01-0"}},
			{taskrt.RunFilter{States: []taskrt.State{broker.StateDelayed}, Queues: []string{"queue-02"}}, []string{"true-02-0", "true-02-1"}},
			{taskrt.RunFilter{Before: time.Now().Add(-time.Hour)}, nil},
			{taskrt.RunFilter{Since: time.Now().Add(-time.Hour), Key: "false-01"}, []string{"false-01-0"}},
			{taskrt.RunFilter{Kind: taskrt.Timeout}, nil},
			{taskrt.RunFilter{Error: "x"}, nil},
		} {
			got, _ := pages(t, ctx, i, test.filter, taskrt.PageOptions{Max: 3})
			require.Equal(t, test.want, got, "%+v", test.filter)
		}

		page, err := i.Runs(ctx, taskrt.RunFilter{States: []taskrt.State{broker.StateQueued}}, taskrt.PageOptions{Max: len(want) / 2})
		require.NoError(t, err)
		require.EqualValues(t, len(want)/2, page.Total)
		require.Empty(t, page.After, "a full page behind which nothing is")
	})
}

func TestAPageLooksAtSoManyAndSaysHowToGoOn(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, _ broker.Broker, i *taskrt.Inspector) {
		for q := range 3 {
			_, err := tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, 100), taskrt.OnQueue(fmt.Sprintf("queue-%d", q)))
			require.NoError(t, err)
		}
		last, err := tasks.QueueEcho(ctx, "x", 1, taskrt.OnQueue("queue-2"))
		require.NoError(t, err)
		page, err := i.Runs(ctx, taskrt.RunFilter{Task: "echo"}, taskrt.PageOptions{Look: 50})
		require.NoError(t, err)
		require.Empty(t, page.Runs)
		require.NotEmpty(t, page.After)
		require.Positive(t, page.Looked)
		require.LessOrEqual(t, page.Looked, 100)
		got, _ := pages(t, ctx, i, taskrt.RunFilter{Task: "echo"}, taskrt.PageOptions{Max: 10, Look: 50, After: page.After})
		require.Equal(t, []string{last.ID}, got)
	})
}

// TestPagesOfEndedRunsEnd has several queues together hold more than a page is to look at, as a
// broker may look into all of them at once.
func TestPagesOfEndedRunsEnd(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		for q := range 3 {
			queue := fmt.Sprintf("queue-%d", q)
			_, err := tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, 20), taskrt.OnQueue(queue), taskrt.Keep(time.Hour))
			require.NoError(t, err)
			end(t, ctx, b, queue, 20, broker.Succeeded, nil)
		}
		got, looked := pages(t, ctx, i, taskrt.RunFilter{Task: "gone"}, taskrt.PageOptions{Look: 10})
		require.Empty(t, got)
		require.GreaterOrEqual(t, looked, 60)
		got, _ = pages(t, ctx, i, taskrt.RunFilter{Task: "recorder_record"}, taskrt.PageOptions{Max: 7, Look: 10})
		require.Len(t, got, 60)
	})
}

func TestDeadLettersOfManyQueuesAreMergedByTime(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		var want []string
		for n := range 40 { // the newest is listed first
			queue, kind := fmt.Sprintf("queue-%d", n*n%7), taskrt.Failed
			if n%4 == 0 {
				kind = taskrt.Timeout
			}
			id := fmt.Sprintf("run-%02d", n)
			_, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.ID(id), taskrt.OnQueue(queue))
			require.NoError(t, err)
			end(t, ctx, b, queue, 1, broker.Dead, &broker.Failure{Kind: kind, Message: fmt.Sprintf("SMTP said %d", n)})
			want = append([]string{id}, want...)
		}
		list := func(f taskrt.RunFilter, o taskrt.PageOptions) (ids []string) {
			var before time.Time
			for n := 0; n == 0 || o.After != ""; n++ {
				require.Less(t, n, 100)
				page, err := i.Dead(ctx, f, o)
				require.NoError(t, err)
				if len(f.Queues) == 0 {
					require.EqualValues(t, 40, page.Total)
				}
				for _, l := range page.Letters {
					require.True(t, before.IsZero() || !l.At.After(before), "newest first")
					before = l.At
					require.Equal(t, l.Queue, l.Run.Queue)
					ids = append(ids, l.ID)
				}
				o.After = page.After
			}
			return ids
		}
		same := func(want, got []string, why any) { // those of one millisecond have no order
			t.Helper()
			require.ElementsMatch(t, want, got, why)
		}
		for _, o := range []taskrt.PageOptions{{}, {Max: 1}, {Max: 7}, {Max: 3, Look: 2}} {
			same(want, list(taskrt.RunFilter{}, o), o)
		}
		some := func(f func(n int) bool) (ids []string) {
			for n := range 40 {
				if f(n) {
					ids = append(ids, fmt.Sprintf("run-%02d", n))
				}
			}
			return ids
		}
		same(some(func(n int) bool { return n%4 == 0 }), list(taskrt.RunFilter{Kind: taskrt.Timeout}, taskrt.PageOptions{Max: 4}), "kind")
		same(some(func(n int) bool { return n >= 30 }), list(taskrt.RunFilter{Error: "smtp SAID 3"}, taskrt.PageOptions{Max: 4})[:10], "error")
		one := taskrt.RunFilter{Queues: []string{"queue-1"}}
		same(some(func(n int) bool { return n*n%7 == 1 }), list(one, taskrt.PageOptions{Max: 2}), "one queue")
		require.Empty(t, list(taskrt.RunFilter{Before: time.Now().Add(-time.Hour)}, taskrt.PageOptions{}))
	})
}

func TestAQueueOfManyDeadLettersIsMergedWithOthers(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		want := map[string]bool{}
		for _, q := range []struct {
			queue string
			n     int
		}{{"few", 3}, {"many", 450}, {"few", 2}} { // more than a survey of Redis reads of one queue
			handles, err := tasks.QueueRecorderRecordBatch(ctx, make([]tasks.RecorderRecordParams, q.n), taskrt.OnQueue(q.queue))
			require.NoError(t, err)
			for _, h := range handles {
				want[h.ID] = true
			}
			end(t, ctx, b, q.queue, q.n, broker.Dead, &broker.Failure{Kind: taskrt.Failed})
		}
		o, before := taskrt.PageOptions{Max: 100, Look: 150}, time.Time{}
		for n := 0; n == 0 || o.After != ""; n++ {
			require.Less(t, n, 100)
			page, err := i.Dead(ctx, taskrt.RunFilter{}, o)
			require.NoError(t, err)
			require.EqualValues(t, 455, page.Total)
			for _, l := range page.Letters {
				require.True(t, want[l.ID], "once")
				delete(want, l.ID)
				require.True(t, before.IsZero() || !l.At.After(before), "newest first")
				before = l.At
			}
			o.After = page.After
		}
		require.Empty(t, want)
	})
}

func TestAnAfterOfAnotherListIsRefused(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		for range 3 {
			_, err := tasks.QueueRecorderRecord(ctx, "x")
			require.NoError(t, err)
			_, err = tasks.QueueEcho(ctx, "x", 1, taskrt.OnQueue("dying"))
			require.NoError(t, err)
			end(t, ctx, b, "dying", 1, broker.Dead, &broker.Failure{Kind: taskrt.Failed})
		}
		runs, err := i.Runs(ctx, taskrt.RunFilter{}, taskrt.PageOptions{Max: 1})
		require.NoError(t, err)
		dead, err := i.Dead(ctx, taskrt.RunFilter{}, taskrt.PageOptions{Max: 1})
		require.NoError(t, err)
		require.NotEmpty(t, dead.After)
		require.NotEqual(t, runs.After, dead.After)
		for _, after := range []string{dead.After, "x", "", runs.After + "A", "eyJ9", strings.Repeat("A", 10_000), "bnVsbA", "e30"} {
			if _, err := i.Runs(ctx, taskrt.RunFilter{}, taskrt.PageOptions{After: after}); after != "" {
				require.ErrorIs(t, err, taskrt.ErrAfter, after)
			}
		}
		_, err = i.Dead(ctx, taskrt.RunFilter{}, taskrt.PageOptions{After: runs.After})
		require.ErrorIs(t, err, taskrt.ErrAfter)
		_, err = i.Dead(ctx, taskrt.RunFilter{Queues: []string{"dying"}}, taskrt.PageOptions{After: dead.After})
		require.ErrorIs(t, err, taskrt.ErrAfter, "of all queues")
		_, err = i.Runs(ctx, taskrt.RunFilter{States: []taskrt.State{broker.StateDelayed}}, taskrt.PageOptions{After: runs.After})
		require.ErrorIs(t, err, taskrt.ErrAfter, "of another state")

		// Within a list, the broker's own part of the text may be one that it refuses.
		one := taskrt.RunFilter{Queues: []string{"dying"}, States: []taskrt.State{broker.StateFailed}}
		runs, err = i.Runs(ctx, one, taskrt.PageOptions{Max: 1})
		require.NoError(t, err)
		require.NotEmpty(t, runs.After)
		_, err = i.Runs(ctx, one, taskrt.PageOptions{After: withInnerAfter(t, runs.After, "stale")})
		require.ErrorIs(t, err, taskrt.ErrAfter, "runs of one queue")
		dead, err = i.Dead(ctx, one, taskrt.PageOptions{Max: 1})
		require.NoError(t, err)
		_, err = i.Dead(ctx, one, taskrt.PageOptions{After: withInnerAfter(t, dead.After, "stale")})
		require.ErrorIs(t, err, taskrt.ErrAfter, "dead letters of one queue")
		several := taskrt.RunFilter{Queues: []string{"dying", "other"}, States: []taskrt.State{broker.StateFailed}}
		_, err = i.Runs(ctx, several, taskrt.PageOptions{After: withInnerAfter(t, runs.After, "stale")})
		require.ErrorIs(t, err, taskrt.ErrAfter, "runs of several queues")
	})
}

// withInnerAfter returns an After of the inspector with another After of the broker in it.
func withInnerAfter(t *testing.T, after, inner string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(after)
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal(b, &fields))
	require.NotEmpty(t, fields["a"])
	fields["a"] = inner
	b, err = json.Marshal(fields)
	require.NoError(t, err)
	return base64.RawURLEncoding.EncodeToString(b)
}

func TestOneRunIsFoundWhereverItIs(t *testing.T) {
	inspected(t, func(t *testing.T, ctx context.Context, b broker.Broker, i *taskrt.Inspector) {
		login, err := tasks.QueueLogin(ctx, "ada", 27182, taskrt.OnQueue("elsewhere"))
		require.NoError(t, err)
		d, err := i.Run(ctx, login.ID)
		require.NoError(t, err)
		require.Equal(t, broker.StateQueued, d.State)
		require.Equal(t, "elsewhere", d.Queue)
		params, err := json.Marshal(d.Params)
		require.NoError(t, err)
		require.Equal(t, `{"user":"ada","pin":"***"}`, string(params))
		require.NotNil(t, d.Run)
		require.Nil(t, d.Dead)

		end(t, ctx, b, "elsewhere", 1, broker.Dead, &broker.Failure{Kind: taskrt.OOM, Message: "too large"})
		d, err = i.Run(ctx, login.ID, "elsewhere")
		require.NoError(t, err)
		require.Equal(t, broker.StateFailed, d.State)
		require.Equal(t, taskrt.OOM, d.Failure.Kind)
		require.NotNil(t, d.Dead)
		require.WithinDuration(t, time.Now(), d.Ended, time.Minute)
		require.Len(t, d.Params, 2)

		done, err := tasks.QueueSquare(ctx, 12)
		require.NoError(t, err)
		s, err := b.(broker.Leaser).OpenSession(ctx, time.Minute)
		require.NoError(t, err)
		runs, err := s.Take(ctx, broker.Want{Queues: []string{"default"}, CPU: 1})
		require.NoError(t, err)
		d, err = i.Run(ctx, done.ID)
		require.NoError(t, err)
		require.Equal(t, broker.StateRunning, d.State)
		require.Equal(t, s.ID(), d.Session)
		_, err = s.Finish(ctx, broker.Outcome{Run: runs[0], Verdict: broker.Succeeded, Result: []byte{0xd1, 0, 144}})
		require.NoError(t, err)
		require.NoError(t, s.Close(ctx))
		d, err = i.Run(ctx, done.ID)
		require.NoError(t, err)
		require.Equal(t, broker.StateSucceeded, d.State)
		require.Equal(t, "144", string(d.Result))
		require.NoError(t, d.ResultErr)

		run := &broker.TaskRun{ID: "kept", Task: "square", Queue: "default", Kind: broker.CPU, QueuedAt: time.Now(), Keep: time.Hour, KeepParams: true, Payload: []byte("\x81\xa1n\x09")}
		require.NoError(t, b.QueueTasks(ctx, run))
		end(t, ctx, b, "default", 1, broker.Dropped, &broker.Failure{Kind: taskrt.Cancelled})
		d, err = i.Run(ctx, "kept")
		require.NoError(t, err)
		require.Equal(t, broker.StateCancelled, d.State)
		require.Equal(t, taskrt.ShownParams{{Name: "n", Value: json.RawMessage("9")}}, d.Params)
		require.WithinDuration(t, time.Now(), d.Ended, time.Minute)

		_, err = i.Run(ctx, "nobody")
		require.ErrorIs(t, err, taskrt.ErrNoRecord)
		require.ErrorContains(t, err, "no run nobody in the queues default, elsewhere")
		_, err = i.Run(ctx, "two words")
		require.ErrorContains(t, err, "printable ASCII")
		for _, queue := range []string{"default", "mail"} {
			_, err = tasks.QueueLinger(ctx, "x", taskrt.ID("mine"), taskrt.OnQueue(queue))
			require.NoError(t, err)
		}
		_, err = i.Run(ctx, "mine")
		var ambiguous *taskrt.AmbiguousError
		require.ErrorAs(t, err, &ambiguous)
		require.Equal(t, []string{"default", "mail"}, ambiguous.Queues)
		_, err = i.Cancel(ctx, "mine")
		require.ErrorAs(t, err, &ambiguous)
		cancelled, err := i.Cancel(ctx, "mine", "mail")
		require.NoError(t, err)
		require.Equal(t, &taskrt.CancelledRun{Queue: "mail"}, cancelled)
		_, err = i.Cancel(ctx, "mine", "mail")
		require.ErrorContains(t, err, "cancel run mine: it has ended in queue mail: cancelled")
		require.ErrorIs(t, err, taskrt.ErrNoRecord)
	})
}

func TestAQueueThatCannotBeReadIsSkipped(t *testing.T) {
	b := &upon{Broker: newMemory(t), bad: "bad"}
	ctx := clientContext(t.Context(), b)
	i, err := taskrt.NewInspector(b, tasks.Tasks(nil))
	require.NoError(t, err)
	for _, queue := range []string{"bad", "good"} {
		_, err := tasks.QueueEcho(ctx, "x", 1, taskrt.OnQueue(queue), taskrt.ID(queue))
		require.NoError(t, err)
	}
	page, err := i.Runs(ctx, taskrt.RunFilter{}, taskrt.PageOptions{})
	require.NoError(t, err)
	require.Len(t, page.Runs, 1)
	require.Len(t, page.Skipped, 1)
	require.Equal(t, "bad", page.Skipped[0].Queue)
	require.ErrorContains(t, page.Skipped[0].Err, "out of order")
	_, err = i.Runs(ctx, taskrt.RunFilter{Queues: []string{"bad"}}, taskrt.PageOptions{})
	require.ErrorContains(t, err, "out of order")
	_, err = i.Run(ctx, "nobody")
	require.ErrorContains(t, err, "; it may be in what could not be read: queue bad: skipped: out of order")
	r, err := i.CancelAll(ctx, taskrt.RunFilter{}, taskrt.ChangeOptions{DryRun: true})
	require.NoError(t, err)
	require.Equal(t, 1, r.Changed)
	require.Equal(t, "bad", r.Skipped[0].Queue)
}

// threeMethods is a broker with the three methods alone.
type threeMethods struct{ broker.Broker }

func TestAnInspectorNamesThePartThatIsMissing(t *testing.T) {
	_, err := taskrt.NewInspector(threeMethods{})
	require.EqualError(t, err, "make an inspector: this broker has no broker.Records, so its runs cannot be shown")
	_, err = taskrt.NewInspector(nil)
	require.EqualError(t, err, "make an inspector: the broker is nil")
	_, err = taskrt.NewInspector(newMemory(t), tasks.Tasks(nil), tasks.Tasks(nil))
	require.ErrorContains(t, err, "two tasks are named")

	b := newMemory(t)
	i, err := taskrt.NewInspector(struct { // the interfaces that it needs, and no others
		broker.Broker
		broker.Controls
		broker.Records
	}{b, b, b}, tasks.Tasks(nil))
	require.NoError(t, err)
	ctx := t.Context()
	_, err = i.Runs(ctx, taskrt.RunFilter{}, taskrt.PageOptions{})
	require.ErrorContains(t, err, "this broker has no broker.Searcher")
	_, err = i.Instances(ctx)
	require.EqualError(t, err, "list instances: this broker has no broker.Instances, so who is up is unknown")
	_, err = i.Tallies(ctx, time.Now(), time.Now())
	require.ErrorContains(t, err, "broker.Tallies")
	_, err = i.Requeue(ctx, taskrt.RunFilter{}, taskrt.ChangeOptions{})
	require.ErrorContains(t, err, "requeue dead letters: this broker has no broker.Searcher")
	_, err = i.Schedules(ctx)
	require.ErrorContains(t, err, "broker.Ticks")
	list, err := i.Queues(ctx)
	require.NoError(t, err)
	require.Equal(t, -1, list.Queues[0].Consumers)
	require.False(t, list.Queues[0].NoConsumer)
	require.NoError(t, i.Pause(ctx, "default"))
	list, err = i.Queues(ctx, "default")
	require.NoError(t, err)
	require.True(t, list.Queues[0].Paused)
	require.NoError(t, i.Resume(ctx, "default"))
	require.ErrorIs(t, i.Disable(ctx, "nothing"), taskrt.ErrUnknownTask)
	_, err = i.Runs(ctx, taskrt.RunFilter{Tag: "nothing"}, taskrt.PageOptions{})
	require.EqualError(t, err, `no task has the tag "nothing"; known are demo`)
}
