//go:build !windows

package runtime_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// commands returns how many commands clients have sent, those of scripts left
// out, and those that ask for these numbers.
func commands(t *testing.T, s *redistest.Server) map[string]int {
	t.Helper()
	reply, err := s.Do("INFO", "commandstats")
	require.NoError(t, err)
	n := map[string]int{}
	for line := range strings.Lines(fmt.Sprint(reply)) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		calls, _, _ := strings.Cut(rest, ",")
		n[name], err = strconv.Atoi(calls)
		require.NoError(t, err)
	}
	return n
}

// TestThousandsOfTicksAtOnce has them made at run time, of one interval, so that
// all are due in one second; two schedulers look after them. They are 2,000, or
// 10,000 with TASKGEN_SOAK.
func TestThousandsOfTicksAtOnce(t *testing.T) {
	t.Parallel()
	n, every := 2_000, "@every 5s"
	if os.Getenv("TASKGEN_SOAK") != "" {
		n, every = 10_000, "@every 20s"
	}
	server := redistest.Start(t)
	b := openRedis(t, server)
	d := reportTask(taskrt.Spec{})
	ctx, cancel := context.WithTimeout(clientContext(t.Context(), b), 2*time.Minute)
	t.Cleanup(cancel)
	put := make(chan error, 100)
	for i := range 100 {
		go func() {
			var err error
			for k := i; k < n && err == nil; k += 100 {
				_, err = taskrt.Schedule(ctx, every, "", taskrt.NewCall(d, &report{"x"}), taskrt.ID(fmt.Sprintf("entry-%05d", k)))
			}
			put <- err
		}()
	}
	for range 100 {
		require.NoError(t, <-put)
	}
	before := commands(t, server)
	set := bindReport(d, new(journal))
	for range 2 {
		schedule(t, b, set)
	}
	seen, of := map[string]bool{}, map[string]int{} // runs, and how many each instant has
	var first time.Time
	for full := false; !full; {
		runs, err := b.GetTaskRuns(ctx, []string{"default"}, 1000)
		require.NoError(t, err)
		for _, run := range runs {
			require.False(t, seen[run.ID], "%s twice", run.ID)
			seen[run.ID] = true
			_, instant, _ := strings.Cut(run.ID, "@")
			if of[instant]++; of[instant] == 1 {
				first = time.Now()
			}
			full = full || of[instant] == n // an earlier one may have come while they were made
		}
	}
	t.Logf("%d ticks were queued, the last %d within %v", len(seen), n, time.Since(first))
	after := commands(t, server)
	sent := after["evalsha"] + after["eval"] - before["evalsha"] - before["eval"]
	t.Logf("%d scripts were executed for them", sent)
	require.Less(t, sent, len(seen)/5, "ticks that are due at once share commands")
}

// unannounced is a Redis broker to which nothing announces itself.
type unannounced struct{ *redis.Broker }

func (unannounced) Announce(context.Context, *broker.Instance) error { return nil }
func (unannounced) Withdraw(context.Context, string) error           { return nil }

// TestAnIdleSchedulerAsksSeldom counts what a scheduler of 50 tasks with a
// schedule, and 50 made at run time, sends while none is due.
func TestAnIdleSchedulerAsksSeldom(t *testing.T) {
	t.Parallel() // it mostly waits
	server := redistest.Start(t)
	b := openRedis(t, server)
	d := reportTask(taskrt.Spec{})
	ctx := clientContext(t.Context(), b)
	set := bindReport(d, new(journal))
	for i := range 50 {
		_, err := taskrt.Schedule(ctx, "0 0 1 1 *", "", taskrt.NewCall(d, &report{"x"}), taskrt.ID(fmt.Sprint("entry-", i)))
		require.NoError(t, err)
		set = append(set, scheduled(fmt.Sprint("task-", i), taskrt.Timing{Cron: "0 0 1 1 *"}, new(journal)))
	}
	s, err := taskrt.NewScheduler(unannounced{b.(*redis.Broker)}, taskrt.SchedulerConfig{Logger: quiet}, set)
	require.NoError(t, err)
	start(t, s.Run)
	asked := func() int { return commands(t, server)["mget"] }
	require.Eventually(t, func() bool { return s.Status().Schedules == 100 && asked() >= 2 }, 20*time.Second, 10*time.Millisecond)
	before, from := commands(t, server), time.Now()
	require.Eventually(t, func() bool { return asked() >= before["mget"]+4 }, time.Minute, 10*time.Millisecond)
	after, passed := commands(t, server), time.Since(from)
	sent := 0
	for name, n := range after {
		if name != "info" {
			sent += n - before[name]
		}
	}
	t.Logf("%d commands in %v", sent, passed)
	require.LessOrEqual(t, float64(sent), passed.Seconds()+1, "commands: one a second at most")
}

