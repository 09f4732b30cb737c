//go:build !windows

package taskapp_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/codec"
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
	env    []string // of processes
}

func newFleet(t *testing.T, args ...string) *fleet {
	server := redistest.Start(t, args...)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	b, err := brokerurl.Open(ctx, server.URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(io.Closer).Close()) })
	return &fleet{t: t, server: server, broker: b, ctx: taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{})), ledger: filepath.Join(t.TempDir(), "ledger")}
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
	p.cmd.Env = append(p.cmd.Env, f.env...)
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

// event is a line of the ledger.
type event struct {
	what     string // START, END, or KILL of a process
	note, id string // of the run
	delivery int
	pid      int
}

// events returns the ledger so far, in the order in which it was written. Half
// a line is of a process that still writes it, or was killed doing so.
func (f *fleet) events() (all []event) {
	b, err := os.ReadFile(f.ledger)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(f.t, err)
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) != 5 || !strings.HasSuffix(line, "\n") {
			continue
		}
		delivery, err := strconv.Atoi(fields[3])
		require.NoError(f.t, err, line)
		pid, err := strconv.Atoi(fields[4])
		require.NoError(f.t, err, line)
		all = append(all, event{fields[0], fields[1], fields[2], delivery, pid})
	}
	return all
}

// counts returns how often each note was started and ended.
func (f *fleet) counts() (starts, ends map[string]int) {
	starts, ends = make(map[string]int), make(map[string]int)
	for _, e := range f.events() {
		switch {
		case e.note == "tick" || e.note == "hourly":
		case e.what == "START":
			starts[e.note]++
		case e.what == "END":
			ends[e.note]++
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
	f.awaitCount(within, func() int {
		_, ends := f.counts()
		return len(ends)
	}, n)
	for _, letter := range f.deadLetters() {
		assert.Fail(f.t, "a run is dead", "%+v: %+v", letter.Run, letter.Failure)
	}
	require.False(f.t, f.t.Failed())
}

// awaitCount waits until count returns n, nothing is queued and nobody holds a run.
func (f *fleet) awaitCount(within time.Duration, count func() int, n int) {
	f.t.Helper()
	got, info, err := 0, (*broker.QueueInfo)(nil), error(nil)
	reached := assert.Eventually(f.t, func() bool {
		got = count()
		info, err = f.broker.(broker.Controls).Queue(f.ctx, "default")
		return got == n && err == nil && info.Queued+info.Delayed+info.Running == 0
	}, within, 20*time.Millisecond, "not every run has ended")
	if !reached {
		f.t.Logf("%d of %d ended; the queue is %+v, %v", got, n, info, err)
	}
}

func (f *fleet) deadLetters() []*broker.DeadLetter {
	f.t.Helper()
	dead, err := f.broker.(broker.Records).DeadLetters(f.ctx, "default", 1000)
	require.NoError(f.t, err)
	return dead
}

func TestAKilledConsumersRunsStartElsewhere(t *testing.T) {
	f := newFleet(t)
	f.queue(200)
	victim := f.serve(time.Hour, "--concurrency", "50", "--consume")
	require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) == 50 }, 20*time.Second, 10*time.Millisecond)
	require.Error(t, victim.end(syscall.SIGKILL))
	killed := time.Now()
	f.serve(0, "--consume")
	require.Eventually(t, func() bool { starts, _ := f.counts(); return total(starts) == 250 }, 20*time.Second, 10*time.Millisecond)
	require.Less(t, time.Since(killed), 10*time.Second) // lease and two seconds, and the start of a process on a busy machine
	f.drained(200, 20*time.Second)
	starts, ends := f.counts()
	require.Equal(t, 250, total(starts), "each run once, and those that were in flight once more")
	require.Equal(t, 200, total(ends))
}

