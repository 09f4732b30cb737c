//go:build linux

package subprocess_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

func TestRunsShareAWarmChild(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 2})
	_, first := run(t, pool, "echo", "")
	require.NotEqual(t, os.Getpid(), first)
	for i := range 100 {
		got, pid := run(t, pool, "echo", strconv.Itoa(i))
		require.Equal(t, strconv.Itoa(i), got)
		require.Equal(t, first, pid)
	}
	require.Len(t, childrenOf(t, os.Getpid()), 1)
}

func TestConcurrentRunsHaveTheirOwnChildren(t *testing.T) {
	release := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Add(3)
	pool := newPool(t, subprocess.Config{Processes: 3, Call: func(context.Context, *broker.TaskRun, string, []byte) ([]byte, error) {
		waiting.Done()
		<-release
		return nil, nil
	}})
	var runs sync.WaitGroup
	pids := make(chan int, 3)
	for range 3 {
		runs.Go(func() {
			if resp, err := pool.Run(t.Context(), request("hold", "")); err == nil && resp.Failure == nil {
				pids <- resp.PID
			}
		})
	}
	waiting.Wait()

	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("out of patience"))
	defer cancel()
	_, err := pool.Run(ctx, request("echo", ""))
	require.EqualError(t, err, "wait for a child process: out of patience")

	close(release)
	runs.Wait()
	close(pids)
	distinct := map[int]bool{}
	for pid := range pids {
		distinct[pid] = true
	}
	require.Len(t, distinct, 3)
}

func TestWhatTheHandlerSaysArrives(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	resp, err := pool.Run(t.Context(), request("verdict", ""))
	require.NoError(t, err)
	require.NotZero(t, resp.PID)
	resp.PID = 0
	require.Equal(t, &subprocess.Response{Permanent: true, RetryAfter: time.Minute,
		Failure: &broker.Failure{Kind: broker.FailureSchema, Message: "bad \uFFFD bytes", Stack: "here"}}, resp)

	resp, err = pool.Run(t.Context(), request("fail", "no"))
	require.NoError(t, err)
	require.Equal(t, &broker.Failure{Kind: broker.FailureFailed, Message: "no"}, resp.Failure)

	resp, err = pool.Run(t.Context(), request("goexit", ""))
	require.NoError(t, err)
	require.Equal(t, "the task called runtime.Goexit", resp.Failure.Message)
	_, pid := run(t, pool, "echo", "")
	require.Equal(t, resp.PID, pid)
}

func TestTheDeadlineCrosses(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	got, _ := run(t, pool, "deadline", "")
	require.Equal(t, "none", got)

	near, far := time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	for _, c := range []struct{ ctx, req, want time.Time }{
		{near, time.Time{}, near}, {time.Time{}, near, near}, {near, far, near}, {far, near, near},
	} {
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if !c.ctx.IsZero() {
			ctx, cancel = context.WithDeadline(ctx, c.ctx)
		}
		req := request("deadline", "")
		req.Deadline = c.req
		resp, err := pool.Run(ctx, req)
		cancel()
		require.NoError(t, err)
		at, err := time.Parse(time.RFC3339Nano, string(resp.Result))
		require.NoError(t, err)
		require.WithinDuration(t, c.want, at, 5*time.Second)
	}
}

func TestAnAnswerAfterCancelKeepsTheChildWarm(t *testing.T) {
	told := make(reports, 1)
	pool := newPool(t, subprocess.Config{Processes: 1, Grace: time.Minute, Call: told.call})
	_, first := run(t, pool, "echo", "")

	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-told
		cancel(errors.New("somebody asked"))
	}()
	resp, err := pool.Run(ctx, request("wait", ""))
	require.NoError(t, err)
	require.Equal(t, "context canceled, because somebody asked, deadline false", string(resp.Result))

	req := request("wait", "")
	req.Deadline = time.Now().Add(100 * time.Millisecond)
	resp, err = pool.Run(t.Context(), req)
	require.NoError(t, err)
	require.Equal(t, "context deadline exceeded, because context deadline exceeded, deadline true", string(resp.Result))

	_, pid := run(t, pool, "echo", "")
	require.Equal(t, first, pid)
}

func TestASpinningChildIsKilledWithItsGroup(t *testing.T) {
	for _, c := range []struct {
		kind  broker.FailureKind
		start func(context.Context) (context.Context, context.CancelFunc, func())
	}{
		{subprocess.Timeout, func(ctx context.Context) (context.Context, context.CancelFunc, func()) {
			ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
			return ctx, cancel, func() {}
		}},
		{subprocess.Cancelled, func(ctx context.Context) (context.Context, context.CancelFunc, func()) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel, cancel
		}},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			told := make(reports, 2)
			pool := newPool(t, subprocess.Config{Processes: 1, Grace: 50 * time.Millisecond, Call: told.call})
			_, first := run(t, pool, "echo", "")
			ctx, cancel, interrupt := c.start(t.Context())
			defer cancel()
			var pids []int
			done := make(chan struct{})
			go func() {
				defer close(done)
				pids = told.pids(t)
				<-told // it spins
				interrupt()
			}()
			ended := exit(t, pool, ctx, "family", "spin")
			<-done
			require.Equal(t, c.kind, ended.Kind)
			require.Equal(t, "killed", ended.Signal)
			require.Equal(t, -1, ended.Code)
			require.ErrorIs(t, ended, context.Cause(ctx))
			require.Equal(t, []int{first, pids[0]}, []int{ended.PID, first})
			requireGone(t, time.Second, pids...)
			_, pid := run(t, pool, "echo", "")
			require.NotEqual(t, first, pid)
		})
	}
}

