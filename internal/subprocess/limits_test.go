//go:build linux

package subprocess_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// grabbed runs a task that takes size MiB under a cap of limit MiB. A run that is not
// stopped ends as Timeout.
func grabbed(t *testing.T, pool *subprocess.Pool, size, limit int) (*subprocess.Response, error) {
	t.Helper()
	req := request("grab", strconv.Itoa(size))
	req.Memory = int64(limit) << 20
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return pool.Run(ctx, req)
}

func TestAGreedyRunEndsAsOOM(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	for size, how := range map[int]string{
		200:  "",
		4000: "refused memory ", // before its size can be read
	} {
		run(t, pool, "echo", "")
		_, err := grabbed(t, pool, size, 64)
		var ended *subprocess.ExitError
		require.ErrorAs(t, err, &ended)
		require.Equal(t, subprocess.OOM, ended.Kind, "%v\n%s", ended, ended.Stderr)
		require.ErrorContains(t, err, "ran out of memory")
		require.ErrorContains(t, err, how+"beyond the cap of 64 MiB")
		require.True(t, isGone(ended.PID))
	}
	resp, err := grabbed(t, pool, 8, 64)
	require.NoError(t, err)
	require.Equal(t, "held", string(resp.Result))
}

func TestACapHoldsForWhatARunStarts(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	req := request("feed", "")
	req.Memory = 160 << 20
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // its processes would go on for longer
	defer cancel()
	_, err := pool.Run(ctx, req)
	var ended *subprocess.ExitError
	require.ErrorAs(t, err, &ended)
	require.Equal(t, subprocess.OOM, ended.Kind)
	require.ErrorContains(t, err, "are beyond the cap of 160 MiB")
}

func TestACapIsThatOfItsRunAlone(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	req := request("limits", "")
	req.Memory = 64 << 20
	for range 2 {
		resp, err := pool.Run(t.Context(), req)
		require.NoError(t, err)
		require.Contains(t, string(resp.Result), "data true memory true")
		got, pid := run(t, pool, "limits", "")
		require.Contains(t, got, "data false memory false")
		require.Equal(t, resp.PID, pid)
	}
	// Garbage of earlier runs does not count.
	for range 3 {
		run(t, pool, "grab", "31")
		run(t, pool, "result", "10000000")
		resp, err := grabbed(t, pool, 8, 48*shadowed)
		require.NoError(t, err)
		require.Nil(t, resp.Failure)
	}
}

func TestAKilledChildIsNoOOM(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	req := request("signal", strconv.Itoa(int(syscall.SIGKILL)))
	req.Memory = 64 << 20
	_, err := pool.Run(t.Context(), req)
	var ended *subprocess.ExitError
	require.ErrorAs(t, err, &ended)
	require.Equal(t, subprocess.Crashed, ended.Kind)
	require.Contains(t, ended.Detail(), "signal: killed, user ")
}

func TestLimitsAreSetAndCanBeAsked(t *testing.T) {
	priority, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	require.NoError(t, err)
	own := 20 - priority // as the system call returns it
	for name, c := range map[string]struct {
		cfg    subprocess.Config
		want   string
		active []string
	}{
		"defaults": {subprocess.Config{Processes: runtime.GOMAXPROCS(0)}, "nice 5 oom 500 core 0 data false memory false threads 2",
			[]string{"gomaxprocs=2", "core=0", "nice=5", "oom_score_adj=500"}},
		"own": {subprocess.Config{Processes: 1, Nice: 7, OOMScore: 900, Threads: 1}, "nice 7 oom 900 core 0 data false memory false threads 1",
			[]string{"gomaxprocs=1", "core=0", "nice=7", "oom_score_adj=900"}},
		"none": {subprocess.Config{Processes: 1, Nice: -1, OOMScore: -1, Threads: 3}, fmt.Sprintf("nice %d oom 0 core 0 data false memory false threads 3", own),
			[]string{"gomaxprocs=3", "core=0"}},
	} {
		t.Run(name, func(t *testing.T) {
			pool := newPool(t, c.cfg)
			require.Nil(t, pool.Limits())
			got, _ := run(t, pool, "limits", "")
			require.Equal(t, c.want, got)
			require.Equal(t, c.active, pool.Limits())
		})
	}
	require.Subset(t, subprocess.Capabilities(), []string{"process-group", "parent-death", "memory-watch", "rlimit-data"})
}

func TestAPoolRefusesAControlGroupThatWasNotDelegated(t *testing.T) {
	_, err := subprocess.NewPool(subprocess.Config{Cgroup: t.TempDir()})
	require.ErrorContains(t, err, "make pool of child processes: field Cgroup: ")
}

func TestTheEnvironmentIsTheParentsLessTheBrokersURL(t *testing.T) {
	const url = "redis://:canary@127.0.0.1"
	t.Setenv("TASKGEN_BROKER", url)
	t.Setenv("SUBPROCESS_TEST_URL", url+"/7")
	t.Setenv("SUBPROCESS_TEST_DATABASE", "pg://user:finch@db/app")
	t.Setenv("LC_TIME", "C")
	t.Setenv("GOTRACEBACK", "all")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/etc/secret.json")
	t.Setenv("SUBPROCESS_TEST_ONE", "first")
	t.Setenv("SUBPROCESS_TEST_TWO", "second")
	all := []string{"PATH=", "LC_TIME=C", "SUBPROCESS_TEST_ONE=first", "SUBPROCESS_TEST_TWO=second", "GOOGLE"}
	for name, c := range map[string]struct {
		env           []string
		broker        string
		with, without []string
	}{
		"default":      {nil, url + "/7", all, []string{"canary"}},
		"other broker": {nil, "redis://elsewhere", append(all, url+"/7"), []string{"TASKGEN_BROKER"}},
		"other scheme": {nil, "pg://user:finch@db/app?schema=tasks", append(all, url+"/7"), []string{"finch", "TASKGEN_BROKER"}},
		"no URL":       {nil, "second", append(all, "finch"), []string{"TASKGEN_BROKER"}},
		"list":         {[]string{"SUBPROCESS_TEST_T*"}, url, []string{"PATH=", "LC_TIME=C", "GOTRACEBACK=all", "SUBPROCESS_TEST_TWO=second"}, []string{"first", "canary", "GOOGLE"}},
		"added":        {[]string{"SUBPROCESS_TEST_ONE=a,b=c", "SUBPROCESS_TEST_NEW=x"}, url + "/7", []string{"SUBPROCESS_TEST_ONE=a,b=c", "SUBPROCESS_TEST_NEW=x", "SUBPROCESS_TEST_TWO=second"}, []string{"first", "canary"}},
		"values":       {[]string{"PATH", "SUBPROCESS_TEST_TWO="}, url, []string{"PATH="}, []string{"first", "second", "canary"}},
		"asked":        {[]string{"TASKGEN_BROKER"}, url, []string{"canary"}, []string{"first", "second"}},
		"asked too":    {[]string{"*", "SUBPROCESS_TEST_URL"}, url + "/7", append(all, url+"/7"), []string{"TASKGEN_BROKER"}},
		"all":          {[]string{"*"}, url + "/7", all, []string{"canary"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := run(t, newPool(t, subprocess.Config{Processes: 1, Env: c.env, BrokerURL: c.broker}), "environ", "")
			for _, text := range c.with {
				require.Contains(t, got, text)
			}
			for _, text := range c.without {
				require.NotContains(t, got, text)
			}
		})
	}
}
