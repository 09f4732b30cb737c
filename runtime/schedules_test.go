package runtime_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/codec"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// report is a task with a parameter, as the generator would write it, that
// notes its runs.
type report struct{ Customer string }

func reportTask(spec taskrt.Spec) *taskrt.Definition[report, taskrt.None] {
	if spec.Name == "" {
		spec.Name = "send_report"
	}
	return &taskrt.Definition[report, taskrt.None]{
		Spec:         spec,
		AppendParams: func(p *report, b []byte) ([]byte, error) { return codec.AppendString(b, p.Customer), nil },
		ReadParams:   func(p *report, r *codec.Reader) { p.Customer = r.String() },
	}
}

// bindReport binds the task to a function that notes each run's customer.
func bindReport(d *taskrt.Definition[report, taskrt.None], j *journal) []taskrt.Task {
	return []taskrt.Task{taskrt.Bind(d, func(ctx context.Context, p *report) (taskrt.None, error) {
		run, _ := taskrt.CurrentRun(ctx)
		j.add(run, p.Customer)
		return taskrt.None{}, nil
	})}
}

// said is the minute and note of each run from an instant on.
func said(j *journal, from time.Time) string {
	var list []string
	for _, e := range j.all() {
		if e.at.After(from) {
			list = append(list, e.at.UTC().Format("15:04:05")+" "+e.note)
		}
	}
	return strings.Join(list, ", ")
}

// at lets the bubble's clock go on until a time of its first day.
func at(clock string) time.Time {
	d, err := time.Parse("15:04:05", clock)
	if err != nil {
		panic(err)
	}
	to := time.Date(2000, 1, 1, d.Hour(), d.Minute(), d.Second(), 0, time.UTC)
	time.Sleep(time.Until(to))
	synctest.Wait()
	return to
}

func TestSchedulesAreMadeChangedAndEndedAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		d := reportTask(taskrt.Spec{})
		set := bindReport(d, &j)
		consume(t, b, taskrt.ConsumerConfig{Queues: map[string]int{"default": 1, "bulk": 1}}, set)
		for range 3 {
			schedule(t, b, set)
		}
		ctx := clientContext(t.Context(), b)
		put := func(spec, tz, customer string, opts ...taskrt.QueueOption) *taskrt.Scheduled {
			s, err := taskrt.Schedule(ctx, spec, tz, taskrt.NewCall(d, &report{customer}), opts...)
			require.NoError(t, err)
			return s
		}
		at("00:00:10")
		s := put("*/20 * * * *", "", "ada", taskrt.ID("report-1"))
		require.Equal(t, "report-1", s.ID)
		require.Equal(t, "00:20:00", s.Next.Format("15:04:05"))
		put("30 2 * * *", "Europe/Rome", "bob", taskrt.ID("report-2"))
		bulk := put("@every 24m", "", "eve", taskrt.OnQueue("bulk"), taskrt.Keep(time.Hour))
		require.Len(t, bulk.ID, 26)

		at("01:00:30")
		require.Equal(t, "00:20:00 ada, 00:24:00 eve, 00:40:00 ada, 00:48:00 eve, 01:00:00 ada", said(&j, time.Time{}))
		list, err := taskrt.Schedules(ctx)
		require.NoError(t, err)
		require.Len(t, list, 3)
		require.Equal(t, bulk.ID, list[0].ID)
		require.Equal(t, "bulk", list[0].Queue)
		one := list[1]
		require.Equal(t, []string{"report-1", "default", "send_report", "*/20 * * * *", ""}, []string{one.ID, one.Queue, one.Task, one.Spec, one.Zone})
		require.Equal(t, "00:00:10 01:00:00 01:20:00", one.Since.Format("15:04:05 ")+one.Last.Format("15:04:05 ")+one.Next.Format("15:04:05"))
		require.Equal(t, "Europe/Rome 02:30:00", list[2].Zone+list[2].Next.Format(" 15:04:05"))
		for _, e := range j.all() {
			if e.note == "ada" {
				require.Contains(t, e.run.ID, "schedule/report-1@2000-01-01T0")
			}
		}

		from := at("01:19:59")
		put("*/20 * * * *", "", "adam", taskrt.ID("report-1")) // noticed, with its tick, a moment later
		require.NoError(t, bulk.Unschedule(ctx))
		require.ErrorIs(t, bulk.Unschedule(ctx), taskrt.ErrNoSchedule)
		at("01:31:00")
		require.Equal(t, "01:20 adam, 01:30 bob", seconds(said(&j, from)))
		from = at("01:41:00")
		put("@every 3m", "", "carl", taskrt.ID("report-1"))
		at("01:47:00")
		require.Equal(t, "01:42:00 carl, 01:45:00 carl", said(&j, from))
		require.NoError(t, taskrt.Unschedule(ctx, "", "report-1"))
		require.NoError(t, taskrt.Unschedule(ctx, "", "report-2"))
		from = at("03:00:00")
		require.Equal(t, "", said(&j, from.Add(-time.Hour)))
		require.ErrorIs(t, taskrt.Unschedule(ctx, "", "report-1"), taskrt.ErrNoSchedule)
		list, err = taskrt.Schedules(ctx)
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

