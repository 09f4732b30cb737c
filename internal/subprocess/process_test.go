//go:build linux

package subprocess_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// startParent starts a program with its own pool.
func startParent(t *testing.T, binary string, tasks string, env ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), append(env, role+"=parent", "SUBPROCESS_TEST_TASKS="+tasks)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it usually has ended
		_ = cmd.Wait()
	})
	return cmd, bufio.NewReader(out)
}

// locked builds a program whose main thread is locked, without cgo and so without the race
// detector. With cgo, no thread can set what belongs to the first one, which a child needs if
// other code keeps that thread.
func locked(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "locked")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../testapp/locked")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+strings.ReplaceAll(os.Getenv("GOFLAGS"), "-race", ""))
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

func readPIDs(t *testing.T, r *bufio.Reader) []int {
	t.Helper()
	line, err := r.ReadString('\n')
	require.NoError(t, err)
	return parsePIDs(t, line)
}

func TestDescendantsEndWithAKilledParent(t *testing.T) {
	this := func(*testing.T) string { return os.Args[0] }
	for name, c := range map[string]struct {
		env    string
		binary func(t *testing.T) string
	}{
		"a free main":                 {"", this},
		"a main locked to its thread": {lockedMain + "=1", this},
		"a main locked to its thread, another goroutine that serves": {"", locked},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, out := startParent(t, c.binary(t), "family,family", c.env)
			pids := append(readPIDs(t, out), readPIDs(t, out)...)
			require.Len(t, pids, 6, "two children, and two that each has started, one of them out of its group")
			// One of the children cannot notice the parent's end by itself.
			require.NoError(t, syscall.Kill(pids[0], syscall.SIGSTOP))
			require.NoError(t, cmd.Process.Kill())
			requireGone(t, time.Second, pids...)
		})
	}
}

func TestASpinningChildEndsWithAKilledParent(t *testing.T) {
	cmd, out := startParent(t, os.Args[0], "spin")
	pids := readPIDs(t, out)
	require.NoError(t, cmd.Process.Kill())
	requireGone(t, time.Second, pids...)
}

func TestAReplacedBinaryStillStartsChildren(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "app")
	from, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(binary, os.O_CREATE|os.O_WRONLY, 0o700)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	_, out := startParent(t, binary, "echo", "SUBPROCESS_TEST_REMOVE="+binary)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "from below\n", line)
	require.NoFileExists(t, binary)
}

func TestArgumentsAndEnvironmentTellNothing(t *testing.T) {
	t.Setenv("SUBPROCESS_TEST_INHERITED", "yes")
	pool := newPool(t, subprocess.Config{Processes: 1, Env: []string{"SUBPROCESS_TEST_*"}})
	got, _ := run(t, pool, "environ", "the payload")
	require.Contains(t, got, "argv \""+os.Args[0]+"\\x00-test.run=^$\\x00\"\n", "a test binary runs no tests")
	require.Contains(t, got, "SUBPROCESS_TEST_INHERITED=yes")
	require.NotContains(t, got, "TASKGEN_CHILD")
	require.NotContains(t, got, "the payload")
	require.Regexp(t, `(?s) 0 -> /dev/null\n[^\n]* 1 -> pipe:\S+\n[^\n]* 2 -> pipe:\S+\n[^\n]* 3 -> /proc/\d+/fd\n$`, got, "and no more descriptors")
}

func TestStartsLeaveNothing(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 2})
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries)
	}
	exit(t, pool, t.Context(), "exit", "3 ")
	before := descriptors()
	for range soaked(40, 5000) {
		exit(t, pool, t.Context(), "exit", "3 ")
	}
	require.Equal(t, before, descriptors())
	require.Empty(t, childrenOf(t, os.Getpid()))
}

func TestAGroupEndsWithItsCrashedChild(t *testing.T) {
	told := make(reports, 1)
	pool := newPool(t, subprocess.Config{Processes: 1, Call: told.call})
	exit(t, pool, t.Context(), "family", "crash")
	requireGone(t, time.Second, told.pids(t)...)
}

func TestWhatAChildStartedEndsWithIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg subprocess.Config
		how string
		end func(t *testing.T, pool *subprocess.Pool)
	}{
		"exit":   {how: "exit"},
		"panic":  {how: "panic"},
		"kill":   {how: "kill"},
		"cancel": {how: "spin"},
		"fresh":  {cfg: subprocess.Config{Fresh: true}},
		"idle":   {cfg: subprocess.Config{Idle: 20 * time.Millisecond}},
		"recycle": {cfg: subprocess.Config{MaxRuns: 1}, end: func(t *testing.T, pool *subprocess.Pool) {
			require.Eventually(t, func() bool { run(t, pool, "echo", ""); return len(pool.Limits()) > 0 }, time.Second, time.Millisecond)
		}},
		"close": {end: func(t *testing.T, pool *subprocess.Pool) {
			require.NoError(t, pool.Close(context.Background()))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			told := make(reports, 2)
			c.cfg.Processes, c.cfg.Grace, c.cfg.Call, c.cfg.Logger = 1, 50*time.Millisecond, told.call, slog.New(slog.DiscardHandler)
			pool, err := subprocess.NewPool(c.cfg)
			require.NoError(t, err)
			defer func() { require.NoError(t, pool.Close(context.Background())) }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = pool.Run(ctx, request("daemon", c.how))
			}()
			left := told.pids(t)
			require.Len(t, left, 1)
			t.Cleanup(func() { _ = syscall.Kill(left[0], syscall.SIGKILL) })
			if c.how == "spin" {
				cancel()
			}
			<-ended
			if c.end != nil {
				c.end(t, pool)
			}
			requireGone(t, time.Second, left...)
		})
	}
}

func TestAChildWaitsForWhatItAdoptsAndForNothingElse(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	n := soaked(30, 1000)
	for range n {
		run(t, pool, "orphans", "1")
	}
	require.Eventually(t, func() bool {
		got, _ := run(t, pool, "zombies", "")
		return got == "0"
	}, 10*time.Second, 5*time.Millisecond)
	for _, how := range []string{"", " threads"} {
		waited, _ := run(t, pool, "own", strconv.Itoa(n)+how)
		require.Equal(t, strconv.Itoa(2*n), waited, "none was waited for by another")
	}
}

func TestDescriptorsThatTheParentInheritedStayThere(t *testing.T) {
	passwd, err := os.Open("/etc/passwd")
	require.NoError(t, err)
	defer passwd.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"=parent", "SUBPROCESS_TEST_TASKS=descriptors")
	cmd.ExtraFiles = []*os.File{passwd, passwd, passwd, passwd, passwd, passwd, passwd}
	out, err := cmd.Output()
	require.NoError(t, err)
	require.Contains(t, string(out), " 3=pipe:")
	require.NotContains(t, string(out), "passwd")
}

func TestADescendantThatHoldsThePipesDoesNotHoldTheRun(t *testing.T) {
	for _, how := range []string{"away", "away with 4"} {
		pool := newPool(t, subprocess.Config{Processes: 1})
		left, _ := run(t, pool, "leave", how)
		pids := parsePIDs(t, left)
		t.Cleanup(func() { _ = syscall.Kill(pids[0], syscall.SIGKILL) })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		ended := exit(t, pool, ctx, "exit", "3 ")
		cancel()
		require.Equal(t, subprocess.Crashed, ended.Kind)
		requireGone(t, time.Second, pids[0])
	}
}