// TestConsumersKilledAtRandomLoseNothing kills consumers while they execute.
// Which runs that hits is chance: one that it hits three times is a dead letter,
// as it should be, and runs when it is queued again.
func TestConsumersKilledAtRandomLoseNothing(t *testing.T) {
	t.Parallel() // it mostly waits
	f := newFleet(t)
	const runs = 2000
	f.queue(runs)
	var all, alive []*process
	serve := func() {
		p := f.serve(30*time.Millisecond, "--concurrency", "10", "--consume")
		all, alive = append(all, p), append(alive, p)
	}
	for range 3 {
		serve()
	}
	var killed []int
	for every := time.NewTicker(100 * time.Millisecond); len(killed) < 12; <-every.C {
		if _, ends := f.counts(); len(ends) == runs {
			break // as fast as that may a machine be
		}
		require.NoError(t, f.ctx.Err(), "%d kills", len(killed))
		working := f.working(alive)
		if len(working) == 0 {
			continue // still starting
		}
		victim := working[rand.IntN(len(working))]
		require.Error(t, victim.end(syscall.SIGKILL))
		alive = slices.DeleteFunc(alive, func(p *process) bool { return p == victim })
		killed = append(killed, victim.cmd.Process.Pid)
		serve()
	}
	f.awaitCount(90*time.Second, func() int {
		_, known := f.counts()
		for _, letter := range f.deadLetters() {
			known[f.noteOf(letter.Run)]++
		}
		return len(known)
	}, runs)
	repeats := requireRepeatsAreOf(t, f.events(), append(killed, f.lostLease(all)...))
	require.NotZero(t, repeats, "the kills have hit running tasks")

	var again []string
	for _, letter := range f.deadLetters() {
		require.EqualValues(t, taskrt.Crashed, letter.Failure.Kind, letter.Failure.Message)
		require.Equal(t, 3, letter.Run.Deliveries, "the consumers that had it died each time: %+v", letter.Run)
		again = append(again, letter.Run.ID)
	}
	t.Logf("%d kills, %d runs were started again, %d are dead letters", len(killed), repeats, len(again))
	n, err := f.broker.(broker.Controls).RequeueDead(f.ctx, "default", again...)
	require.NoError(t, err)
	require.Len(t, again, n)
	f.drained(runs, 20*time.Second)
}

// TestARunThatKillsItsConsumersTakesNoOthersAlong has runs that kill their process
// among short ones, of which many are taken ahead each time.
func TestARunThatKillsItsConsumersTakesNoOthersAlong(t *testing.T) {
	t.Parallel() // it mostly waits
	f := newFleet(t)
	const good, bad = 2000, 3
	params := make([]tasks.RecorderRecordParams, 0, good+bad)
	for i := range good {
		if i%500 == 250 && len(params) < i+bad {
			params = append(params, tasks.RecorderRecordParams{Note: "die"})
		}
		params = append(params, tasks.RecorderRecordParams{Note: fmt.Sprint(i)})
	}
	_, err := tasks.QueueRecorderRecordBatch(f.ctx, params)
	require.NoError(t, err)
	args := []string{"--concurrency", "1", "--lease", "500ms", "--consume"}
	for deaths, over := 0, false; !over; deaths++ {
		victim := f.serve(0, args...)
		require.Eventually(t, func() bool {
			starts, _ := f.counts()
			over = len(f.deadLetters()) == bad
			return over || starts["die"] > deaths
		}, time.Minute, 10*time.Millisecond, "a consumer that is to be killed by its run")
		if !over {
			require.Error(t, victim.cmd.Wait(), "a consumer of a run that kills it")
		}
	}
	f.awaitCount(time.Minute, func() int { _, ends := f.counts(); return len(ends) }, good)
	starts, _ := f.counts()
	require.LessOrEqual(t, starts["die"], 3*bad)
	require.Greater(t, starts["die"], 2*bad-1, "what was only near counts as crashed once")
	dead := f.deadLetters()
	require.Len(t, dead, bad)
	for _, letter := range dead {
		require.Equal(t, "die", f.noteOf(letter.Run))
		require.EqualValues(t, taskrt.Crashed, letter.Failure.Kind, letter.Failure.Message)
		require.Equal(t, 3, letter.Run.Deliveries)
	}
}

