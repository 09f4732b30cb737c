package runtime_test

import (
	"context"
	"errors"
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

// ends records what AttemptError returned in a middleware, by the run's parameter.
type ends struct {
	mu  sync.Mutex
	all []*taskrt.RunError
}

func (e *ends) middleware(next taskrt.Handler) taskrt.Handler {
	return func(ctx context.Context, run *taskrt.Run) error {
		type key struct{}
		err := next(context.WithValue(ctx, key{}, true), run)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, taskrt.AttemptError(context.WithValue(ctx, key{}, true), err))
		return err
	}
}

// TestAttemptErrorIsTheFailure compares what a middleware learns with the event.
func TestAttemptErrorIsTheFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var (
			seen   ends
			events []taskrt.Event
		)
		cfg := taskrt.ConsumerConfig{
			Concurrency: 1, Middleware: []taskrt.Middleware{seen.middleware},
			OnEvent: func(e taskrt.Event) {
				if e.Kind != taskrt.RunStarted && e.Kind != taskrt.RunRecorded {
					events = append(events, e)
				}
			},
		}
		consume(t, b, cfg, tasks.Tasks(new(journal).recorder(func(ctx context.Context, run *taskrt.Run, note string) error {
			switch note {
			case "fails":
				return taskrt.Permanent(errors.New("no luck"))
			case "panics":
				panic("no luck")
			case "breaks":
				return taskrt.Permanent((*tasks.BrokenError)(nil))
			case "is late":
				<-ctx.Done()
				return taskrt.Permanent(ctx.Err())
			case "snoozes":
				if time.Since(run.QueuedAt) < time.Minute {
					return taskrt.Snooze(time.Hour)
				}
			}
			return nil
		})))
		ctx := clientContext(context.Background(), b)
		for _, c := range []struct {
			note string
			kind taskrt.FailureKind // empty: no failure
			text string
		}{
			{"succeeds", "", ""},
			{"fails", taskrt.Failed, "no luck"},
			{"panics", taskrt.Failed, "panic: no luck"},
			{"breaks", taskrt.Failed, "the Error method of type *tasks.BrokenError panicked"},
			{"is late", taskrt.Timeout, "context deadline exceeded"},
			{"snoozes", "", ""},
		} {
			seen.all, events = nil, nil
			_, err := tasks.QueueRecorderRecord(ctx, c.note)
			require.NoError(t, err)
			time.Sleep(10 * time.Second)
			synctest.Wait()
			synctest.Wait()
			require.NotEmpty(t, seen.all, c.note)
			if c.kind == "" {
				require.Nil(t, seen.all[0], c.note)
				require.Nil(t, events[0].Err, c.note)
				continue
			}
			require.Equal(t, c.kind, seen.all[0].Kind, c.note)
			require.Contains(t, seen.all[0].Message, c.text)
			require.Equal(t, events[0].Err.Kind, seen.all[0].Kind)
			require.Equal(t, events[0].Err.Attempt, seen.all[0].Attempt)
			require.Equal(t, events[0].Err.Stack != "", seen.all[0].Stack != "", c.note)
		}
	})
}

// TestAttemptErrorOfAStopIsNone: an interrupted run goes back and has not failed, and a
// cancelled one has.
func TestAttemptErrorOfAStopIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var seen ends
		wait := func(ctx context.Context, _ *taskrt.Run, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
		stop := consume(t, b, taskrt.ConsumerConfig{Grace: time.Second, Middleware: []taskrt.Middleware{seen.middleware}}, tasks.Tasks(new(journal).recorder(wait)))
		ctx := clientContext(context.Background(), b)
		cancelled, err := tasks.QueueRecorderRecord(ctx, "cancelled")
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, cancelled.Cancel(ctx))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		synctest.Wait()
		require.Len(t, seen.all, 1)
		require.Equal(t, taskrt.Cancelled, seen.all[0].Kind)
		_, err = tasks.QueueRecorderRecord(ctx, "interrupted")
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, stop())
		require.Len(t, seen.all, 2)
		require.Nil(t, seen.all[1])
	})
}