// seconds cuts the seconds off the times of what said returns.
func seconds(text string) string {
	parts := strings.Split(text, ", ")
	for i, p := range parts {
		parts[i] = p[:5] + p[8:]
	}
	return strings.Join(parts, ", ")
}

func TestSchedulesThatSayNoInstantsAreRefused(t *testing.T) {
	b := newMemory(t)
	ctx := clientContext(t.Context(), b)
	d := reportTask(taskrt.Spec{})
	for _, test := range []struct{ spec, tz, want string }{
		{"", "", "the schedule is empty"},
		{"0 0 31 2 *", "", "schedule task send_report: "},
		{"0 9 * *", "", "schedule task send_report: "},
		{"0 9 * * 1", "Europe/Atlantis", "unknown time zone Europe/Atlantis"},
		{"0 9 * * 1", "Local", "the time zone Local is another one on each machine"},
		{"@every soon", "", `"@every soon" is not "@every" and a duration`},
		{"@every 10ms", "", "the interval 10ms is shorter than 1s"},
		{"@every 1h", "Europe/Rome", "an interval has no time zone"},
		{strings.Repeat("0,", 600), "", "the schedule has 1200 bytes, at most 1024 are allowed"},
	} {
		_, err := taskrt.Schedule(ctx, test.spec, test.tz, taskrt.NewCall(d, &report{"x"}))
		require.ErrorContains(t, err, test.want, "spec %q in zone %q", test.spec, test.tz)
	}
	for want, opt := range map[string]taskrt.QueueOption{
		"the option At fits no schedule": taskrt.At(time.Now().Add(time.Hour)),
		"not printable ASCII":            taskrt.ID("a b"),
		"at most 160 are allowed":        taskrt.ID(strings.Repeat("x", 161)),
	} {
		_, err := taskrt.Schedule(ctx, "@daily", "", taskrt.NewCall(d, &report{"x"}), opt)
		require.ErrorContains(t, err, want)
	}
	_, err := taskrt.Schedule(clientContext(t.Context(), core{b}), "@daily", "", taskrt.NewCall(d, &report{"x"}))
	require.ErrorContains(t, err, "this broker keeps no schedules made at run time")
	_, err = taskrt.Schedule(t.Context(), "@daily", "", taskrt.NewCall(d, &report{"x"}))
	require.ErrorIs(t, err, taskrt.ErrNoClient)
	list, err := taskrt.Schedules(ctx)
	require.NoError(t, err)
	require.Empty(t, list, "nothing was stored")

	_, err = taskrt.Schedule(ctx, "@daily", "", taskrt.NewCall(d, &report{"x"}), taskrt.ID("mine"))
	require.NoError(t, err)
	_, err = taskrt.Schedule(ctx, "@daily", "", taskrt.NewCall(reportTask(taskrt.Spec{Name: "other"}), &report{"x"}), taskrt.ID("mine"))
	require.ErrorIs(t, err, taskrt.ErrDuplicate, "another task's id")
}

// TestSchedulesMadeAtRunTimeSurviveRestarts checks that each tick is queued once, missed
// ones by the task's rule, and that ticks of an unknown task are left to others.
func TestSchedulesMadeAtRunTimeSurviveRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		got := drain(t, b, "default")
		known := reportTask(taskrt.Spec{Schedule: taskrt.Timing{Missed: taskrt.MissedAll}})
		other := reportTask(taskrt.Spec{Name: "other"})
		ctx := clientContext(t.Context(), b)
		for i := range 20 {
			_, err := taskrt.Schedule(ctx, "@every 10m", "", taskrt.NewCall(known, &report{"x"}), taskrt.ID(fmt.Sprint("known-", i)))
			require.NoError(t, err)
		}
		_, err := taskrt.Schedule(ctx, "@every 10m", "", taskrt.NewCall(other, &report{"x"}), taskrt.ID("other"))
		require.NoError(t, err)
		set := bindReport(known, new(journal))
		for range 12 { // up for 25 minutes of every hour
			a, b := schedule(t, b, set), schedule(t, b, set)
			time.Sleep(25 * time.Minute)
			require.NoError(t, a())
			require.NoError(t, b())
			time.Sleep(35 * time.Minute)
		}
		ids := got()["send_report"]
		require.Len(t, ids, 20*(11*6+2), "every ten minutes up to the end of the last time up")
		slices.Sort(ids)
		require.Len(t, slices.Compact(ids), 20*(11*6+2), "each once")
		require.Empty(t, got()["other"])
		schedule(t, b, bindReport(other, new(journal)))
		require.Len(t, got()["other"], 1, "the latest missed one")
	})
}

