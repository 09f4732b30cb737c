package runtime_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// instants returns when the runs with these ids were due, as minutes and
// seconds of their hour, in order.
func instants(t *testing.T, ids []string) []string {
	t.Helper()
	var at []string
	for _, id := range ids {
		_, text, _ := strings.Cut(id, "@")
		tick, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		at = append(at, tick.Format("04:05"))
	}
	slices.Sort(at)
	return at
}

// TestVersionsWithDifferentSchedules has two versions of a program up for a
// while, of which the new one has another schedule for the task, or none.
func TestVersionsWithDifferentSchedules(t *testing.T) {
	every := func(d time.Duration) taskrt.Timing { return taskrt.Timing{Every: d} }
	for _, test := range []struct {
		name     string
		old, new taskrt.Timing
		want     string // the ticks of half an hour: both are up from 9:30 to 19:30
	}{
		{"the same", every(4 * time.Minute), every(4 * time.Minute), "04 08 12 16 20 24 28"},
		{"more often", every(4 * time.Minute), every(2 * time.Minute), "04 08 10 12 14 16 18 20 22 24 26 28"},
		{"others", every(4 * time.Minute), taskrt.Timing{Cron: "*/5 * * * *"}, "04 08 10 12 15 16 20 25"},
		{"moved by jitter", every(4 * time.Minute), taskrt.Timing{Every: 4 * time.Minute, Jitter: time.Minute}, "04 08 12 16 20 24 28"},
		{"none any more", every(4 * time.Minute), taskrt.Timing{}, "04 08 12 16"},
		{"a first one", taskrt.Timing{}, every(4 * time.Minute), "12 16 20 24 28"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newMemory(t)
				got := drain(t, b, "default")
				stop := schedule(t, b, []taskrt.Task{scheduled("task", test.old, new(journal))})
				time.Sleep(9*time.Minute + 30*time.Second)
				schedule(t, b, []taskrt.Task{scheduled("task", test.new, new(journal))})
				time.Sleep(10 * time.Minute)
				require.NoError(t, stop())
				time.Sleep(10 * time.Minute)
				want := strings.Fields(strings.ReplaceAll(test.want+" ", " ", ":00 "))
				require.Equal(t, want, instants(t, got()["task"]))
			})
		})
	}
}

// TestAScheduleThatChangesGoesOnWhereTheOldOneEnded has no scheduler up between the two.
func TestAScheduleThatChangesGoesOnWhereTheOldOneEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		got := drain(t, b, "default")
		up := func(s taskrt.Timing, d time.Duration) {
			stop := schedule(t, b, []taskrt.Task{scheduled("task", s, new(journal))})
			time.Sleep(d)
			require.NoError(t, stop())
		}
		up(taskrt.Timing{Every: 10 * time.Minute}, 11*time.Minute)
		time.Sleep(10 * time.Minute)
		up(taskrt.Timing{Every: 4 * time.Minute, Missed: taskrt.MissedAll}, 2*time.Minute) // from 21 to 23
		up(taskrt.Timing{}, 10*time.Minute)                                                // to 33
		up(taskrt.Timing{Every: 10 * time.Minute}, time.Minute)                            // the schedule is back
		require.Equal(t, []string{"10:00", "12:00", "16:00", "20:00", "30:00"}, instants(t, got()["task"]))
	})
}

// TestAFirstTickThatIsMissedIsMadeUpFor has no scheduler up when a schedule's first tick
// passes.
func TestAFirstTickThatIsMissedIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		got := drain(t, b, "default")
		set := []taskrt.Task{scheduled("task", taskrt.Timing{Every: time.Hour}, new(journal))}
		stop := schedule(t, b, set)
		time.Sleep(59 * time.Minute)
		require.NoError(t, stop())
		time.Sleep(30 * time.Minute)
		schedule(t, b, set)
		require.Len(t, got()["task"], 1)
	})
}

// faulty is a broker whose QueueTick does something else first.
type faulty struct {
	*memory.Broker
	calls atomic.Int64
	mu    sync.Mutex
	first func(run *broker.TaskRun) error
}

func (f *faulty) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	f.calls.Add(1)
	f.mu.Lock()
	first := f.first
	f.mu.Unlock()
	if first != nil {
		if err := first(run); err != nil {
			return err
		}
	}
	return f.Broker.QueueTick(ctx, run, tick)
}

