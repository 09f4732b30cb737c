package cron_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// oracle is the package's rule in its simplest form: it walks through time
// minute by minute, looks at the clock and at nothing else. It knows numbers
// only, no names.
type oracle struct {
	fields   [5][60]bool
	realTime bool
	either   bool
}

func newOracle(spec string) *oracle {
	o := &oracle{}
	words := strings.Fields(spec)
	for i, bounds := range [5][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}} {
		for elem := range strings.SplitSeq(words[i], ",") {
			span, step, _ := strings.Cut(elem, "/")
			lo, hi := bounds[0], bounds[1]
			if span != "*" {
				a, b, ranged := strings.Cut(span, "-")
				lo, _ = strconv.Atoi(a)
				hi = lo
				if ranged {
					hi, _ = strconv.Atoi(b)
				}
			}
			by, _ := strconv.Atoi(step)
			for v := lo; v <= hi; v += max(by, 1) {
				o.fields[i][v] = true
			}
		}
	}
	if o.fields[4][7] {
		o.fields[4][0] = true
	}
	o.realTime = words[1][0] == '*'
	o.either = words[2][0] != '*' && words[4][0] != '*'
	return o
}

// reading is what a clock shows, field by field.
type reading [5]int

func read(wall time.Time) reading {
	return reading{wall.Minute(), wall.Hour(), wall.Day(), int(wall.Month()), int(wall.Weekday())}
}

func (o *oracle) fits(r reading) bool {
	if !o.fields[0][r[0]] || !o.fields[1][r[1]] || !o.fields[3][r[3]] {
		return false
	}
	day, weekday := o.fields[2][r[2]], o.fields[4][r[4]]
	if o.either {
		return day || weekday
	}
	return day && weekday
}

// run returns the instants of each of the oracles from start up to end, which
// are whole minutes.
func run(oracles []*oracle, start, end time.Time, loc *time.Location) [][]int64 {
	found := make([][]int64, len(oracles))
	furthest := asUTC(start.AddDate(0, 0, -2).In(loc)) // that the clock has shown so far
	for at := start.AddDate(0, 0, -2); at.Before(end); at = at.Add(time.Minute) {
		wall := asUTC(at.In(loc))
		var reached []reading // now, for the first time
		for ; furthest.Before(wall); reached = append(reached, read(furthest)) {
			furthest = furthest.Add(time.Minute)
		}
		if at.Before(start) {
			continue
		}
		shown := []reading{read(wall)}
		for i, o := range oracles {
			readings := reached
			if o.realTime {
				readings = shown
			}
			if slices.ContainsFunc(readings, o.fits) {
				found[i] = append(found[i], at.Unix())
			}
		}
	}
	return found
}

// asUTC returns the instant at which a clock in UTC shows what local does.
func asUTC(local time.Time) time.Time {
	return time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), 0, 0, time.UTC)
}

var oracleZones = []string{
	"UTC", "America/New_York", "America/Chicago", "Europe/London", "Australia/Lord_Howe", "America/Santiago",
	"Africa/Casablanca", "Pacific/Apia", "Antarctica/Troll", "Asia/Beirut", "Asia/Kathmandu", "America/Havana",
}

var oracleSpecs = []string{
	"* * * * *", "*/5 * * * *", "*/7 * * * *", "*/30 * * * *", "15,45 * * * *", "0 * * * *", "59 * * * *",
	"0-10/3 * * * *", "*/45 * * * 1-5", "17 * 1,15 * *",
	"0 */2 * * *", "30 */3 * * *", "*/20 */4 * * *", "0 */24 * * *", "5 */6 * * 0", "0 */5 */2 * *",
	"0 * 30 12 *", "30 * 31 * 5", "0 *,5 * * *",
	"0 0 * * *", "30 0 * * *", "0 1 * * *", "30 1 * * *", "45 1 * * *", "0 2 * * *", "15 2 * * *", "30 2 * * *",
	"59 2 * * *", "0 3 * * *", "30 23 * * *", "59 23 * * *",
	"* 1 * * *", "* 2 * * *", "*/15 1,2 * * *", "*/20 0-3 * * *", "0 0-23 * * *", "*/30 0-23/2 * * *",
	"15,30,45 2 * * *", "0 0,12 * * *", "7 23,0 * * *", "0 9-17 * * 1-5",
	"0 2 * * 0", "30 1 * * 7", "0 0 1 * *", "30 2 31 * *", "0 0 13 * 5", "0 1 1-7 * 0", "0 1 * * 0,6",
	"0 0 */2 * 1", "0 0 1-7 * */2", "0 9 30 12 *", "0 12 29 2 *", "30 2 10 3 *", "0 0 8 9 *", "1 0 * 3,4,9,10 *",
	"0 0 1 1 *",
}