// TestAttemptErrorOutsideOfARun is that of the error alone.
func TestAttemptErrorOutsideOfARun(t *testing.T) {
	require.Nil(t, taskrt.AttemptError(context.Background(), nil))
	require.Nil(t, taskrt.AttemptError(context.Background(), taskrt.Snooze(time.Second)))
	err := taskrt.AttemptError(context.Background(), errors.New("no luck"))
	require.Equal(t, taskrt.Failed, err.Kind)
	require.Equal(t, "no luck", err.Message)
}

// TestNextHeadersGoToFollowUps has each run of a chain pass its id on, also to the members
// of a group that follows.
func TestNextHeadersGoToFollowUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var (
			j       journal
			headers []map[string]string
		)
		middleware := func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				headers = append(headers, run.Headers)
				run.NextHeaders = map[string]string{"from": run.ID, "large": strings.Repeat("x", broker.MaxHeader)}
				return next(ctx, run)
			}
		}
		consume(t, b, taskrt.ConsumerConfig{Concurrency: 1, Middleware: []taskrt.Middleware{middleware}}, tasks.Tasks(j.recorder(nil)))
		ctx := clientContext(context.Background(), b)
		record := func(note string, opts ...taskrt.QueueOption) taskrt.Call[taskrt.None] {
			return tasks.CallRecorderRecord(note).With(opts...)
		}
		group := taskrt.Group([]taskrt.Call[taskrt.None]{record("member"), record("member")}, taskrt.After[[]taskrt.None](record("last", taskrt.ID("last"))))
		full := []taskrt.QueueOption{taskrt.ID("full")}
		for range broker.MaxHeaders {
			full = append(full, taskrt.Header(strings.Repeat("h", len(full)), ""))
		}
		call := taskrt.Then(record("first", taskrt.ID("first"), taskrt.Header("from", "nowhere")), taskrt.After[taskrt.None](record("full", full...)))
		call = taskrt.Then(call, taskrt.After[taskrt.None](record("second", taskrt.ID("second"), taskrt.Header("own", "1"), taskrt.Header("from", "nowhere"))))
		handle, err := taskrt.Then(call, taskrt.After[taskrt.None](group)).Queue(ctx, taskrt.Keep(time.Minute))
		require.NoError(t, err)
		_, err = handle.Wait(ctx)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{"first", "full", "second", "member", "member", "last"}, j.notes())
		require.Equal(t, map[string]string{"from": "nowhere"}, headers[0])
		require.Len(t, headers[1], broker.MaxHeaders)
		require.NotContains(t, headers[1], "from", "there was no room")
		require.Equal(t, map[string]string{"from": "full", "own": "1"}, headers[2])
		require.Equal(t, map[string]string{"from": "second"}, headers[3])
		require.Equal(t, map[string]string{"from": "second"}, headers[4])
	})
}

// served is a broker with an address.
type served struct{ *memory.Broker }

func (served) Server() (string, int) { return "tasks.example", 6379 }

// TestMiddlewareLearnsWhereTheBrokerIs, that which the run is from, and that on which the
// client queues.
func TestMiddlewareLearnsWhereTheBrokerIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := served{newMemory(t)}, newMemory(t)
		var found []string
		note := func(where string, ctx context.Context) {
			address, port := taskrt.BrokerServer(ctx)
			found = append(found, where+" "+address)
			require.Equal(t, address != "", port != 0)
		}
		queue := func(next taskrt.QueueHandler) taskrt.QueueHandler {
			return func(ctx context.Context, runs ...*broker.TaskRun) error {
				note("queue", ctx)
				return next(ctx, runs...)
			}
		}
		execute := func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				note("execute", ctx)
				return next(ctx, run)
			}
		}
		elsewhere := taskrt.NewClient(to, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{queue}})
		consume(t, from, taskrt.ConsumerConfig{Middleware: []taskrt.Middleware{execute}}, tasks.Tasks(new(journal).recorder(func(ctx context.Context, run *taskrt.Run, note string) error {
			_, err := tasks.QueueRecorderRecord(taskrt.WithClient(ctx, elsewhere), "elsewhere")
			return err
		})))
		here := taskrt.NewClient(from, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{queue}})
		_, err := tasks.QueueRecorderRecord(taskrt.WithClient(context.Background(), here), "here")
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"queue tasks.example", "execute tasks.example", "queue "}, found)
	})
}