func (f *faulty) set(first func(run *broker.TaskRun) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first = first
}

// TestABrokenBrokerIsAskedAndComplainedOfSeldom covers twenty minutes of
// errors and of panics, after each of which the ticks go on.
func TestABrokenBrokerIsAskedAndComplainedOfSeldom(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*broker.TaskRun) error{
		"error": func(*broker.TaskRun) error { return errors.New("out of order") },
		"panic": func(*broker.TaskRun) error { panic("out of order") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &faulty{Broker: newMemory(t)}
				got := drain(t, b.Broker, "default")
				var set []taskrt.Task
				for i := range 50 {
					set = append(set, scheduled(string(rune('A'+i)), taskrt.Timing{Every: time.Minute}, new(journal)))
				}
				var log bytes.Buffer
				s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))}, set)
				require.NoError(t, err)
				require.Equal(t, taskrt.SchedulerStatus{Schedules: 50}, s.Status(), "before Run")
				stop := start(t, s.Run)
				time.Sleep(3*time.Minute + time.Second/2)
				require.Len(t, got(), 50)
				require.EqualValues(t, 150, b.calls.Load())
				require.Less(t, time.Since(s.Status().LastSuccess), 31*time.Second)

				b.set(fault)
				broken := time.Now()
				time.Sleep(20 * time.Minute)
				b.set(nil)
				require.Less(t, b.calls.Load(), int64(150+50*1200/2), "each is tried every few seconds")
				require.Less(t, s.Status().LastSuccess.Sub(broken), 31*time.Second, "the last success is before the fault")
				time.Sleep(time.Minute)
				require.Less(t, time.Since(s.Status().LastSuccess), 31*time.Second)
				require.Zero(t, s.Status().Restarts, "a panic of the broker ends no loop")
				require.NoError(t, stop())
				lines := strings.Count(log.String(), "\n")
				require.Positive(t, lines)
				require.LessOrEqual(t, lines, 40, "one line of log in half a minute")
				for task, ids := range got() {
					require.Len(t, ids, 5, "ticks of %s: three before, the latest missed one, one after", task)
				}
			})
		})
	}
}

// touchy is a log handler that panics at its first warning.
type touchy struct {
	slog.Handler
	warned *atomic.Bool
}

func (h touchy) Enabled(context.Context, slog.Level) bool { return true }

func (h touchy) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn && !h.warned.Swap(true) {
		panic("no more of this")
	}
	return nil
}

func TestALoopThatPanicsStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &faulty{Broker: newMemory(t)}
		got := drain(t, b.Broker, "default")
		b.set(func(run *broker.TaskRun) error {
			if run.Task == "bad" {
				return errors.New("out of order")
			}
			return nil
		})
		logger := slog.New(touchy{slog.DiscardHandler, new(atomic.Bool)})
		s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: logger}, []taskrt.Task{
			scheduled("bad", taskrt.Timing{Every: time.Minute}, new(journal)),
			scheduled("good", taskrt.Timing{Every: time.Minute}, new(journal)),
		})
		require.NoError(t, err)
		start(t, s.Run)
		time.Sleep(3*time.Minute + time.Second)
		require.Equal(t, 1, s.Status().Restarts)
		require.Equal(t, []string{"01:00", "02:00", "03:00"}, instants(t, got()["good"]))
	})
}

// TestAClockThatRanAheadRepeatsNothing has a scheduler two hours ahead claim a tick
// before its clock is put right.
func TestAClockThatRanAheadRepeatsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		got := drain(t, b, "default")
		set := []taskrt.Task{scheduled("task", taskrt.Timing{Every: 30 * time.Minute, Missed: taskrt.MissedAll}, new(journal))}
		schedule(t, b, set)
		at("01:10:00")
		require.Len(t, got()["task"], 2)
		ahead := at("01:10:00").Add(110 * time.Minute)
		require.NoError(t, b.QueueTick(t.Context(), &broker.TaskRun{ID: "task@" + ahead.Format(time.RFC3339), Task: "task", Queue: "default"}, ahead))
		schedule(t, b, set) // begins where that one was; the other finds out
		at("03:10:00")
		require.Len(t, got()["task"], 3, "none of what lies before the claimed tick, and it once")
		at("04:10:00")
		require.Equal(t, []string{"00:00", "00:00", "00:00", "30:00", "30:00"}, instants(t, got()["task"]))
	})
}
