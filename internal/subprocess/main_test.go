//go:build linux

package subprocess_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// The roles of the test binary besides running tests: a child that never serves, a
// parent that is killed, an opponent of the benchmark.
const (
	badChild = "SUBPROCESS_TEST_BAD_CHILD"
	role     = "SUBPROCESS_TEST_ROLE"
	schema   = "SUBPROCESS_TEST_SCHEMA" // the tasks that its children know

	lockedMain = "SUBPROCESS_TEST_LOCKED_MAIN" // the main thread is locked, as in programs with a window
)

func init() {
	if os.Getenv(lockedMain) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	_, started := os.LookupEnv("TASKGEN_CHILD")
	if how := os.Getenv(badChild); started && how != "" {
		misbehave(how)
	}
	if subprocess.InChild() {
		os.Exit(beChild())
	}
	switch os.Getenv(role) {
	case "parent":
		os.Exit(beParent())
	case "echo":
		os.Exit(beEcho())
	case "first":
		os.Exit(beFirst())
	case "terminal":
		os.Exit(beTerminal())
	}
	// The race detector would make each child sleep for a second as it exits.
	if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err != nil {
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// beChild is a child that serves the tasks of the tests.
func beChild() int {
	if err := subprocess.Serve(context.Background(), strings.Split(os.Getenv(schema), ","), handler()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// misbehave is a main that does not reach Serve. It appends a byte to a file, whose
// name follows the way in which it misbehaves.
func misbehave(how string) {
	how, path, counted := strings.Cut(how, " ")
	if counted {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			panic(err)
		}
		if _, err := f.WriteString("x"); err != nil {
			panic(err)
		}
	}
	switch how {
	case "hang":
		select {}
	case "exit":
		fmt.Fprintln(os.Stderr, "listen tcp :8080: address already in use")
		os.Exit(1)
	case "garbage":
		_, _ = os.NewFile(4, "").WriteString("hello, I am another program")
		select {}
	}
}

// beParent is a program with a pool of two whose children start processes. It prints
// their ids and waits to be killed.
func beParent() int {
	var mu sync.Mutex
	pool, err := subprocess.NewPool(subprocess.Config{
		Processes: 2,
		Call: func(_ context.Context, _ *broker.TaskRun, _ string, body []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("%s\n", body)
			return nil, nil
		},
	})
	if err != nil {
		return 1
	}
	if path := os.Getenv("SUBPROCESS_TEST_REMOVE"); path != "" && os.Remove(path) != nil {
		return 1
	}
	var runs sync.WaitGroup
	for _, task := range strings.Split(os.Getenv("SUBPROCESS_TEST_TASKS"), ",") {
		runs.Go(func() {
			resp, err := pool.Run(context.Background(), request(task, "from below"))
			if err == nil {
				fmt.Printf("%s\n", resp.Result)
			}
		})
	}
	runs.Wait()
	if pool.Close(context.Background()) != nil {
		return 1
	}
	return 0
}

// beFirst is a program that adopts the orphans of its children: the first process of
// its namespace, or a subreaper. It prints which of them remain at the end.
func beFirst() int {
	const subreaper = 36
	if os.Getpid() == 1 {
		if syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") != nil || syscall.Mount("proc", "/proc", "proc", 0, "") != nil {
			return 1
		}
	} else if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, subreaper, 1, 0); errno != 0 {
		return 1
	}
	pool, err := subprocess.NewPool(subprocess.Config{Processes: 2, Grace: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Call: func(context.Context, *broker.TaskRun, string, []byte) ([]byte, error) { return nil, nil }})
	if err != nil {
		return 1
	}
	if _, err := pool.Run(context.Background(), request("echo", "")); err != nil {
		return 1
	}
	// Processes that the application's own code leaves are waited for too, but not
	// those that it waits for itself.
	if got, err := waitLate(context.Background(), "10", nil); err != nil {
		fmt.Println(got, err)
		return 1
	}
	for i := range number(os.Getenv("SUBPROCESS_TEST_TASKS")) {
		ctx, cancel := context.WithCancel(context.Background())
		how := "crash"
		switch i % 10 {
		case 0:
			how = "spin"
			time.AfterFunc(20*time.Millisecond, cancel)
		case 1:
			_, _ = pool.Run(ctx, request("daemon", "exit"))
		}
		_, _ = pool.Run(ctx, request("family", how))
		cancel()
	}
	if pool.Close(context.Background()) != nil {
		return 1
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 1
	}
	left, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	fmt.Printf("pid %d left %q descriptors %d\n", os.Getpid(), left, len(descriptors))
	if err != nil {
		return 1
	}
	return 0
}

// beTerminal is a program that stops like an application's command line: gracefully
// at the first signal, at once at the second.
func beTerminal() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	pool, err := subprocess.NewPool(subprocess.Config{Processes: 1, Logger: slog.New(slog.DiscardHandler),
		Call: func(_ context.Context, _ *broker.TaskRun, _ string, body []byte) ([]byte, error) {
			fmt.Printf("%s\n", body)
			return nil, nil
		}})
	if err != nil {
		return 1
	}
	var runs sync.WaitGroup
	runs.Go(func() {
		task, payload, _ := strings.Cut(os.Getenv("SUBPROCESS_TEST_TASKS"), " ")
		resp, err := pool.Run(context.Background(), request(task, payload))
		if err == nil {
			fmt.Printf("%s\n", resp.Result)
		}
	})
	<-ctx.Done()
	stop()
	fmt.Println("stopping")
	if pool.Close(context.Background()) != nil {
		return 1
	}
	runs.Wait()
	fmt.Println("closed")
	return 0
}

