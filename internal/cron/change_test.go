package cron_test

import (
	"math/bits"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/cron"
)

func TestClockChanges(t *testing.T) {
	for _, c := range []struct {
		zone string
		year int
		spec string
		want []string
	}{
		{"Europe/Berlin", 2026, "30 2 * * *", []string{
			"on 2026-03-29 02:30 does not exist: it runs at 03:00",
			"on 2026-10-25 02:30 comes twice: it runs the first time",
		}},
		{"Europe/Berlin", 2026, "*/15 2 * * *", []string{
			"on 2026-03-29 02:00, 02:15, 02:30 and 02:45 do not exist: they run once, at 03:00",
			"on 2026-10-25 02:00, 02:15, 02:30 and 02:45 come twice: they run the first time",
		}},
		{"Europe/Berlin", 2026, "* 2 * * *", []string{
			"on 2026-03-29 the 60 times from 02:00 to 02:59 do not exist: they run once, at 03:00",
			"on 2026-10-25 the 60 times from 02:00 to 02:59 come twice: they run the first time",
		}},
		{"Europe/Berlin", 2026, "*/30 * * * *", []string{
			"on 2026-03-29 02:00 and 02:30 do not exist: they do not run",
			"on 2026-10-25 02:00 and 02:30 come twice: they run both times",
		}},
		{"Europe/Berlin", 2026, "0 */2 * * *", []string{
			"on 2026-03-29 02:00 does not exist: it does not run",
			"on 2026-10-25 02:00 comes twice: it runs both times",
		}},
		{"Europe/Berlin", 2026, "0 3 * * *", nil},
		{"Europe/Berlin", 2026, "30 2 * * 1-5", nil}, // both are on Sundays
		{"Europe/Berlin", 2026, "30 2 * 10 *", []string{"on 2026-10-25 02:30 comes twice: it runs the first time"}},
		{"UTC", 2026, "* * * * *", nil},
		{"Asia/Kolkata", 2026, "* * * * *", nil},
		{"Australia/Lord_Howe", 2026, "0,15,30,45 1-2 * * *", []string{
			"on 2026-04-05 01:30 and 01:45 come twice: they run the first time",
			"on 2026-10-04 02:00 and 02:15 do not exist: they run once, at 02:30",
		}},
		{"America/Santiago", 2026, "0 0 * * *", []string{"on 2026-09-06 00:00 does not exist: it runs at 01:00"}},
		{"America/Santiago", 2026, "0 23 * * *", []string{"on 2026-04-04 23:00 comes twice: it runs the first time"}},
		{"Africa/Casablanca", 2026, "30 2 * * *", []string{
			"on 2026-02-15 02:30 comes twice: it runs the first time",
			"on 2026-03-22 02:30 does not exist: it runs at 03:00",
		}},
		{"Pacific/Apia", 2011, "0 9 * * *", []string{"on 2011-12-30 09:00 does not exist: it runs on 2011-12-31 at 00:00"}},
		{"Pacific/Apia", 2011, "0 * 30 12 *", []string{"on 2011-12-30 the 24 times from 00:00 to 23:00 do not exist: they do not run"}},
		// Toronto put its clock from 23:30 on 30 March to 00:30.
		{"America/Toronto", 1919, "45 23,0 * 3 *", []string{"on 1919-03-30 23:45 does not exist: it runs on 1919-03-31 at 00:30"}},
		{"America/Toronto", 1919, "15,45 23,0 * 3 *", []string{
			"on 1919-03-30 23:45 does not exist: it runs on 1919-03-31 at 00:30",
			"on 1919-03-31 00:15 does not exist: it runs at 00:30",
		}},
		{"Africa/Monrovia", 1972, "30 0 * * *", []string{"on 1972-01-07 00:30 does not exist: it runs at 00:44:30"}},
		// A year for which the zone's file has only a rule, and a leap year.
		{"America/New_York", 2040, "30 2 * * *", []string{"on 2040-03-11 02:30 does not exist: it runs at 03:00"}},
	} {
		var got []string
		for _, change := range parse(t, c.spec).ClockChanges(c.year, zone(t, c.zone)) {
			got = append(got, change.String())
		}
		require.Equal(t, c.want, got, "%q in %s, %d", c.spec, c.zone, c.year)
	}
	require.Empty(t, parse(t, "* * * * *").ClockChanges(2026, nil))
}

