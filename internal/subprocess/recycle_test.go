//go:build linux

package subprocess_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

func TestAWornChildIsSucceededAndNoRunFails(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 2, MaxRuns: 100})
	var mu sync.Mutex
	runs := map[int]int{}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			for i := range 3000 {
				resp, err := pool.Run(t.Context(), request("echo", strconv.Itoa(i)))
				if err != nil || string(resp.Result) != strconv.Itoa(i) {
					t.Errorf("run %d: %v", i, err)
					return
				}
				mu.Lock()
				runs[resp.PID]++
				mu.Unlock()
			}
		})
	}
	both.Wait()
	require.Greater(t, len(runs), 3)
	for pid, n := range runs {
		require.GreaterOrEqual(t, n, 1, "process %d", pid)
	}
	require.Eventually(t, func() bool { return len(childrenOf(t, os.Getpid())) <= 3 }, 5*time.Second, time.Millisecond)
}

func TestAChildIsReplacedForItsAgeAndSize(t *testing.T) {
	for name, cfg := range map[string]subprocess.Config{
		"age":  {Processes: 1, MaxAge: 500 * time.Millisecond},
		"size": {Processes: 1, MaxSize: 60 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, cfg)
			got, first := run(t, pool, "grow", "64")
			require.Equal(t, "1", got)
			require.Eventually(t, func() bool {
				_, pid := run(t, pool, "echo", "")
				return pid != first
			}, 10*time.Second, time.Millisecond)
			requireGone(t, 5*time.Second, first)
		})
	}
}

func TestAnIdleChildIsRetired(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1, Idle: 50 * time.Millisecond})
	_, first := run(t, pool, "echo", "")
	requireGone(t, 5*time.Second, first)
	_, second := run(t, pool, "echo", "")
	require.NotEqual(t, first, second)
}

func TestEachRunCanHaveAFreshChild(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 2, Fresh: true})
	seen := map[int]bool{}
	for range 20 {
		got, pid := run(t, pool, "grow", "1")
		require.Equal(t, "1", got, "a run found what an earlier one left")
		require.False(t, seen[pid])
		seen[pid] = true
		require.LessOrEqual(t, len(childrenOf(t, os.Getpid())), 2)
	}
}

// twoChildren returns a pool with two idle children.
func twoChildren(t *testing.T, cfg subprocess.Config) *subprocess.Pool {
	var waiting sync.WaitGroup
	waiting.Add(2)
	cfg.Processes, cfg.Call = 2, func(context.Context, *broker.TaskRun, string, []byte) ([]byte, error) {
		waiting.Done()
		waiting.Wait()
		return nil, nil
	}
	pool := newPool(t, cfg)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if resp, err := pool.Run(t.Context(), request("hold", "")); err != nil || resp.Failure != nil {
				t.Errorf("hold: %v", err)
			}
		})
	}
	both.Wait()
	return pool
}

func TestAHealthyChildComesBeforeOneWhoseRunFailed(t *testing.T) {
	pool := twoChildren(t, subprocess.Config{MaxFailures: -1})
	resp, err := pool.Run(t.Context(), request("poison", "poison"))
	require.NoError(t, err)
	require.NotNil(t, resp.Failure)
	for range 20 {
		_, pid := run(t, pool, "echo", "")
		require.NotEqual(t, resp.PID, pid)
	}
}

func TestAChildWhoseRunsFailInARowEnds(t *testing.T) {
	for _, c := range []struct{ max, want int }{{0, 5}, {2, 2}, {-1, 40}} {
		pool := newPool(t, subprocess.Config{Processes: 1, MaxFailures: c.max, Call: func(context.Context, *broker.TaskRun, string, []byte) ([]byte, error) {
			return nil, nil
		}})
		failed, last, payload := 0, 0, "poison"
		for range 40 {
			resp, err := pool.Run(t.Context(), request("poison", payload))
			require.NoError(t, err)
			if last == 0 {
				last = resp.PID
			}
			if resp.Failure == nil {
				require.NotEqual(t, last, resp.PID)
				break
			}
			require.Equal(t, last, resp.PID)
			failed, payload = failed+1, ""
		}
		require.Equal(t, c.want, failed, "MaxFailures %d", c.max)
		if c.max >= 0 {
			requireGone(t, time.Second, last)
		}
		require.NoError(t, pool.Close(context.Background()))
	}
}

