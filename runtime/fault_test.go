//go:build !windows

package runtime_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/app"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// fleet is processes of the application on one Redis, with the ledger that
// their runs write.
type fleet struct {
	t      *testing.T
	server *redistest.Server
	broker broker.Broker
	ctx    context.Context // for stubs
	ledger string
}

func newFleet(t *testing.T, args ...string) *fleet {
	server := redistest.Start(t, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	b, err := taskrt.Open(ctx, server.URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(io.Closer).Close()) })
	return &fleet{t: t, server: server, broker: b, ctx: clientContext(ctx, b), ledger: filepath.Join(t.TempDir(), "ledger")}
}

// process is one running application.
type process struct {
	cmd *exec.Cmd
	log syncBuffer
}

// serve starts "app serve" with a lease of a second; each run lasts hold.
func (f *fleet) serve(hold time.Duration, args ...string) *process {
	f.t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], append([]string{"serve", "--lease", "1s", "--broker", f.server.URL()}, args...)...)}
	p.cmd.Env = append(os.Environ(), appEnv+"=1", app.LedgerEnv+"="+f.ledger, app.HoldEnv+"="+hold.String())
	p.cmd.Stderr = &p.log
	require.NoError(f.t, p.cmd.Start())
	f.t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// end sends a signal and waits for the process.
func (p *process) end(signal os.Signal) error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Signal(signal) // it may have ended by itself
	return p.cmd.Wait()
}

// queue queues n runs of Record with the notes 0 to n-1.
func (f *fleet) queue(n int) {
	f.t.Helper()
	params := make([]tasks.RecorderRecordParams, n)
	for i := range params {
		params[i].Note = fmt.Sprint(i)
	}
	_, err := tasks.QueueRecorderRecordBatch(f.ctx, params)
	require.NoError(f.t, err)
}

// counts returns how often each note was started and ended.
func (f *fleet) counts() (starts, ends map[string]int) {
	starts, ends = make(map[string]int), make(map[string]int)
	b, err := os.ReadFile(f.ledger)
	if os.IsNotExist(err) {
		return starts, ends
	}
	require.NoError(f.t, err)
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if fields[1] == "tick" || fields[1] == "hourly" {
			continue
		}
		switch fields[0] {
		case "START":
			starts[fields[1]]++
		case "END":
			ends[fields[1]]++
		}
	}
	return starts, ends
}

func total(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}

// drained waits until n notes have ended and nothing is queued, and checks
// that nothing died.
func (f *fleet) drained(n int, within time.Duration) {
	f.t.Helper()
	ended := assert.Eventually(f.t, func() bool {
		_, ends := f.counts()
		lengths, err := f.broker.QueueLength(f.ctx)
		return len(ends) == n && err == nil && lengths["default"] == 0
	}, within, 20*time.Millisecond, "not every run has ended")
	if !ended {
		_, ends := f.counts()
		lengths, err := f.broker.QueueLength(f.ctx)
		f.t.Logf("%d of %d ended; lengths %v, %v", len(ends), n, lengths, err)
	}
	dead, err := f.broker.(broker.Records).DeadLetters(f.ctx, "default", 10)
	require.NoError(f.t, err)
	for _, letter := range dead {
		assert.Fail(f.t, "a run is dead", "%+v: %+v", letter.Run, letter.Failure)
	}
	require.True(f.t, ended)
}

func TestAKilledConsumersRunsStartElsewhere(t *testing.T) {
	f := newFleet(t)
	f.queue(200)
	doomed := f.serve(time.Hour, "--concurrency", "50", "--consume")
	require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) == 50 }, 20*time.Second, 10*time.Millisecond)
	require.Error(t, doomed.end(syscall.SIGKILL))
	killed := time.Now()
	f.serve(0, "--consume")
	require.Eventually(t, func() bool { starts, _ := f.counts(); return total(starts) == 250 }, 20*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(killed), 10*time.Second) // lease and two seconds, and the start of a process on a busy machine
	f.drained(200, 20*time.Second)
	starts, ends := f.counts()
	require.Equal(t, 250, total(starts), "each run once, and those that were in flight once more")
	require.Equal(t, 200, total(ends))
}