// TestAgainstOracle compares Next and Prev with the oracle, in the days around
// each change of the clock from 2023 to 2025, at Samoa's jump of 2011, and in
// years that zone files do not list but give a rule for. With
// CRON_ORACLE=full it goes through every minute of 2022 to 2026 instead.
func TestAgainstOracle(t *testing.T) {
	oracles := make([]*oracle, len(oracleSpecs))
	for i, spec := range oracleSpecs {
		oracles[i] = newOracle(spec)
	}
	for _, name := range oracleZones {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loc := zone(t, name)
			for _, w := range windows(loc) {
				found := run(oracles, w[0], w[1], loc)
				for i, spec := range oracleSpecs {
					compare(t, spec, loc, w, found[i])
				}
			}
		})
	}
}

// windows returns the stretches of time to be compared.
func windows(loc *time.Location) [][2]time.Time {
	day := func(year int, month time.Month, day int) time.Time {
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	}
	if os.Getenv("CRON_ORACLE") == "full" {
		return [][2]time.Time{{day(2022, 1, 1), day(2027, 1, 1)}}
	}
	all := [][2]time.Time{
		{day(2011, 12, 28), day(2012, 1, 2)},
		{day(2024, 2, 27), day(2024, 3, 3)},
		{day(2040, 12, 29), day(2041, 1, 3)},
	}
	for _, years := range [][2]int{{2023, 2026}, {2041, 2042}} {
		for at := day(years[0], 1, 1); at.Year() < years[1]; at = at.AddDate(0, 0, 1) {
			_, before := at.In(loc).Zone()
			_, after := at.AddDate(0, 0, 1).In(loc).Zone()
			if before != after {
				all = append(all, [2]time.Time{at.AddDate(0, 0, -1), at.AddDate(0, 0, 2)})
			}
		}
	}
	return all
}

// compare walks through window with Next and back with Prev; want is what the
// oracle found there.
func compare(t *testing.T, spec string, loc *time.Location, window [2]time.Time, want []int64) {
	t.Helper()
	s := parse(t, spec)
	got := []int64{}
	for at, ok := window[0].Add(-1), true; ok; {
		if at, ok = s.Next(at, loc); !ok || !at.Before(window[1]) {
			break
		}
		got = append(got, at.Unix())
	}
	requireSame(t, want, got, "Next of %q in %v", spec, window)

	got = got[:0]
	for at, ok := window[1].Add(-1), true; ok; {
		if at, ok = s.Prev(at, loc); !ok || at.Before(window[0]) {
			break
		}
		got = append(got, at.Unix())
		at = at.Add(-1)
	}
	slices.Reverse(got)
	requireSame(t, want, got, "Prev of %q in %v", spec, window)

	// Starting in between makes no difference.
	i := 0
	for at := window[0]; at.Before(window[1]) && len(want) > 0; at = at.Add(73*time.Minute + 17*time.Second) {
		for i < len(want) && want[i] <= at.Unix() {
			i++
		}
		if i < len(want) {
			if next, _ := s.Next(at, loc); next.Unix() != want[i] {
				require.Equal(t, time.Unix(want[i], 0).UTC(), next.UTC(), "Next of %q after %v", spec, at)
			}
		}
		if i > 0 {
			if prev, _ := s.Prev(at, loc); prev.Unix() != want[i-1] {
				require.Equal(t, time.Unix(want[i-1], 0).UTC(), prev.UTC(), "Prev of %q at %v", spec, at)
			}
		}
	}
}

// requireSame reports the first difference only.
func requireSame(t *testing.T, want, got []int64, format string, args ...any) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			require.Equal(t, time.Unix(want[i], 0).UTC(), time.Unix(got[i], 0).UTC(), append([]any{format}, args...)...)
		}
	}
	require.Equal(t, len(want), len(got), append([]any{format}, args...)...)
}
