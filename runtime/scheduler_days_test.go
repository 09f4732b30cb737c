package runtime_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/cron"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestDaysOfFiftySchedules runs through the change to summer time in Europe and
// America, and the change back on Lord Howe Island, with three schedulers that
// stop and start, and with five hours without any of them while Europe puts its
// clocks forward: for 11 days, or 30 with TASKGEN_SOAK.
func TestDaysOfFiftySchedules(t *testing.T) {
	t.Parallel()
	first, days := time.Date(2000, 3, 23, 0, 58, 30, 5e8, time.UTC), 11
	if os.Getenv("TASKGEN_SOAK") != "" {
		first, days = time.Date(2000, 3, 10, 0, 58, 30, 5e8, time.UTC), 30
	}
	synctest.Test(t, func(t *testing.T) {
		var (
			begin = first
			down  = time.Date(2000, 3, 25, 21, 58, 30, 5e8, time.UTC)
			up    = down.Add(5 * time.Hour)
			end   = begin.AddDate(0, 0, days)
		)
		b := newMemory(t)
		// Without schedules made at run time, of which each scheduler asks every
		// two seconds: a month has many of these.
		ticks := struct {
			broker.Broker
			broker.Ticks
		}{b, b}
		schedules := fiftySchedules()
		var set []taskrt.Task
		for name, s := range schedules {
			set = append(set, scheduled(name, s, new(journal)))
		}
		until := func(at time.Time) { time.Sleep(time.Until(at)) }
		got := drain(t, b, "default")
		until(begin)
		// Each of the three is down for ten minutes every few hours; at the end
		// of a stretch all stop.
		stretch := func(to time.Time) {
			var stops []func() error
			for range 3 {
				stops = append(stops, schedule(t, ticks, set))
			}
			for i := 0; time.Until(to) > 4*time.Hour; i++ {
				time.Sleep(3 * time.Hour)
				require.NoError(t, stops[i%3]())
				time.Sleep(10 * time.Minute)
				stops[i%3] = schedule(t, ticks, set)
			}
			until(to)
			for _, stop := range stops {
				require.NoError(t, stop())
			}
		}
		stretch(down)
		until(up)
		stretch(end)

		runs := got()
		total := 0
		for name, s := range schedules {
			var want []string
			for _, tick := range slices.Concat(ticksOf(t, s, begin, down), made(s, ticksOf(t, s, down, up), up), ticksOf(t, s, up, end)) {
				want = append(want, name+"@"+tick.UTC().Format(time.RFC3339))
			}
			require.Equal(t, want, runs[name], "the runs of %s, %+v", name, s)
			total += len(want)
		}
		require.Len(t, slices.Collect(maps.Keys(runs)), 50)
		t.Logf("%d ticks", total)
		require.Greater(t, total, days*2_000)
	})
}

// fiftySchedules is intervals and expressions in several zones, with each rule
// for missed ticks. Jitter is short enough for all ticks of a stretch to be
// queued within it.
func fiftySchedules() map[string]taskrt.Timing {
	all := map[string]taskrt.Timing{}
	add := func(s taskrt.Timing) {
		s.Missed = []taskrt.Missed{taskrt.MissedLatest, taskrt.MissedSkip, taskrt.MissedAll}[len(all)%3]
		all[fmt.Sprintf("task%02d", len(all))] = s
	}
	for _, every := range []time.Duration{
		4 * time.Minute, 375 * time.Second, 9 * time.Minute, 8 * time.Minute, 7 * time.Minute, 10 * time.Minute,
		15 * time.Minute, 45 * time.Minute, time.Hour, 90 * time.Minute, 5 * time.Hour, 24 * time.Hour, 36 * time.Hour, 7 * 24 * time.Hour,
	} {
		add(taskrt.Timing{Every: every})
	}
	for _, every := range []time.Duration{12 * time.Minute, 5 * time.Minute, 6 * time.Minute, 30 * time.Minute, 2 * time.Hour, 12 * time.Hour} {
		add(taskrt.Timing{Every: every, Jitter: 30 * time.Second})
	}
	for _, zone := range []string{"", "America/New_York", "Europe/Rome", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"} {
		for _, spec := range []string{"30 2 * * *", "*/20 * * * *", "0 0 13 * 5", "15 1,2,3 * * sun", "0 */6 * * *"} {
			add(taskrt.Timing{Cron: spec, Zone: zone})
		}
	}
	return all
}

// ticksOf returns the instants of a schedule after one instant and up to
// another, one after the other.
func ticksOf(t *testing.T, s taskrt.Timing, from, to time.Time) []time.Time {
	var ticks []time.Time
	if s.Every > 0 {
		every := int64(s.Every)
		for at := (from.UnixNano()/every + 1) * every; at <= to.UnixNano(); at += every {
			ticks = append(ticks, time.Unix(0, at))
		}
		return ticks
	}
	expression, err := cron.Parse(s.Cron)
	require.NoError(t, err)
	zone, err := time.LoadLocation(s.Zone)
	require.NoError(t, err)
	for at, ok := expression.Next(from, zone); ok && !at.After(to); at, ok = expression.Next(at, zone) {
		ticks = append(ticks, at)
	}
	return ticks
}

// made returns those of missed ticks that are made up for.
func made(s taskrt.Timing, missed []time.Time, now time.Time) []time.Time {
	n := len(missed)
	switch {
	case n == 0:
		return nil
	case s.Missed == taskrt.MissedAll:
		return missed[max(0, n-100):]
	case s.Missed == taskrt.MissedSkip && now.Sub(missed[n-1]) > time.Minute:
		return nil
	}
	return missed[n-1:]
}

// drain takes the runs of a queue and returns what tells the ids of all so far,
// by task.
func drain(t *testing.T, b *memory.Broker, queue string) func() map[string][]string {
	ids := map[string][]string{}
	start(t, func(ctx context.Context) error {
		for {
			runs, err := b.GetTaskRuns(ctx, []string{queue}, 1000)
			if err != nil {
				return nil
			}
			for _, run := range runs {
				ids[run.Task] = append(ids[run.Task], run.ID)
			}
		}
	})
	return func() map[string][]string {
		synctest.Wait()
		return maps.Clone(ids)
	}
}