func TestTimesADay(t *testing.T) {
	for _, c := range []struct {
		zone            string
		year            int
		spec            string
		least, greatest int
	}{
		{"UTC", 2026, "*/15 * * * *", 96, 96},
		{"UTC", 2026, "0 0 13 * 5", 0, 1},
		{"UTC", 2026, "0 0 29 2 *", 0, 0},
		{"UTC", 2028, "0 0 29 2 *", 0, 1},
		{"Europe/Berlin", 2026, "0 * * * *", 23, 25},
		{"Europe/Berlin", 2026, "0 0-23 * * *", 23, 24}, // 02:00 runs at 03:00, as 03:00 does
		{"Europe/Berlin", 2026, "30 2 * * *", 1, 1},
		{"America/Santiago", 2026, "0 * * * *", 23, 25},
		{"Pacific/Apia", 2011, "0 0 * * *", 1, 1},
	} {
		least, greatest := parse(t, c.spec).TimesADay(c.year, zone(t, c.zone))
		require.Equal(t, [2]int{c.least, c.greatest}, [2]int{least, greatest}, "%q in %s, %d", c.spec, c.zone, c.year)
	}
	least, greatest := parse(t, "0 3 * * *").TimesADay(2026, nil)
	require.Equal(t, [2]int{1, 1}, [2]int{least, greatest})
}

func TestUpcoming(t *testing.T) {
	s := parse(t, "30 2 * * *")
	berlin := zone(t, "Europe/Berlin")
	after := instant(t, "2026-03-28T01:30:00Z")
	require.Equal(t, []time.Time{
		instant(t, "2026-03-29T03:00:00+02:00").In(berlin),
		instant(t, "2026-03-30T02:30:00+02:00").In(berlin),
	}, s.Upcoming(after, berlin, 2))
	require.Empty(t, s.Upcoming(after, berlin, 0))
	require.Len(t, s.Upcoming(time.Date(9999, 12, 29, 12, 0, 0, 0, time.UTC), nil, 5), 2)
}

// calendar is the minutes that a zone's clock shows in a year, found by reading the
// clock each minute. Minutes are counted as in shows.
type calendar struct {
	first, limit int64      // the year's minutes
	times        []int8     // how often the clock shows each of them: up to twice
	instants     [][2]int64 // at which it does
	left         []bool     // days that the zone left out
}

func newCalendar(year int, loc *time.Location) *calendar {
	first := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	limit := time.Date(year+1, 1, 1, 0, 0, 0, 0, time.UTC)
	c := &calendar{first: first.Unix() / 60, limit: limit.Unix() / 60}
	c.times = make([]int8, c.limit-c.first)
	c.instants = make([][2]int64, c.limit-c.first)
	for at := first.AddDate(0, 0, -2).Unix(); at < limit.AddDate(0, 0, 2).Unix(); at += 60 {
		if i := shows(at, loc) - c.first; i >= 0 && i < c.limit-c.first {
			c.instants[i][c.times[i]] = at
			c.times[i]++
		}
	}
	for day := range slices.Chunk(c.times, 24*60) {
		c.left = append(c.left, slices.Max(day) == 0)
	}
	return c
}