func TestAChildThatDoesNotServe(t *testing.T) {
	for _, c := range []struct{ how, text string }{
		{"hang", "start child process: child process did not reach taskapp.Main or taskrt.ServeChild within 300ms: " +
			"call it first in main, before opening ports or connections"},
		{"exit", "start child process: child process ended before it reached taskapp.Main or taskrt.ServeChild (exit status 1): " +
			"call it first in main, before opening ports or connections; its last lines: listen tcp :8080: address already in use"},
		{"garbage", "start child process: bad frame length: 1751477356 bytes, at most 4096 are allowed"},
	} {
		t.Run(c.how, func(t *testing.T) {
			t.Setenv(badChild, c.how)
			cfg := subprocess.Config{Processes: 1, StartTimeout: 10 * time.Second, Env: []string{badChild}}
			if c.how == "hang" {
				cfg.StartTimeout = 300 * time.Millisecond
			}
			pool := newPool(t, cfg)
			_, err := pool.Run(t.Context(), request("echo", ""))
			var start *subprocess.StartError
			require.ErrorAs(t, err, &start)
			require.EqualError(t, err, c.text)
			require.Empty(t, childrenOf(t, os.Getpid()))

			require.NoError(t, os.Setenv(badChild, ""))
			run(t, pool, "echo", "")
		})
	}
}

func TestAChildThatKnowsLessThanItsParentServesNothing(t *testing.T) {
	const add, sum = "add (int) -> int", "sum [int] -> int"
	for name, c := range map[string]struct {
		known   string
		wanted  []string
		missing string
	}{
		"more":    {add + "," + sum, []string{sum}, ""},
		"less":    {add, []string{add, sum}, "sum"},
		"other":   {add + ",sum [string] -> int", []string{add, sum}, "sum"},
		"nothing": {"", []string{add, sum}, "add"},
		"many":    {"", make([]string, 7000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, subprocess.Config{Processes: 1, Schema: c.wanted, Env: []string{schema + "=" + c.known}})
			_, err := pool.Run(t.Context(), request("echo", ""))
			if c.missing == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, "start child process: the child process does not know "+c.missing+
				": pass the same tasks to taskrt.ServeChild as to taskrt.NewConsumer")
			var start *subprocess.StartError
			require.ErrorAs(t, err, &start)
		})
	}
}

func TestAShortDeadlineDoesNotKillAStartingChild(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	var pids []int
	for limit := time.Millisecond; len(pids) == 0; limit *= 2 { // a shorter one ends before there is a child
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := pool.Run(ctx, request("echo", ""))
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		pids = childrenOf(t, os.Getpid())
	}
	require.Len(t, pids, 1)
	_, pid := run(t, pool, "echo", "")
	require.Equal(t, pids[0], pid)
}

func TestServeIsForChildren(t *testing.T) {
	require.False(t, subprocess.InChild())
	require.EqualError(t, subprocess.Serve(t.Context(), nil, handler()), "serve runs: this process was not started by a pool")

	// The variable alone makes no child.
	cmd := exec.Command(os.Args[0], "-test.run=^TestConfigIsChecked$")
	cmd.Env = append(os.Environ(), "TASKGEN_CHILD=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.True(t, bytes.Contains(out, []byte("PASS")), "%s", out)
}

func TestNonsenseEndsTheChild(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1, MaxFrame: 1 << 20})
	for name, c := range map[string]struct{ bytes, want string }{
		"text":          {"this is no frame", "bad frame length: 1952999795 bytes, at most 1048576 are allowed"},
		"huge":          {"\x7f\xff\xff\xff", "bad frame length"},
		"empty":         {"\x00\x00\x00\x00", "bad frame length"},
		"no array":      {"\x00\x00\x00\x01\xc0", "decode frame"},
		"type":          {"\x00\x00\x00\x03\x92\x63\x01", "decode frame: type 99 with 2 fields"},
		"sequence":      {"\x00\x00\x00\x04\x93\x09\x63\x01", "frame of type 9 for run number 99, which is not being executed"},
		"second hello":  {"\x00\x00\x00\x08\x97\x02\x01\x01\x01\x01\x01\x01", "frame of unexpected type 2"},
		"short answer":  {"\x00\x00\x00\x0a\x99\x06\x01\xc0\xc0\xc0\xc0\xc0\xc0\xc0", "decode answer"},
		"short log":     {"\x00\x00\x00\x07\x96\x0a\x01\xc0\xc0\xc0\xc0", "decode log record"},
		"long log":      {"\x00\x00\x00\x11\x96\x0a\x01\x00\xd6\xff\x00\x00\x00\x01\xa1x\xdd\x7f\xff\xff\xff", "decode log record"},
		"short stack":   {"\x00\x00\x00\x04\x93\x0b\x01\xc0", "decode stack"},
		"late hello":    {"\x00\x00\x00\x04\x93\x0b\x01\xa0\x00\x00\x00\x04\x93\x0b\x01\xa0\x00\x00\x00\x03\x92\x02\x01", "decode frame: type 2 with 2 fields"},
		"short call":    {"\x00\x00\x00\x06\x95\x07\x01\xc0\xc0\xc0", "decode call"},
		"closed stream": {"", "descriptor 4 was closed"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.bytes != "" {
				// Each starts its own child, whose first run is number 1.
				exit(t, pool, t.Context(), "exit", "3 ")
			}
			ended := exit(t, pool, t.Context(), "raw", c.bytes)
			require.Equal(t, subprocess.Protocol, ended.Kind)
			require.ErrorContains(t, ended, c.want)
			require.ErrorContains(t, ended, "broke the protocol and was killed")
		})
	}
}