func TestAChildIsNotBlamedForWhatFailsEverywhere(t *testing.T) {
	told := make(reports, 1)
	pool := newPool(t, subprocess.Config{Processes: 1, MaxFailures: 2, Grace: time.Minute, Call: told.call})
	of := func(task string, n int) (pids []int) {
		for range n {
			resp, err := pool.Run(t.Context(), request(task, "no"))
			require.NoError(t, err)
			require.NotNil(t, resp.Failure)
			if len(pids) == 0 || pids[len(pids)-1] != resp.PID {
				pids = append(pids, resp.PID)
			}
		}
		return pids
	}
	require.Len(t, of("verdict", 20), 1, "what the input is blamed for")
	require.Len(t, of("snooze", 20), 1, "what has not failed")
	pids := map[int]bool{}
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-told; cancel() }()
		resp, err := pool.Run(ctx, request("stopped", ""))
		require.NoError(t, err)
		require.NotNil(t, resp.Failure)
		pids[resp.PID] = true
	}
	require.Len(t, pids, 1, "what was stopped")
	require.Len(t, of("fail", 2+4+8+16), 4, "the bound doubles while nothing succeeds")
	run(t, pool, "echo", "")
	require.Len(t, of("fail", 2+4), 2, "and is what it was after a success")
}

func TestAChildWithoutDescriptorsEndsWithTheFirstFailure(t *testing.T) {
	for _, pause := range []bool{false, true} {
		pool := newPool(t, subprocess.Config{Processes: 1})
		run(t, pool, "echo", "") // its size and files are read again after a second
		_, first := run(t, pool, "leak", "")
		if pause {
			require.Eventually(t, func() bool { _, pid := run(t, pool, "echo", ""); return pid != first }, 10*time.Second, 50*time.Millisecond)
			require.NoError(t, pool.Close(context.Background()))
			continue
		}
		resp, err := pool.Run(t.Context(), request("open", ""))
		require.NoError(t, err)
		require.NotNil(t, resp.Failure)
		require.Equal(t, first, resp.PID)
		_, next := run(t, pool, "open", "")
		require.NotEqual(t, first, next)
		require.NoError(t, pool.Close(context.Background()))
	}
}

func TestACrashLoopAtTheStartOpensTheBreaker(t *testing.T) {
	count := filepath.Join(t.TempDir(), "starts")
	require.NoError(t, os.WriteFile(count, nil, 0o600))
	starts := func() int {
		b, err := os.ReadFile(count)
		require.NoError(t, err)
		return len(b)
	}
	t.Setenv(badChild, "exit "+count)
	var s sink
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger(), Env: []string{badChild}})
	for range 3 {
		_, err := pool.Run(t.Context(), request("echo", ""))
		require.ErrorContains(t, err, "exit status 1")
		require.NotErrorIs(t, err, subprocess.ErrBreaker)
	}
	require.Equal(t, 3, starts())
	// On a slow machine it tries again meanwhile, less often each time.
	tries := 3
	for refused := 0; refused < 100; {
		_, err := pool.Run(t.Context(), request("echo", ""))
		var failed *subprocess.StartError
		require.ErrorAs(t, err, &failed)
		require.ErrorContains(t, err, "address already in use", "what was wrong is still said")
		if errors.Is(err, subprocess.ErrBreaker) {
			refused++
		} else {
			tries++
		}
		require.Equal(t, tries, starts(), "a run that is refused starts no process")
		require.LessOrEqual(t, tries, 10)
	}
	said := 0
	for _, rec := range s.records(t) {
		if rec["level"] == "ERROR" {
			said++
			require.Contains(t, rec["msg"], "CPU-bound runs wait")
		}
	}
	require.Equal(t, tries-2, said, "at the third failure in a row, and at each behind it")

	// It closes by itself once children come up again.
	require.NoError(t, os.Setenv(badChild, ""))
	require.Eventually(t, func() bool {
		_, err := pool.Run(t.Context(), request("echo", ""))
		return err == nil
	}, time.Minute, 20*time.Millisecond)
}
