//go:build linux

package subprocess_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/subprocess"
)

func TestAChildThatDoesNotStopTellsItsStacks(t *testing.T) {
	const grace = 100 * time.Millisecond
	told := make(reports, 2)
	pool := newPool(t, subprocess.Config{Processes: 1, Grace: grace, Call: told.call})
	run(t, pool, "echo", "")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	ended := exit(t, pool, ctx, "spin", "")
	require.Equal(t, subprocess.Timeout, ended.Kind)
	require.LessOrEqual(t, len(ended.Stack), 32<<10)
	first, _, _ := strings.Cut(ended.Stack, "\n\n")
	require.Contains(t, first, "subprocess_test.spin(", "the busy goroutine stands first:\n%s", ended.Stack)
	require.Contains(t, first, "tasks_test.go:")
	require.Contains(t, ended.Detail(), "signal: killed, user ")
	require.Positive(t, ended.UserTime)
	require.Positive(t, ended.PeakMemory)
}

// TestAChildHasItsGraceAndNoMore observes two children that do not stop. The one that
// is asked later has less time.
func TestAChildHasItsGraceAndNoMore(t *testing.T) {
	told := make(reports, 1)
	patient, err := subprocess.NewPool(subprocess.Config{Processes: 1, Grace: time.Hour, Call: told.call, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := patient.Run(ctx, request("spin", ""))
		result <- err
	}()
	spared := told.pids(t)
	cancel()
	defer func() {
		require.ErrorContains(t, patient.Close(ctx), "killed 1 of them")
		require.Error(t, <-result)
	}()

	hasty := newPool(t, subprocess.Config{Processes: 1, Grace: time.Millisecond, Call: told.call})
	later, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-told // it spins
		cancel()
	}()
	require.Equal(t, subprocess.Cancelled, exit(t, hasty, later, "spin", "").Kind)
	require.False(t, isGone(spared[0]), "a child was killed before its grace was over")
	require.Empty(t, result)
}

func TestWhatIgnoresEverythingIsKilled(t *testing.T) {
	for name, start := range map[string]func(t *testing.T, pool *subprocess.Pool, ctx context.Context) *subprocess.ExitError{
		"signals ignored": func(t *testing.T, pool *subprocess.Pool, ctx context.Context) *subprocess.ExitError {
			return exit(t, pool, ctx, "deaf", "")
		},
		"stopped": func(t *testing.T, pool *subprocess.Pool, ctx context.Context) *subprocess.ExitError {
			return exit(t, pool, ctx, "signal", strconv.Itoa(int(syscall.SIGSTOP)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			told := make(reports, 2)
			pool := newPool(t, subprocess.Config{Processes: 1, Grace: 100 * time.Millisecond, Call: told.call})
			run(t, pool, "echo", "")
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			ended := start(t, pool, ctx)
			require.Equal(t, subprocess.Timeout, ended.Kind)
			require.Equal(t, "killed", ended.Signal)
		})
	}
}

func TestProcessesThatLeftTheGroupAreKilledToo(t *testing.T) {
	told := make(reports, 2)
	pool := newPool(t, subprocess.Config{Processes: 1, Grace: 50 * time.Millisecond, Call: told.call})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pids := make(chan []int, 1)
	go func() {
		pids <- told.pids(t)
		<-told
		cancel()
	}()
	exit(t, pool, ctx, "family", "spin")
	family := <-pids
	require.Len(t, family, 3)
	requireGone(t, time.Second, family...)
}

// TestOrphansAreReaped runs a program that is the first process of its namespace, as
// in a container without an init. If that is not permitted, the program is a
// subreaper.
func TestOrphansAreReaped(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("first=%v", first), func(t *testing.T) {
			var out strings.Builder
			start := func(attr *syscall.SysProcAttr) (*exec.Cmd, error) {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), role+"=first", fmt.Sprintf("SUBPROCESS_TEST_TASKS=%d", soaked(30, 1000)))
				cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &out, os.Stderr, attr
				return cmd, cmd.Start()
			}
			cmd, err := start(nil)
			if first {
				require.NoError(t, cmd.Process.Kill())
				_ = cmd.Wait()
				cmd, err = start(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS})
				if err != nil {
					cmd, err = start(nil)
				}
			}
			require.NoError(t, err)
			require.NoError(t, cmd.Wait())
			require.Regexp(t, `^pid \d+ left "" descriptors (\d|1[0-5])\n$`, out.String())
		})
	}
}

// startTerminal starts a program in its own process group, which a terminal's Ctrl-C
// would reach, and returns a function that presses it.
func startTerminal(t *testing.T, task string) (*exec.Cmd, *bufio.Reader, func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"=terminal", "SUBPROCESS_TEST_TASKS="+task)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it usually has ended
		_ = cmd.Wait()
	})
	return cmd, bufio.NewReader(out), func() { require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)) }
}

func TestCtrlCLetsChildrenDrain(t *testing.T) {
	cmd, out, press := startTerminal(t, "nap 300")
	readPIDs(t, out)
	press()
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	require.Equal(t, "stopping\nrested\nclosed\n", string(rest))
	require.NoError(t, cmd.Wait())
}

func TestASecondCtrlCForces(t *testing.T) {
	cmd, out, press := startTerminal(t, "family spin")
	pids := append(readPIDs(t, out), readPIDs(t, out)...)
	press()
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "stopping\n", line)
	require.False(t, isGone(pids[0]), "the first one ends no child")
	press()
	requireGone(t, time.Second, pids...)
	require.ErrorContains(t, cmd.Wait(), "signal: interrupt")
}
