//go:build !windows

package taskapp_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestOutagesAreNoDeaths kills Redis for longer than the lease, four times under the
// same runs.
func TestOutagesAreNoDeaths(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "--appendfsync", "always")
	const runs, outages = 3, 4
	f.queue(runs)
	p := f.serve(3*time.Second, "--consume", "--lease", "500ms")
	for n := range outages {
		require.Eventually(t, func() bool { starts, _ := f.counts(); return total(starts) >= (n+1)*runs }, 30*time.Second, 10*time.Millisecond,
			"starts after %d outages", n)
		losses := strings.Count(p.log.String(), "lease lost")
		f.server.Kill9()
		require.Eventually(t, func() bool { return strings.Count(p.log.String(), "lease lost") > losses }, 30*time.Second, 10*time.Millisecond)
		f.server.Restart()
	}
	f.drained(runs, time.Minute)
	require.Regexp(t, `the lease is in danger.*running="recorder_record ×3"`, p.log.String())
	starts, _ := f.counts()
	require.GreaterOrEqual(t, total(starts), (outages+1)*runs, "each outage ended the runs")
}

// TestPausesAreNoDeaths stops the consumer of a run until another one has it, in
// turns.
func TestPausesAreNoDeaths(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const pauses = 4
	f.queue(1)
	consumers := map[int]*process{}
	for range 2 {
		p := f.serve(4*time.Second, "--consume", "--lease", "500ms")
		consumers[p.cmd.Process.Pid] = p
	}
	started := func(n int) (p *process) {
		require.Eventually(t, func() bool {
			have := 0
			for _, e := range f.events() {
				if e.what == "START" {
					have, p = have+1, consumers[e.pid]
				}
			}
			return have == n
		}, 30*time.Second, 10*time.Millisecond, "start %d", n)
		return p
	}
	lost := map[*process]int{}
	for n := range pauses {
		p := started(n + 1)
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
		started(n + 2)
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
		lost[p]++
		require.Eventually(t, func() bool { return strings.Count(p.log.String(), "lease lost") >= lost[p] }, 30*time.Second, 10*time.Millisecond)
	}
	f.drained(1, time.Minute)
}

// TestPoisonsTakeNoGoodRunsAlong has good runs that last beside ones that kill their
// process, in consumers that are started again as they die.
func TestPoisonsTakeNoGoodRunsAlong(t *testing.T) {
	t.Parallel()
	good, poisons, hold := 28, 2, 500*time.Millisecond
	if os.Getenv("TASKGEN_SOAK") == "1" {
		good, poisons, hold = 60, 3, 10*time.Second
	}
	testPoisons(t, good, poisons, hold, "die")
}

// TestLatePoisonsTakeNoGoodRunsAlong is the same with ones that others have begun
// beside when they kill it, also when they were tried.
func TestLatePoisonsTakeNoGoodRunsAlong(t *testing.T) {
	t.Parallel()
	good, poisons := 6, 1
	if os.Getenv("TASKGEN_SOAK") == "1" {
		good, poisons = 60, 3
	}
	testPoisons(t, good, poisons, 4*time.Second, "die:3s")
}

// testPoisons has good runs hold for a time beside poisons. These start three times, and
// once more where the last one of these was beside others.
func testPoisons(t *testing.T, good, poisons int, hold time.Duration, poison string) {
	f := newFleet(t)
	var params []tasks.RecorderMailParams // with time for the longest
	for i := range good {
		if i%20 == 5 && i/20 < poisons {
			params = append(params, tasks.RecorderMailParams{To: poison})
		}
		params = append(params, tasks.RecorderMailParams{To: fmt.Sprint(i)})
	}
	_, err := tasks.QueueRecorderMailBatch(f.ctx, params, taskrt.OnQueue("default"))
	require.NoError(t, err)
	over := make(chan struct{})
	var keepers sync.WaitGroup
	for range 2 {
		keepers.Go(func() {
			for f.ctx.Err() == nil {
				p := f.serve(hold, "--consume", "--concurrency", "20", "--lease", "500ms")
				died := make(chan struct{})
				go func() { _ = p.cmd.Wait(); close(died) }()
				select {
				case <-died:
				case <-over:
					_ = p.cmd.Process.Kill()
					<-died
					return
				}
			}
		})
	}
	f.awaitCount(5*time.Minute, func() int {
		_, ends := f.counts()
		return len(ends) + len(f.deadLetters())
	}, good+poisons)
	close(over)
	keepers.Wait()
	starts, ends := f.counts()
	assert.Len(t, ends, good)
	assert.GreaterOrEqual(t, starts[poison], 3*poisons, "starts of the poisons")
	assert.LessOrEqual(t, starts[poison], 4*poisons, "starts of the poisons")
	assert.Len(t, f.deadLetters(), poisons)
	notes := map[string]string{}
	for _, e := range f.events() {
		notes[e.id] = e.note
	}
	for _, letter := range f.deadLetters() {
		assert.Equal(t, poison, notes[letter.ID])
		assert.EqualValues(t, taskrt.Crashed, letter.Failure.Kind)
		assert.Contains(t, letter.Failure.Message, "its process died")
	}
	most := 0
	for note, n := range starts {
		if note != poison {
			most = max(most, n)
		}
	}
	t.Logf("%d starts, a good run had at most %d", total(starts), most)
}