func TestAStoppedChildIsKilledAtItsTimeout(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1, Grace: 50 * time.Millisecond})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.Equal(t, subprocess.Timeout, exit(t, pool, ctx, "signal", "19").Kind)
	run(t, pool, "echo", "")
}

func TestCrashesAreToldApart(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	for _, c := range []struct {
		task, payload string
		code          int
		signal        string
		stderr        string
		text          string
	}{
		{"exit", "3 last words", 3, "", "last words", "crashed: exit status 3"},
		{"exit", "0 ", 0, "", "", "crashed: exit status 0"},
		{"signal", "9", -1, "killed", "", "crashed: signal: killed"},
		{"panic", "", 2, "", "panic: no such luck", "crashed: exit status 2"},
		{"panics", "", 2, "", "panic: somewhere else", "crashed: exit status 2"},
	} {
		ended := exit(t, pool, t.Context(), c.task, c.payload)
		require.Equal(t, subprocess.Crashed, ended.Kind)
		require.Equal(t, c.code, ended.Code)
		require.Equal(t, c.signal, ended.Signal)
		require.Contains(t, ended.Stderr, c.stderr)
		require.LessOrEqual(t, len(ended.Stderr), 8<<10)
		require.LessOrEqual(t, strings.Count(ended.Stderr, "\n"), 20)
		require.ErrorContains(t, ended, c.text)
		got, _ := run(t, pool, "echo", "next")
		require.Equal(t, "next", got)
	}
}

func TestAnIdleChildThatDiesIsReplaced(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	for range 20 {
		_, pid := run(t, pool, "echo", "")
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		requireGone(t, time.Second, pid)
		got, next := run(t, pool, "echo", "again")
		require.Equal(t, "again", got)
		require.NotEqual(t, pid, next)
	}
}

func TestSignalsForTheFamilyDoNotEndAChild(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		got, _ := run(t, pool, "signal", strconv.Itoa(int(s)))
		require.Equal(t, "alive", got)
	}
	_, pid := run(t, pool, "echo", "")
	group, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	require.Equal(t, pid, group)
}

func TestCancelAgainstComplete(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1, Grace: time.Minute})
	_, first := run(t, pool, "echo", "")
	for i := range 10000 {
		ctx, cancel := context.WithCancel(t.Context())
		want := strconv.Itoa(i)
		go cancel()
		resp, err := pool.Run(ctx, request("echo", want))
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			continue
		}
		require.Equal(t, want, string(resp.Result))
		require.Equal(t, first, resp.PID)
	}
}

func TestClose(t *testing.T) {
	told := make(reports, 8)
	pool := newPool(t, subprocess.Config{Processes: 3, Call: told.call})
	left, _ := run(t, pool, "leave", "")
	behind := parsePIDs(t, left)
	ctx, cancel := context.WithCancel(t.Context())
	var runs sync.WaitGroup
	runs.Go(func() {
		_, err := pool.Run(ctx, request("wait", ""))
		if err != nil {
			told <- err.Error()
		}
	})
	running := told.pids(t)
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- pool.Close(context.Background()) }()
	}
	require.Eventually(t, func() bool {
		_, err := pool.Run(t.Context(), request("echo", ""))
		return errors.Is(err, subprocess.ErrClosed)
	}, time.Second, time.Millisecond)
	require.False(t, isGone(running[0]), "a running child ended before its run")
	cancel()
	require.NoError(t, <-closed)
	require.NoError(t, <-closed)
	runs.Wait()
	require.Empty(t, told)
	requireGone(t, time.Second, append(behind, running...)...)
	require.NoError(t, pool.Close(context.Background()))
}

func TestCloseKillsWhenItsContextEnds(t *testing.T) {
	told := make(reports, 8)
	pool, err := subprocess.NewPool(subprocess.Config{Processes: 2, Call: told.call})
	require.NoError(t, err)
	run(t, pool, "echo", "")
	result := make(chan error, 1)
	go func() {
		_, err := pool.Run(context.Background(), request("family", "spin"))
		result <- err
	}()
	pids := told.pids(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, pool.Close(ctx), "close pool of child processes: killed 1 of them")
	requireGone(t, time.Second, pids...)
	var ended *subprocess.ExitError
	require.ErrorAs(t, <-result, &ended)
	require.Equal(t, subprocess.Cancelled, ended.Kind)
	require.ErrorIs(t, ended, subprocess.ErrClosed)
	require.Empty(t, childrenOf(t, os.Getpid()))
}

func TestConfigIsChecked(t *testing.T) {
	for field, cfg := range map[string]subprocess.Config{
		"Processes":    {Processes: -1},
		"StartTimeout": {StartTimeout: -1},
		"Grace":        {Grace: -1},
		"MaxFrame":     {MaxFrame: 1},
		"Schema":       {Schema: make([]string, 7001)},
		"Env: pattern": {Env: []string{"A["}},
		`Env: "=B"`:    {Env: []string{"=B"}},
	} {
		_, err := subprocess.NewPool(cfg)
		require.ErrorContains(t, err, "make pool of child processes: field "+field)
	}
}
