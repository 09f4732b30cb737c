package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// call is one method, with arguments for which it sends a command.
type call struct {
	name string
	do   func(ctx context.Context) error
}

// allCalls returns a call of every method of the broker and of two of its sessions, which
// hold a run each. One of them may be closed.
func allCalls(t *testing.T, b *redis.Broker) (s broker.Session, held []*broker.TaskRun, calls []call) {
	t.Helper()
	kept := run("kept", "q")
	kept.Keep = time.Hour
	require.NoError(t, b.QueueTasks(t.Context(), kept))
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 6)...))
	want := broker.Want{Queues: []string{"q"}, IO: 1}
	s, leaving := join(t, b, time.Minute), join(t, b, time.Minute)
	held, err := s.Take(t.Context(), want)
	require.NoError(t, err)
	_, err = leaving.Take(t.Context(), want)
	require.NoError(t, err)

	own := run("own", "q")
	own.OwnID = true
	calls = []call{
		{"take", func(ctx context.Context) error { _, err := s.Take(ctx, want); return err }},
		{"renew", s.Renew},
		{"finish", func(ctx context.Context) error { _, err := s.Finish(ctx, succeeded(held)...); return err }},
		{"leave", leaving.Close},
		{"join", func(ctx context.Context) error { _, err := b.OpenSession(ctx, time.Minute); return err }},
		{"recover", func(ctx context.Context) error { _, err := b.Recover(ctx, []string{"q"}); return err }},
		{"get", func(ctx context.Context) error { _, err := b.GetTaskRuns(ctx, []string{"q"}, 1); return err }},
		{"length", func(ctx context.Context) error { _, err := b.QueueLength(ctx); return err }},
		{"record", func(ctx context.Context) error { _, err := b.Record(ctx, "q", "kept"); return err }},
		{"wait", func(ctx context.Context) error { _, err := b.WaitRecord(ctx, "q", "kept"); return err }},
		{"dead letters", func(ctx context.Context) error { _, err := b.DeadLetters(ctx, "q", 1); return err }},
		{"tick", func(ctx context.Context) error { return b.QueueTick(ctx, run("tick", "q"), time.Unix(1, 0)) }},
		{"last tick", func(ctx context.Context) error { _, err := b.LastTick(ctx, "q", "task"); return err }},
		{"queue own", func(ctx context.Context) error { return b.QueueTasks(ctx, own) }},
		{"queue new", func(ctx context.Context) error { return b.QueueTasks(ctx, run("new", "new")) }},
	}
	for i := range 5 { // these share commands
		calls = append(calls, call{"queue", func(ctx context.Context) error {
			return b.QueueTasks(ctx, run(fmt.Sprintf("queue-%d", i), "q"))
		}})
	}
	return s, held, calls
}

// TestHungServerBlocksNoCall stops the server's process. Calls return soon after the end
// of their contexts, in the middle of a command too, and work again once the server does.
func TestHungServerBlocksNoCall(t *testing.T) {
	const patience, late = 200 * time.Millisecond, 200 * time.Millisecond
	for name, c := range map[string]struct {
		end  func(t *testing.T) context.Context
		want error
	}{
		"deadlines": {func(t *testing.T) context.Context { return within(t, patience) }, context.DeadlineExceeded},
		"cancels": {func(t *testing.T) context.Context {
			ctx, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			time.AfterFunc(patience, cancel)
			return ctx
		}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			b := open(t, server, redis.Config{})
			s, held, calls := allCalls(t, b)
			server.Freeze()
			var waiting sync.WaitGroup
			for _, call := range calls {
				ctx, start := c.end(t), time.Now()
				waiting.Go(func() {
					err := call.do(ctx)
					if took := time.Since(start); !errors.Is(err, c.want) || took > patience+late {
						t.Errorf("%s returned %v after %v", call.name, err, took)
					}
				})
			}
			waiting.Wait()
			server.Thaw()

			_, err := s.Finish(t.Context(), succeeded(held)...)
			require.NoError(t, err)
			require.NoError(t, s.Renew(t.Context()), "nothing was lost")
			got := takeAll(t, s, "q", 1)
			_, err = s.Finish(t.Context(), succeeded(got)...)
			require.NoError(t, err)
		})
	}
}

// TestHungServerDoesNotBlockClose closes the broker in the middle of commands.
func TestHungServerDoesNotBlockClose(t *testing.T) {
	server := redistest.Start(t)
	b := open(t, server, redis.Config{})
	_, _, calls := allCalls(t, b)
	server.Freeze()
	defer server.Thaw()
	var waiting sync.WaitGroup
	for _, call := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		waiting.Go(func() { _ = call.do(ctx) })
		time.AfterFunc(50*time.Millisecond, cancel)
	}
	waiting.Wait()
	start := time.Now()
	require.NoError(t, b.Close())
	require.Less(t, time.Since(start), 1500*time.Millisecond)
}