// soaked returns how often a test repeats: few times, or many if TASKGEN_SOAK is set.
func soaked(few, many int) int {
	if os.Getenv("TASKGEN_SOAK") != "" {
		return many
	}
	return few
}

// beEcho copies standard input to standard output.
func beEcho() int {
	buf := make([]byte, 64<<10)
	for {
		n, err := os.Stdin.Read(buf)
		if err == io.EOF {
			return 0
		}
		if _, werr := os.Stdout.Write(buf[:n]); err != nil || werr != nil {
			return 1
		}
	}
}

func request(task, payload string) *subprocess.Request {
	return &subprocess.Request{Run: &broker.TaskRun{
		ID: "id-of-" + task, Task: task, Queue: "default", Kind: broker.CPU, Payload: []byte(payload),
	}}
}

// newPool returns a pool that is closed at the test's end. No process may remain
// then.
func newPool(t testing.TB, cfg subprocess.Config) *subprocess.Pool {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	pool, err := subprocess.NewPool(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, pool.Close(context.Background()))
		require.Empty(t, childrenOf(t, os.Getpid()), "child processes left")
	})
	return pool
}

// run executes a task that must succeed, and returns its result and child.
func run(t testing.TB, pool *subprocess.Pool, task, payload string) (string, int) {
	t.Helper()
	resp, err := pool.Run(context.Background(), request(task, payload))
	var ended *subprocess.ExitError
	if errors.As(err, &ended) {
		t.Log(ended.Detail())
	}
	require.NoError(t, err)
	require.Nil(t, resp.Failure)
	return string(resp.Result), resp.PID
}

// exit executes a task that must end with its process. It closes the pool if the run
// does not end.
func exit(t testing.TB, pool *subprocess.Pool, ctx context.Context, task, payload string) *subprocess.ExitError {
	t.Helper()
	watchdog := time.AfterFunc(time.Minute, func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		_ = pool.Close(over) // returns an error, as it kills the child
	})
	resp, err := pool.Run(ctx, request(task, payload))
	require.True(t, watchdog.Stop(), "the run went on for a minute")
	var ended *subprocess.ExitError
	require.ErrorAs(t, err, &ended, "response %+v", resp)
	require.True(t, isGone(ended.PID), "process %d is not gone", ended.PID)
	return ended
}

// reports is a Config.Call that tasks call to report to their test.
type reports chan string

func (r reports) call(_ context.Context, _ *broker.TaskRun, _ string, body []byte) ([]byte, error) {
	r <- string(body)
	return nil, nil
}

func (r reports) pids(t testing.TB) []int {
	t.Helper()
	return parsePIDs(t, <-r)
}

func parsePIDs(t testing.TB, text string) []int {
	t.Helper()
	var pids []int
	for _, f := range strings.Fields(text) {
		pid, err := strconv.Atoi(f)
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	return pids
}

// stat returns the state and the parent of a process; the state is 'X' if it is gone.
func stat(pid int) (state byte, parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 'X', 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	parent, _ = strconv.Atoi(f[1])
	return f[0][0], parent
}

// isGone reports whether a process has ended. A process of others may stay a zombie.
func isGone(pid int) bool {
	state, parent := stat(pid)
	return state == 'X' || state == 'Z' && parent != os.Getpid()
}

// requireGone waits for the end of processes, for ten times the expected time: on a
// busy machine they may get no processor for a while, and a process that was not
// stopped goes on forever.
func requireGone(t testing.TB, within time.Duration, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		require.Eventually(t, func() bool { return isGone(pid) }, 10*within, 5*time.Millisecond, "process %d", pid)
	}
}

func childrenOf(t testing.TB, parent int) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	require.NoError(t, err)
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, p := stat(pid); p == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sink is a logger's output.
type sink struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *sink) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(s, nil))
}

func (s *sink) records(t testing.TB) []map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []map[string]any
	d := json.NewDecoder(bytes.NewReader(s.buf.Bytes()))
	for {
		var rec map[string]any
		if err := d.Decode(&rec); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			require.NoError(t, err)
		}
		delete(rec, "time")
		out = append(out, rec)
	}
}
