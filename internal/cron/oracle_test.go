package cron_test

import (
	"math/bits"
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
			if elem == "L" {
				o.fields[i][lastDay] = true
				continue
			}
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

// lastDay is the value L of the third field.
const lastDay = 40

// crowd asks many oracles at once, or five years of minutes would take minutes.
// For each field and value it has the set of the oracles that hold it.
type crowd struct {
	fields           [5][60]uint64
	realTime, either uint64

	day   int64 // the one that onDay is for, counted from the epoch
	onDay uint64
}

func newCrowd(oracles []*oracle) *crowd {
	c := &crowd{day: -1 << 62}
	for i, o := range oracles {
		bit := uint64(1) << i
		for field, values := range o.fields {
			for v, held := range values {
				if held {
					c.fields[field][v] |= bit
				}
			}
		}
		if o.realTime {
			c.realTime |= bit
		}
		if o.either {
			c.either |= bit
		}
	}
	return c
}

// read returns the oracles that a reading of the clock fits, in minutes.
func (c *crowd) read(wall int64) uint64 {
	day, clock := wall/(24*60), wall%(24*60)
	if day != c.day {
		c.day, c.onDay = day, c.date(day)
	}
	return c.onDay & c.fields[0][clock%60] & c.fields[1][clock/60]
}

// date returns the oracles that a day fits.
func (c *crowd) date(day int64) uint64 {
	at := time.Unix(day*86400, 0).UTC()
	monthDay, weekday := c.fields[2][at.Day()], c.fields[4][at.Weekday()]
	if at.AddDate(0, 0, 1).Day() == 1 {
		monthDay |= c.fields[2][lastDay]
	}
	return c.fields[3][at.Month()] & (monthDay&weekday | c.either&(monthDay|weekday))
}

// most is how many instants of one expression are compared in one stretch: more
// than a year of every five minutes, less than a year of every minute.
const most = 110_000

// run returns the first instants of each of the oracles, which are at most 64,
// from start up to end, which are whole minutes.
func run(oracles []*oracle, start, end time.Time, loc *time.Location) [][]int64 {
	c := newCrowd(oracles)
	found := make([][]int64, len(oracles))
	begin := start.AddDate(0, 0, -2).Unix()
	furthest := shows(begin, loc) // that the clock has shown so far
	for at := begin; at < end.Unix(); at += 60 {
		wall := shows(at, loc)
		fit := c.read(wall) & c.realTime
		for ; furthest < wall; furthest++ {
			fit |= c.read(furthest+1) &^ c.realTime
		}
		if at < start.Unix() {
			continue
		}
		for ; fit != 0; fit &= fit - 1 {
			if i := bits.TrailingZeros64(fit); len(found[i]) < most {
				found[i] = append(found[i], at)
			}
		}
	}
	return found
}

// shows returns the clock's time at an instant after 1970, in minutes since its own
// epoch.
func shows(at int64, loc *time.Location) int64 {
	_, offset := time.Unix(at, 0).In(loc).Zone()
	return (at + int64(offset)) / 60
}

var oracleZones = []string{
	"UTC", "America/New_York", "America/Chicago", "Europe/London", "Australia/Lord_Howe", "America/Santiago",
	"Africa/Casablanca", "Pacific/Apia", "Antarctica/Troll", "Asia/Beirut", "Asia/Kathmandu", "America/Havana",
	"Europe/Berlin",
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
	"0 2 * * 0", "30 1 * * 7", "0 0 1 * *", "30 2 31 * *", "30 2 L * *", "0 * L * *", "0 0 15,L 2,4 *", "15 1 L * 5", "0 0 *,L * 5", "0 0 13 * 5", "0 1 1-7 * 0", "0 1 * * 0,6",
	"0 0 */2 * 1", "0 0 1-7 * */2", "0 9 30 12 *", "0 12 29 2 *", "30 2 10 3 *", "0 0 8 9 *", "1 0 * 3,4,9,10 *",
	"0 0 1 1 *",
}

// TestAgainstOracle compares Next and Prev with the oracle, also from instants
// in between, in the days around each change of the clock from 2023 to 2025, at
// Samoa's jump of 2011, and in years that zone files do not list but give a rule
// for.
func TestAgainstOracle(t *testing.T) {
	for _, name := range oracleZones {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			loc := zone(t, name)
			for _, w := range windows(loc) {
				found := run(newOracles(), w[0], w[1], loc)
				for i, spec := range oracleSpecs {
					compareNext(t, spec, loc, w, found[i])
					comparePrev(t, spec, loc, w, found[i])
					compareBetween(t, spec, loc, w, found[i])
				}
			}
		})
	}
}

func newOracles() []*oracle {
	oracles := make([]*oracle, len(oracleSpecs))
	for i, spec := range oracleSpecs {
		oracles[i] = newOracle(spec)
	}
	return oracles
}

// windows returns the stretches of time to be compared.
func windows(loc *time.Location) [][2]time.Time {
	day := func(year int, month time.Month, day int) time.Time {
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
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

// compareNext walks through window with Next. Want is the oracle's result.
func compareNext(t *testing.T, spec string, loc *time.Location, window [2]time.Time, want []int64) {
	t.Helper()
	s := parse(t, spec)
	got := make([]int64, 0, len(want))
	for at, ok := window[0].Add(-1), true; ok && len(got) < most; {
		if at, ok = s.Next(at, loc); !ok || !at.Before(window[1]) {
			break
		}
		got = append(got, at.Unix())
	}
	requireSame(t, want, got, "Next of %q in %v", spec, window)
}

// comparePrev walks back with Prev.
func comparePrev(t *testing.T, spec string, loc *time.Location, window [2]time.Time, want []int64) {
	t.Helper()
	s := parse(t, spec)
	got := make([]int64, 0, len(want))
	for at, ok := window[1].Add(-1), true; ok; {
		if at, ok = s.Prev(at, loc); !ok || at.Before(window[0]) {
			break
		}
		got = append(got, at.Unix())
		at = at.Add(-1)
	}
	slices.Reverse(got)
	requireSame(t, want, got, "Prev of %q in %v", spec, window)
}

// compareBetween starts at instants in between, which makes no difference.
func compareBetween(t *testing.T, spec string, loc *time.Location, window [2]time.Time, want []int64) {
	t.Helper()
	s := parse(t, spec)
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
