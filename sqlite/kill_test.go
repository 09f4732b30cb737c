//go:build unix

package sqlite_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/sqlite"
)

const killedEnv = "TASKGEN_TEST_SQLITE_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(killedEnv); path != "" {
		fmt.Fprintln(os.Stderr, work(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// work queues, takes and finishes runs of a file until the process is killed. It prints what
// it has done, and before a finish that it is about to: one write each, so that no line of a
// killed process is lost.
func work(path string) error {
	ctx := context.Background()
	b, err := sqlite.Open(ctx, "file:"+path)
	if err != nil {
		return err
	}
	s, err := b.(broker.Leaser).OpenSession(ctx, 300*time.Millisecond)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("%d-%d", os.Getpid(), i)
		if err := b.QueueTasks(ctx, run(id)); err != nil {
			return err
		}
		fmt.Println("queued", id)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		runs, _ := s.Take(short, broker.Want{Queues: []string{"q"}, IO: 3})
		cancel()
		if _, err := b.(broker.Leaser).Recover(ctx, []string{"q"}); err != nil {
			return err
		}
		for _, r := range runs {
			fmt.Println("ending", r.ID)
			done, err := s.Finish(ctx, broker.Outcome{Run: r})
			if err != nil {
				return err
			}
			if len(done.Fenced) == 0 {
				fmt.Println("ended", r.ID)
			}
		}
	}
}

// TestNothingIsLostByKilledProcesses kills processes that share a file, at any moment. A run
// whose queueing returned must be in the file, unless a process was about to end it. None may
// end twice.
func TestNothingIsLostByKilledProcesses(t *testing.T) {
	const processes = 5
	kills := 200
	if testing.Short() {
		kills = 40
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "tasks.db")
	printed, err := os.Create(filepath.Join(dir, "printed"))
	require.NoError(t, err)
	defer printed.Close()
	appended, err := os.OpenFile(printed.Name(), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer appended.Close()
	complaints, err := os.Create(filepath.Join(dir, "complaints"))
	require.NoError(t, err)
	defer complaints.Close()

	var running []*exec.Cmd
	start := func() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), killedEnv+"="+path)
		cmd.Stdout, cmd.Stderr = appended, complaints
		require.NoError(t, cmd.Start())
		running = append(running, cmd)
	}
	kill := func(i int) {
		require.NoError(t, running[i].Process.Kill(), "kill of a process that should run")
		_ = running[i].Wait() // its error is that it was killed
		running = append(running[:i], running[i+1:]...)
	}
	defer func() {
		for _, cmd := range running {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	for range processes {
		start()
	}
	next := time.NewTicker(50 * time.Millisecond)
	defer next.Stop()
	for range kills {
		<-next.C
		kill(rand.N(len(running)))
		start()
	}
	for len(running) > 0 {
		kill(0)
	}
	text, err := os.ReadFile(complaints.Name())
	require.NoError(t, err)
	require.Empty(t, string(text), "what processes reported that ended by themselves")
	requireNoneLost(t, path, printed.Name())
}

// requireNoneLost holds what the processes printed against what is left in the file.
func requireNoneLost(t *testing.T, path, printed string) {
	text, err := os.ReadFile(printed)
	require.NoError(t, err)
	seen := map[string]map[string]int{"queued": {}, "ending": {}, "ended": {}}
	for line := range strings.Lines(string(text)) {
		what, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		seen[what][id]++
	}
	require.Greater(t, len(seen["ended"]), 100, "runs that ended")

	b := openFile(t, path)
	left := make(map[string]bool)
	for {
		_, err := b.(broker.Leaser).Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // longer than a lease
		runs, err := b.GetTaskRuns(ctx, []string{"q"}, 1000)
		cancel()
		for _, r := range runs {
			require.False(t, left[r.ID], "run %s is there twice", r.ID)
			left[r.ID] = true
		}
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			recovered, err := b.(broker.Leaser).Recover(t.Context(), []string{"q"})
			require.NoError(t, err)
			if recovered.Runs == 0 {
				break
			}
		}
	}
	for id := range seen["queued"] {
		require.True(t, left[id] || seen["ending"][id] > 0, "run %s was queued and is lost", id)
	}
	for id, times := range seen["ended"] {
		require.Equal(t, 1, times, "times that run %s ended", id)
		require.False(t, left[id], "run %s ended and is still there", id)
	}
	t.Logf("%d runs were queued, %d ended, %d were left", len(seen["queued"]), len(seen["ended"]), len(left))
}