func TestConsumersKilledAtRandomLoseNothing(t *testing.T) {
	f := newFleet(t)
	const runs = 1500
	f.queue(runs)
	args := []string{"--concurrency", "10", "--consume"}
	fleet := make([]*process, 3)
	for i := range fleet {
		fleet[i] = f.serve(30*time.Millisecond, args...)
	}
	kills := 0
	for every := time.NewTicker(400 * time.Millisecond); kills < 12; <-every.C {
		if _, ends := f.counts(); len(ends) == 0 {
			continue // still starting
		}
		i := rand.IntN(len(fleet))
		fleet[i].end(syscall.SIGKILL)
		fleet[i] = f.serve(30*time.Millisecond, args...)
		kills++
	}
	f.drained(runs, 90*time.Second)
	starts, _ := f.counts()
	require.Greater(t, total(starts), runs, "the kills have hit running tasks")
	require.LessOrEqual(t, total(starts), runs+kills*10, "no more than was in flight at a kill ran again")
}

func TestAStoppedConsumerIsFenced(t *testing.T) {
	f := newFleet(t)
	f.queue(20)
	frozen := f.serve(time.Minute, "--concurrency", "20", "--consume")
	require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) == 20 }, 20*time.Second, time.Millisecond)
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGSTOP))
	f.serve(0, "--consume")
	f.drained(20, 20*time.Second)
	_, ends := f.counts()
	require.NoError(t, frozen.cmd.Process.Signal(syscall.SIGCONT))
	// It notices and joins again.
	require.Eventually(t, func() bool { return strings.Contains(frozen.log.String(), "lease lost") }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, frozen.end(syscall.SIGTERM))
	_, after := f.counts()
	require.Equal(t, ends, after, "the runs it had were cancelled")
	f.drained(20, 10*time.Second)
}

func TestSIGTERMUnderLoadHandsOverAndExitsClean(t *testing.T) {
	f := newFleet(t)
	f.queue(300)
	first := f.serve(200*time.Millisecond, "--concurrency", "20", "--consume")
	require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) >= 40 }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, first.end(syscall.SIGTERM), first.log.String())
	starts, ends := f.counts()
	require.Equal(t, starts, ends, "what was started has ended")
	f.serve(0, "--consume")
	f.drained(300, 20*time.Second)
	starts, _ = f.counts()
	require.Equal(t, 300, total(starts), "each run was started once")
}

func TestRedisKilledUnderLoadLosesNothingAcknowledged(t *testing.T) {
	f := newFleet(t, "--appendfsync", "always")
	f.serve(20*time.Millisecond, "--concurrency", "10", "--consume")
	accepted := make(map[string]bool)
	// One goroutine queues throughout; Redis dies under it and comes back.
	enough, queued := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(queued)
		for i := 0; len(accepted) < 300 && f.ctx.Err() == nil; i++ {
			if i == 100 {
				close(enough)
			}
			ctx, cancel := context.WithTimeout(f.ctx, 2*time.Second)
			note := fmt.Sprint("n", i)
			_, err := tasks.QueueRecorderRecord(ctx, note)
			cancel()
			if err == nil { // else its outcome is unknown: it may run or not
				accepted[note] = true
			}
		}
	}()
	<-enough
	f.server.Kill9()
	f.server.Restart()
	<-queued
	require.Len(t, accepted, 300)
	require.Eventually(t, func() bool {
		_, ends := f.counts()
		for note := range accepted {
			if ends[note] == 0 {
				return false
			}
		}
		return true
	}, 30*time.Second, 20*time.Millisecond)
}

func TestSchedulerProcessesQueueEachTickOnce(t *testing.T) {
	f := newFleet(t)
	f.serve(0, "--consume")
	for range 3 {
		f.serve(0, "--schedule")
	}
	ids := make(map[string]int)
	require.Eventually(t, func() bool {
		b, _ := os.ReadFile(f.ledger)
		clear(ids)
		for line := range strings.Lines(string(b)) {
			if id, ok := strings.CutPrefix(line, "START tick "); ok {
				ids[strings.Fields(id)[0]]++
			}
		}
		return len(ids) >= 5
	}, 30*time.Second, 10*time.Millisecond)
	var ticks []time.Time
	for id, n := range ids {
		require.Equal(t, 1, n, "%s was queued more than once", id)
		tick, err := time.Parse(time.RFC3339, strings.TrimPrefix(id, "recorder_tick@"))
		require.NoError(t, err)
		ticks = append(ticks, tick)
	}
	slices.SortFunc(ticks, time.Time.Compare)
	for i, tick := range ticks[1:] {
		require.Equal(t, time.Second, tick.Sub(ticks[i]), "none is missing between the first and the last")
	}
}
