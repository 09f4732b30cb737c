package cron_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