// TestMiddlewareLearnsHowItsTaskIsTraced asks in a consumer, in a child process and in Exec.
func TestMiddlewareLearnsHowItsTaskIsTraced(t *testing.T) {
	b := newMemory(t)
	var traces sync.Map // by task
	cfg := taskrt.ConsumerConfig{Processes: 1, Middleware: []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			traces.Store(run.Task, run.Trace)
			return next(ctx, run)
		}
	}}}
	consume(t, b, cfg, tasks.Tasks(new(journal).recorder(nil)))
	ctx := clientContext(childContext(t), b)
	child, err := tasks.QueueSquare(ctx, 3, taskrt.Header("in child", "trace"))
	require.NoError(t, err)
	_, err = child.Wait(ctx)
	require.ErrorContains(t, err, "trace 1 in the child")
	linked, err := tasks.QueueRecorderRecord(ctx, "x", taskrt.Keep(time.Minute))
	require.NoError(t, err)
	_, err = linked.Wait(ctx)
	require.NoError(t, err)
	for task, want := range map[string]taskrt.Trace{"square": taskrt.TraceChild, "recorder_record": taskrt.TraceLink} {
		got, _ := traces.Load(task)
		require.Equal(t, want, got, task)
	}
	traces.Clear()
	for _, task := range tasks.Tasks(nil) {
		if task.Name() == "square" {
			payload, err := task.EncodeParams(&tasks.SquareParams{N: 3})
			require.NoError(t, err)
			_, err = taskrt.Exec(ctx, b, cfg, task, payload)
			require.NoError(t, err)
		}
	}
	got, _ := traces.Load("square")
	require.Equal(t, taskrt.TraceChild, got)
}

// TestMiddlewareInAChild executes runs within middleware of the consumer, which asks by a
// header for what that of the child does.
func TestMiddlewareInAChild(t *testing.T) {
	b := newMemory(t)
	ask := ""
	middleware := func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			run.Headers = map[string]string{"in child": ask}
			return next(ctx, run)
		}
	}
	cfg := taskrt.ConsumerConfig{Processes: 1, Middleware: []taskrt.Middleware{middleware}}
	consume(t, b, cfg, tasks.Tasks(nil))
	ctx := clientContext(childContext(t), b)
	for _, c := range []struct{ ask, want string }{
		{"", ""},
		{"refuse", "refused in the child"},
		{"skip", "a middleware returned nil without calling the task, which has a result"},
	} {
		ask = c.ask
		handle, err := tasks.QueueSquare(ctx, 3)
		require.NoError(t, err)
		n, err := handle.Wait(ctx)
		if c.want == "" {
			require.NoError(t, err)
			require.EqualValues(t, 9, n)
			continue
		}
		var failure *taskrt.RunError
		require.ErrorAs(t, err, &failure)
		require.Equal(t, taskrt.Failed, failure.Kind)
		require.Contains(t, failure.Message, c.want)
	}
	ask = "panic"
	handle, err := tasks.QueueMisbehave(ctx, "error")
	require.NoError(t, err)
	_, err = handle.Wait(ctx)
	var failure *taskrt.RunError
	require.ErrorAs(t, err, &failure)
	require.Equal(t, "panic: panicked in the child", failure.Message)
	require.NotEmpty(t, failure.Stack)

	ask = "refuse"
	for _, task := range tasks.Tasks(nil) {
		if task.Name() != "square" {
			continue
		}
		payload, err := task.EncodeParams(&tasks.SquareParams{N: 3})
		require.NoError(t, err)
		result, err := taskrt.Exec(ctx, b, cfg, task, payload)
		require.NoError(t, err)
		require.Equal(t, "refused in the child", result.Failure.Message)
	}
}
