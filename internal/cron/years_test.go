//go:build !race

// Each test here is a long computation that shares nothing; the race detector takes
// eight times as long for it and finds nothing.

package cron_test

import (
	"math/bits"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/cron"
)

// fiveYearZones are some of them that differ in how they change their clock.
var fiveYearZones = []string{
	"America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "Pacific/Apia",
}

// TestFiveYears compares Next with the oracle over every minute of 2026, or of 2022
// to 2026 with TASKGEN_SOAK; for the few expressions of more than 110,000 instants
// until there. The other years' changes of the clock are in TestAgainstOracle.
func TestFiveYears(t *testing.T) {
	require.GreaterOrEqual(t, len(oracleSpecs), 50)
	first := 2026
	if os.Getenv("TASKGEN_SOAK") != "" {
		first = 2022
	}
	years := [2]time.Time{time.Date(first, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, name := range fiveYearZones {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loc := zone(t, name)
			found := run(newOracles(), years[0], years[1], loc)
			for i, spec := range oracleSpecs {
				compareNext(t, spec, loc, years, found[i])
			}
		})
	}
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