// TestATickIsSkippedWhileAnEarlierRunLives holds //task:overlap skip over the
// embedded broker; TestOverlapsOnRedis does over Redis.
func TestATickIsSkippedWhileAnEarlierRunLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var j journal
		d := reportTask(taskrt.Spec{
			Schedule: taskrt.Timing{Every: time.Minute, SkipOverlap: true},
			Retry:    taskrt.RetryPolicy{Attempts: 2, Min: time.Minute, Max: time.Minute},
		})
		d.ReadParams = func(p *report, r *codec.Reader) { r.Skip() }
		set := []taskrt.Task{taskrt.Bind(d, func(ctx context.Context, _ *report) (taskrt.None, error) {
			run, _ := taskrt.CurrentRun(ctx)
			_, made, _ := strings.Cut(run.ID, "/")
			j.add(run, made)
			select {
			case <-time.After(150 * time.Second):
			case <-ctx.Done():
			}
			return taskrt.None{}, ctx.Err()
		})}
		consume(t, b, taskrt.ConsumerConfig{}, set)
		for range 2 {
			schedule(t, b, set)
		}
		_, err := taskrt.Schedule(clientContext(t.Context(), b), "@every 2m", "", taskrt.NewCall(d, &report{}), taskrt.ID("e"))
		require.NoError(t, err)
		at("00:10:30")
		var ticks, entries []string
		for _, e := range j.all() {
			if e.note == "" {
				ticks = append(ticks, e.run.ID)
			} else {
				entries = append(entries, e.run.ID)
			}
		}
		require.Equal(t, []string{"01:00", "04:00", "07:00", "10:00"}, instants(t, ticks))
		require.Equal(t, []string{"02:00", "06:00", "10:00"}, instants(t, entries), "a schedule overlaps with itself alone")
	})
}

func TestOverlapIsRefusedWhereItIsNotKept(t *testing.T) {
	d := reportTask(taskrt.Spec{Schedule: taskrt.Timing{Every: time.Minute, SkipOverlap: true}})
	_, err := taskrt.NewScheduler(core{newMemory(t)}, taskrt.SchedulerConfig{}, bindReport(d, new(journal)))
	require.ErrorContains(t, err, "task send_report has //task:overlap skip, which this broker does not keep")
}

// disabler is a broker that has a task disabled.
type disabler struct {
	*memory.Broker
	mu    sync.Mutex
	off   bool
	calls int
}

func (d *disabler) ask() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		d.calls++
		return fmt.Errorf("not now: %w", broker.ErrDisabled)
	}
	return nil
}

func (d *disabler) disable(off bool) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = off
	return d.calls
}

func (d *disabler) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	if err := d.ask(); err != nil {
		return err
	}
	return d.Broker.QueueTick(ctx, run, tick)
}

func (d *disabler) QueueScheduleTick(ctx context.Context, e *broker.Schedule, run *broker.TaskRun, tick time.Time) error {
	if err := d.ask(); err != nil {
		return err
	}
	return d.Broker.QueueScheduleTick(ctx, e, run, tick)
}

func TestTicksOfADisabledTaskCountAsMissed(t *testing.T) {
	for _, test := range []struct {
		missed taskrt.Missed
		want   int // of the ticks of an hour
	}{{taskrt.MissedLatest, 1}, {taskrt.MissedSkip, 0}, {taskrt.MissedAll, 30}} {
		synctest.Test(t, func(t *testing.T) {
			b := &disabler{Broker: newMemory(t)}
			got := drain(t, b.Broker, "default")
			d := reportTask(taskrt.Spec{Schedule: taskrt.Timing{Every: 2 * time.Minute, Missed: test.missed}})
			_, err := taskrt.Schedule(clientContext(t.Context(), b), "@every 2m", "", taskrt.NewCall(d, &report{}), taskrt.ID("e"))
			require.NoError(t, err)
			schedule(t, b, bindReport(d, new(journal)))
			at("00:05:30")
			require.Len(t, got()["send_report"], 4)
			b.disable(true)
			at("01:05:30")
			require.Len(t, got()["send_report"], 4)
			require.LessOrEqual(t, b.disable(false), 2*3600/5+2, "questions whether it is enabled")
			at("01:05:40")
			require.Len(t, got()["send_report"], 4+2*test.want, "after it was enabled, missed %d", test.missed)
			at("01:08:30")
			require.Len(t, got()["send_report"], 4+2*test.want+4)
		})
	}
}