func TestADeclaredSizeIsNotAllocated(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1, MaxFrame: 1 << 30, Grace: time.Millisecond})
	run(t, pool, "echo", "")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	exit(t, pool, ctx, "raw", "\x3f\xff\xff\xffand no more")
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20))
}

func TestWordsOutOfTurnCostTheChildNotTheNextRun(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	_, first := run(t, pool, "echo", "")
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/4", first), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("\x00\x00\x00\x04\x93\x09\x01\x01")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	got, second := run(t, pool, "echo", "innocent")
	require.Equal(t, "innocent", got)
	require.NotEqual(t, first, second)
	requireGone(t, time.Second, first)
}

func TestAStoppedChildCostsNoRun(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	_, first := run(t, pool, "echo", "")
	require.NoError(t, syscall.Kill(first, syscall.SIGSTOP))
	require.Eventually(t, func() bool { state, _ := stat(first); return state == 'T' }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp, err := pool.Run(ctx, request("echo", strings.Repeat("x", 1<<20)))
	require.NoError(t, err)
	require.Len(t, resp.Result, 1<<20, "more than a pipe holds")
	require.NotEqual(t, first, resp.PID)
	requireGone(t, time.Second, first)
}

func TestSizesAreBounded(t *testing.T) {
	const limit = 1 << 20
	pool := newPool(t, subprocess.Config{Processes: 1, MaxFrame: limit, Call: func(_ context.Context, _ *broker.TaskRun, method string, body []byte) ([]byte, error) {
		if method == "grow" {
			return make([]byte, limit+1), nil
		}
		return []byte{byte(len(body) >> 16)}, nil
	}})
	_, first := run(t, pool, "echo", "")

	_, err := pool.Run(t.Context(), request("echo", strings.Repeat("x", limit)))
	require.ErrorIs(t, err, subprocess.ErrTooLarge)

	resp, err := pool.Run(t.Context(), request("result", "1048576"))
	require.NoError(t, err)
	require.True(t, resp.Permanent)
	require.Regexp(t, `^send what the task returned: larger than a frame .*: 10485\d\d bytes, at most 1048576 are allowed$`, resp.Failure.Message)

	for payload, want := range map[string]string{
		"big 1048576": "call parent process: big: larger than a frame",
		"grow":        "call parent process: grow: larger than a frame",
	} {
		resp, err = pool.Run(t.Context(), request("call", payload))
		require.NoError(t, err)
		require.Contains(t, resp.Failure.Message, want)
	}
	got, pid := run(t, pool, "result", "1048000")
	require.Len(t, got, 1048000)
	require.Equal(t, first, pid)
}