// working is those of the processes that have started runs and not ended them.
func (f *fleet) working(processes []*process) (some []*process) {
	n := make(map[int]int)
	for _, e := range f.events() {
		switch e.what {
		case "START":
			n[e.pid]++
		case "END":
			n[e.pid]--
		}
	}
	for _, p := range processes {
		if n[p.cmd.Process.Pid] > 0 {
			some = append(some, p)
		}
	}
	return some
}

func (f *fleet) noteOf(run *broker.TaskRun) string {
	var p tasks.RecorderRecordParams
	r := codec.NewReader(run.Payload)
	p.ReadMsgpack(r)
	require.NoError(f.t, r.Done())
	return p.Note
}

// lostLease is the processes that were stopped for so long, on a busy machine,
// that they lost their lease.
func (f *fleet) lostLease(all []*process) (pids []int) {
	for _, p := range all {
		if strings.Contains(p.log.String(), "lease lost") {
			pids = append(pids, p.cmd.Process.Pid)
		}
	}
	return pids
}

// requireRepeatsAreOf checks that a run was only started again when the process
// that had it was one of these, each time with a delivery of its own, and
// returns how many there are.
func requireRepeatsAreOf(t *testing.T, events []event, pids []int) (repeats int) {
	t.Helper()
	last := make(map[string]event)
	for _, e := range events {
		if e.what != "START" {
			continue
		}
		if before, ok := last[e.id]; ok {
			repeats++
			require.Greater(t, e.delivery, before.delivery, "deliveries of run %s", e.id)
			require.Contains(t, pids, before.pid, "processes that lost run %s", e.id)
		}
		last[e.id] = e
	}
	return repeats
}

func TestAStoppedConsumerIsFenced(t *testing.T) {
	t.Parallel()
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
	require.Regexp(t, `stopping: waiting up to \d+s for \d+ running tasks? \(a second signal stops at once\)`, first.log.String())
	require.Contains(t, first.log.String(), "stopped executing tasks")
	f.serve(0, "--consume")
	f.drained(300, 20*time.Second)
	starts, _ = f.counts()
	require.Equal(t, 300, total(starts), "each run was started once")
}

// TestASecondSignalEndsAtOnceWhatWasStartedInTheBackground: a shell without job control
// starts background commands with SIGINT ignored.
func TestASecondSignalEndsAtOnceWhatWasStartedInTheBackground(t *testing.T) {
	f := newFleet(t)
	f.queue(1)
	p := &process{cmd: exec.Command("sh", "-c", `trap "" INT; exec "$0" "$@"`, os.Args[0], "serve", "--consume", "--broker", f.server.URL())}
	p.cmd.Env = append(os.Environ(), appEnv+"=1", app.LedgerEnv+"="+f.ledger, app.HoldEnv+"=1m")
	p.cmd.Stderr = &p.log
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) == 1 }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGINT))
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "stopping: waiting") }, 20*time.Second, 10*time.Millisecond)
	var exit *exec.ExitError
	require.ErrorAs(t, p.end(syscall.SIGINT), &exit)
	require.Equal(t, 128+int(syscall.SIGINT), exit.ExitCode())
}

func TestRedisKilledUnderLoadLosesNothingAcknowledged(t *testing.T) {
	f := newFleet(t, "--appendfsync", "always")
	f.serve(20*time.Millisecond, "--concurrency", "10", "--consume")
	f.queue(1)
	// A consumer that is not up yet ends for want of a server.
	require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) == 1 }, 20*time.Second, 10*time.Millisecond)
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
	t.Parallel() // it mostly waits
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