// TestSchedulesGoOnWhoseTicksAreLost loses what is known of the ticks of two schedules,
// one of them made at run time, in a running scheduler and before another starts.
func TestSchedulesGoOnWhoseTicksAreLost(t *testing.T) {
	t.Parallel() // it mostly waits
	server := redistest.Start(t)
	b := openRedis(t, server)
	d := reportTask(taskrt.Spec{})
	ctx, cancel := context.WithTimeout(clientContext(t.Context(), b), time.Minute)
	t.Cleanup(cancel)
	_, err := taskrt.Schedule(ctx, "@every 1s", "", taskrt.NewCall(d, &report{"x"}), taskrt.ID("e"))
	require.NoError(t, err)
	set := append(bindReport(d, new(journal)), scheduled("beat", taskrt.Timing{Every: time.Second}, new(journal)))
	stop := schedule(t, b, set)
	schedule(t, b, set)
	seen := map[string]bool{}
	goOn := func(when string) {
		t.Helper()
		for made, own := 0, 0; made < 2 || own < 2; {
			runs, err := b.GetTaskRuns(ctx, []string{"default"}, 100)
			require.NoError(t, err, "%s: %d and %d ticks", when, made, own)
			for _, run := range runs {
				require.False(t, seen[run.ID], "%s: %s twice", when, run.ID)
				seen[run.ID] = true
				if run.Task == "beat" {
					own++
				} else {
					made++
				}
			}
		}
	}
	do := func(args ...string) {
		t.Helper()
		_, err := server.Do(args...)
		require.NoError(t, err, args)
	}
	goOn("at first")
	do("HDEL", "taskgen:{default}:ticks", "send_report e")
	goOn("without a field")
	do("HSET", "taskgen:{default}:ticks", "send_report e", "garbage", "beat", "garbage")
	goOn("with what is no tick")
	require.NoError(t, stop())
	do("SET", "taskgen:{default}:ticks", "garbage")
	schedule(t, b, set)
	goOn("with a key of another type")
}

// TestOverlapsOnRedis is TestATickIsSkippedWhileAnEarlierRunLives there.
func TestOverlapsOnRedis(t *testing.T) {
	t.Parallel() // it mostly waits
	b := openRedis(t, redistest.Start(t))
	d := reportTask(taskrt.Spec{Schedule: taskrt.Timing{Every: time.Second, SkipOverlap: true}})
	d.ReadParams = func(p *report, r *codec.Reader) { r.Skip() }
	started, release := make(chan string, 100), make(chan struct{})
	set := []taskrt.Task{taskrt.Bind(d, func(ctx context.Context, _ *report) (taskrt.None, error) {
		run, _ := taskrt.CurrentRun(ctx)
		started <- run.ID
		select {
		case <-release:
		case <-ctx.Done():
		}
		return taskrt.None{}, ctx.Err()
	})}
	consume(t, b, taskrt.ConsumerConfig{}, set)
	for range 3 {
		schedule(t, b, set)
	}
	first := <-started
	last := func() time.Time {
		at, err := b.(broker.Ticks).LastTick(t.Context(), "default", "send_report")
		require.NoError(t, err)
		return at
	}
	claimed := last()
	require.Eventually(t, func() bool { return last().Sub(claimed) >= 3*time.Second }, 30*time.Second, 10*time.Millisecond, "ticks are claimed meanwhile")
	require.Empty(t, started, "and left out")
	close(release)
	second := <-started
	require.NotEqual(t, first, second, "the first tick after the end runs")
}

// TestTicksWhileRedisIsDown has the server killed for the time of four ticks of
// two tasks: of one all are made up for, of the other the latest is, and the one
// that was being sent when the server came back.
func TestTicksWhileRedisIsDown(t *testing.T) {
	t.Parallel() // it mostly waits
	server := redistest.Start(t, "--appendfsync", "always")
	b := openRedis(t, server)
	var j journal
	set := []taskrt.Task{
		scheduled("all", taskrt.Timing{Every: time.Second, Missed: taskrt.MissedAll}, &j),
		scheduled("latest", taskrt.Timing{Every: time.Second}, &j),
	}
	consume(t, b, taskrt.ConsumerConfig{Lease: time.Second}, set)
	schedule(t, b, set) // one: each of several may be sending another tick
	ticks := func(task string) []time.Time {
		seen := map[string]bool{} // a run may repeat whose end could not be recorded
		var list []time.Time
		for _, e := range j.all() {
			if e.note == task && !seen[e.run.ID] {
				seen[e.run.ID] = true
				at, err := time.Parse(time.RFC3339, strings.TrimPrefix(e.run.ID, task+"@"))
				require.NoError(t, err)
				list = append(list, at)
			}
		}
		slices.SortFunc(list, time.Time.Compare)
		return list
	}
	more := func(n int) {
		t.Helper()
		before := min(len(ticks("all")), len(ticks("latest")))
		require.Eventually(t, func() bool { return min(len(ticks("all")), len(ticks("latest"))) >= before+n }, time.Minute, 10*time.Millisecond)
	}
	more(2)
	server.Kill9()
	down := time.Now()
	<-time.After(4300 * time.Millisecond)
	server.Restart()
	up := time.Now()
	more(3)
	all := ticks("all")
	for i := range all[1:] {
		require.Equal(t, time.Second, all[i+1].Sub(all[i]), "with all, none is missing: %v", all)
	}
	made := 0
	for _, at := range ticks("latest") {
		if at.After(down) && at.Before(down.Add(4300*time.Millisecond)) {
			made++
		}
	}
	require.LessOrEqual(t, made, 2, "with latest, not all are made up for: %v, down from %v to %v", ticks("latest"), down, up)
}