// hungTake takes from a server that hangs. It returns when the take was cancelled in the
// middle of its command; the server goes on then.
func hungTake(t *testing.T, server *redistest.Server, s broker.Session, queue string) {
	t.Helper()
	server.Freeze()
	defer server.Thaw()
	ctx, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
	_, err := s.Take(ctx, broker.Want{Queues: []string{queue}, IO: 3})
	require.ErrorIs(t, err, context.Canceled)
}

func TestLateReplyToCancelledTake(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, client := open(t, server, redis.Config{}), raw(t, server)
	require.NoError(t, b.QueueTasks(t.Context(), runs("q", 5)...))

	s := join(t, b, time.Minute)
	hungTake(t, server, s, "q")
	got := takeAll(t, s, "q", 5)
	require.Equal(t, []string{"run-0", "run-1", "run-2", "run-3", "run-4"}, ids(got), "taken by the next takes, once")
	require.Equal(t, 1, got[0].Deliveries)
	for _, r := range got {
		_, err := s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Retry})
		require.NoError(t, err)
	}

	hungTake(t, server, s, "q")
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, b.Close(), "waits for the late command")
	other := open(t, server, redis.Config{})
	require.Equal(t, 5, length(t, other, "q"), "given back, or never taken")
	require.Zero(t, client.Exists(t.Context(), prefix(t)+":{q}:inflight").Val(), "batches in flight")
	again := takeAll(t, join(t, other, time.Minute), "q", 5)
	list := ids(again)
	slices.Sort(list)
	require.Equal(t, []string{"run-0", "run-1", "run-2", "run-3", "run-4"}, list)
}

// TestRunsTakenForACallerThatIsGoneAreGivenBack has a server that hangs take a run after
// the caller's context has ended. No other call of that broker follows.
func TestRunsTakenForACallerThatIsGoneAreGivenBack(t *testing.T) {
	server := redistest.Start(t)
	b, other := open(t, server, redis.Config{}), open(t, server, redis.Config{})
	require.NoError(t, b.QueueTasks(t.Context(), run("first", "q")))
	_, err := b.GetTaskRuns(t.Context(), []string{"q"}, 1) // which leaves a connection
	require.NoError(t, err)
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")))
	server.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = b.GetTaskRuns(ctx, []string{"q"}, 1)
	require.ErrorIs(t, err, context.Canceled)
	server.Thaw()
	got, err := other.GetTaskRuns(within(t, 10*time.Second), []string{"q"}, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, ids(got))
	require.Equal(t, 1, got[0].Deliveries)
}

func TestOpenSessionNeedsAServer(t *testing.T) {
	server := redistest.Start(t)
	b := open(t, server, redis.Config{Timeout: 300 * time.Millisecond})
	server.Freeze()
	start := time.Now()
	_, err := b.OpenSession(t.Context(), time.Minute)
	require.ErrorContains(t, err, "open a session: ping server: ", "hung")
	require.Less(t, time.Since(start), time.Second)
	server.Thaw()
	_, err = b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	server.Kill9()
	_, err = b.OpenSession(t.Context(), time.Minute)
	require.ErrorContains(t, err, "open a session: ping server: ", "gone")
	server.Restart()
	_, err = b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err, "back")
}

// printed counts the lines that go-redis prints, by the logger of the whole process.
type printed struct{ lines atomic.Int64 }

func (p *printed) Printf(context.Context, string, ...any) { p.lines.Add(1) }

// TestOutageFillsNoLog has calls fail because there is no server.
func TestOutageFillsNoLog(t *testing.T) {
	p := new(printed)
	goredis.SetLogger(p)
	t.Cleanup(logging.Enable)
	server := redistest.Start(t)
	b := open(t, server, redis.Config{Timeout: 300 * time.Millisecond})
	s := join(t, b, time.Minute)
	waiting := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, err := s.Take(ctx, broker.Want{Queues: []string{"q"}, IO: 1}); waiting <- err }()
	awaitBlocked(t, raw(t, server), 1)
	p.lines.Store(0)
	server.Kill9()
	for range 6 {
		err := b.QueueTasks(t.Context(), run("one", "q"))
		require.ErrorContains(t, err, "connect")
		require.NotErrorIs(t, err, broker.ErrOutcomeUnknown, "it was not sent")
		_, err = b.Recover(t.Context(), []string{"another"}) // of "q" the take has just noted it
		require.ErrorContains(t, err, "connect")
	}
	cancel()
	<-waiting
	require.Zero(t, p.lines.Load(), "lines printed")
	server.Restart()
	require.NoError(t, b.QueueTasks(t.Context(), run("one", "q")), "it is back")
}