// around returns the stretches of time in which the clock skips or repeats
// minutes, with two days before and after.
func (c *calendar) around() [][2]time.Time {
	const days = 2 * 24 * time.Hour
	limit := time.Unix(c.limit*60, 0).Add(-14 * time.Hour) // before any zone's year ends
	var all [][2]time.Time
	for i, times := range c.times {
		at, last := time.Unix((c.first+int64(i))*60, 0), len(all)-1
		switch {
		case times == 1:
		case last >= 0 && at.Add(-days).Before(all[last][1]):
			all[last][1] = earlier(at.Add(days), limit)
		default:
			all = append(all, [2]time.Time{at.Add(-days), earlier(at.Add(days), limit)})
		}
	}
	return all
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// TestClockChangesTellWhatNextDoes makes all instants of a year from the
// calendar and the changes, and where the clock changes Next may find these and
// no others. The times a day are counted among them. The first expression, of
// every minute, is left out: it has more instants than all others together.
func TestClockChangesTellWhatNextDoes(t *testing.T) {
	years := map[string][]int{"Pacific/Apia": {2011}, "America/New_York": {2041}, "Europe/London": {1971}}
	for _, name := range oracleZones {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loc := zone(t, name)
			for _, year := range append(years[name], 2026) {
				c, crowd := newCalendar(year, loc), newCrowd(newOracles())
				fits := make([][]int64, len(oracleSpecs)) // minutes that fit the expression
				for wall := c.first; wall < c.limit; wall++ {
					for fit := crowd.read(wall) &^ 1; fit != 0; fit &= fit - 1 {
						i := bits.TrailingZeros64(fit)
						fits[i] = append(fits[i], wall)
					}
				}
				around := c.around()
				for i, spec := range oracleSpecs {
					if i == 0 {
						continue
					}
					s := parse(t, spec)
					want := c.predicted(t, s, fits[i], s.ClockChanges(year, loc))
					for _, w := range around {
						first, _ := slices.BinarySearch(want, w[0].Unix())
						limit, _ := slices.BinarySearch(want, w[1].Unix())
						compareNext(t, spec, loc, w, want[first:limit])
					}
					least, greatest := c.timesADay(want, loc)
					l, g := s.TimesADay(year, loc)
					require.Equal(t, [2]int{least, greatest}, [2]int{l, g}, "times a day of %q in %d", spec, year)
				}
			}
		})
	}
}

// predicted returns the instants of an expression in order: those at which the clock
// shows a matching minute, changed as ClockChanges says. Each minute that is shown
// never or twice must be among the changes, and no other.
func (c *calendar) predicted(t *testing.T, s *cron.Schedule, fits []int64, changes []cron.ClockChange) []int64 {
	t.Helper()
	odd := map[int64]cron.ClockChange{}
	for _, change := range changes {
		for _, text := range change.Times {
			at, err := time.Parse("2006-01-02 15:04", change.Date+" "+text)
			require.NoError(t, err)
			require.NotContains(t, odd, at.Unix()/60, "%q: %s", s, change)
			odd[at.Unix()/60] = change
		}
	}
	instants := make([]int64, 0, len(fits)+len(fits)/10)
	for _, wall := range fits {
		i := wall - c.first
		change, told := odd[wall]
		if told != (c.times[i] != 1) {
			require.Failf(t, "wrong minutes", "%q: the clock shows %s %d times; the changes are %v", s, time.Unix(wall*60, 0).UTC(), c.times[i], changes)
		}
		if told {
			require.Equal(t, change.Runs == cron.RunsFirst || change.Runs == cron.RunsBoth, c.times[i] == 2, "%q: %s", s, change)
			delete(odd, wall)
		}
		switch {
		case !told, change.Runs == cron.RunsFirst:
			instants = append(instants, c.instants[i][0])
		case change.Runs == cron.RunsAfter:
			instants = append(instants, change.At.Unix())
		case change.Runs == cron.RunsBoth:
			instants = append(instants, c.instants[i][:]...)
		}
	}
	require.Empty(t, odd, "%q: minutes that do not fit it", s)
	slices.Sort(instants)
	return slices.Compact(instants)
}

// timesADay counts instants by the day that the clock shows.
func (c *calendar) timesADay(instants []int64, loc *time.Location) (least, greatest int) {
	counts := make([]int, len(c.left))
	for _, at := range instants {
		counts[(shows(at, loc)-c.first)/(24*60)]++
	}
	least = 24 * 60 * 2
	for day, count := range counts {
		if !c.left[day] {
			least, greatest = min(least, count), max(greatest, count)
		}
	}
	return least, greatest
}
