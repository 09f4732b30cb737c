package cron_test

import (
	"testing"
	"time"
	_ "time/tzdata" // for machines without zone files

	"github.com/stretchr/testify/require"
)

// Instants written out by hand, from the dates on which the clocks changed.
func TestNextAndPrev(t *testing.T) {
	for _, c := range []struct {
		zone, spec string
		after      string
		want       []string
	}{
		// New York puts its clock from 02:00 to 03:00 on 10 March 2024, and from
		// 02:00 back to 01:00 on 3 November.
		{"America/New_York", "30 2 * * *", "2024-03-09T03:00:00-05:00", []string{"2024-03-10T03:00:00-04:00", "2024-03-11T02:30:00-04:00"}},
		{"America/New_York", "15,30,45 2 * * *", "2024-03-09T03:00:00-05:00", []string{"2024-03-10T03:00:00-04:00", "2024-03-11T02:15:00-04:00", "2024-03-11T02:30:00-04:00"}},
		{"America/New_York", "*/30 2-3 * * *", "2024-03-10T00:00:00-05:00", []string{"2024-03-10T03:00:00-04:00", "2024-03-10T03:30:00-04:00", "2024-03-11T02:00:00-04:00"}},
		{"America/New_York", "0 2 * * *", "2024-03-10T00:00:00-05:00", []string{"2024-03-10T03:00:00-04:00", "2024-03-11T02:00:00-04:00"}},
		{"America/New_York", "0 * * * *", "2024-03-10T00:30:00-05:00", []string{"2024-03-10T01:00:00-05:00", "2024-03-10T03:00:00-04:00", "2024-03-10T04:00:00-04:00"}},
		{"America/New_York", "*/30 * * * *", "2024-03-10T01:00:00-05:00", []string{"2024-03-10T01:30:00-05:00", "2024-03-10T03:00:00-04:00"}},
		{"America/New_York", "0 */2 * * *", "2024-03-10T00:00:00-05:00", []string{"2024-03-10T04:00:00-04:00", "2024-03-10T06:00:00-04:00"}},
		{"America/New_York", "0 0-23 * * *", "2024-03-10T00:30:00-05:00", []string{"2024-03-10T01:00:00-05:00", "2024-03-10T03:00:00-04:00", "2024-03-10T04:00:00-04:00"}},
		{"America/New_York", "30 1 * * *", "2024-11-02T12:00:00-04:00", []string{"2024-11-03T01:30:00-04:00", "2024-11-04T01:30:00-05:00"}},
		{"America/New_York", "*/20 1 * * *", "2024-11-03T00:30:00-04:00", []string{"2024-11-03T01:00:00-04:00", "2024-11-03T01:20:00-04:00", "2024-11-03T01:40:00-04:00", "2024-11-04T01:00:00-05:00"}},
		{"America/New_York", "*/30 * * * *", "2024-11-03T00:30:00-04:00", []string{"2024-11-03T01:00:00-04:00", "2024-11-03T01:30:00-04:00", "2024-11-03T01:00:00-05:00", "2024-11-03T01:30:00-05:00", "2024-11-03T02:00:00-05:00"}},
		{"America/New_York", "0 0-23 * * *", "2024-11-03T00:30:00-04:00", []string{"2024-11-03T01:00:00-04:00", "2024-11-03T02:00:00-05:00"}},

		// The last day of a leap year for which the zone's file has only a rule.
		{"America/New_York", "0 3 * * *", "2040-12-30T12:00:00-05:00", []string{"2040-12-31T03:00:00-05:00", "2041-01-01T03:00:00-05:00"}},
		{"America/New_York", "0 */12 * * *", "2040-12-30T12:00:00-05:00", []string{"2040-12-31T00:00:00-05:00", "2040-12-31T12:00:00-05:00", "2041-01-01T00:00:00-05:00"}},

		{"America/Chicago", "0 2 * * 0", "2025-03-08T00:00:00-06:00", []string{"2025-03-09T03:00:00-05:00", "2025-03-16T02:00:00-05:00"}},
		{"America/Chicago", "59 1 2 11 *", "2025-01-01T00:00:00-06:00", []string{"2025-11-02T01:59:00-05:00", "2026-11-02T01:59:00-06:00"}},

		{"Europe/London", "30 1 * * *", "2024-03-30T12:00:00Z", []string{"2024-03-31T02:00:00+01:00", "2024-04-01T01:30:00+01:00"}},
		{"Europe/London", "30 1 * * *", "2024-10-26T12:00:00+01:00", []string{"2024-10-27T01:30:00+01:00", "2024-10-28T01:30:00Z"}},
		// From 1968 to 1971 the clock stood at +01:00 all year.
		{"Europe/London", "@monthly", "1970-01-15T00:00:00Z", []string{"1970-02-01T00:00:00+01:00", "1970-03-01T00:00:00+01:00"}},

		// Lord Howe moves its clock by half an hour: 02:00 to 01:30 on 7 April,
		// 02:00 to 02:30 on 6 October.
		{"Australia/Lord_Howe", "*/30 * * * *", "2024-04-07T00:30:00+11:00", []string{"2024-04-07T01:00:00+11:00", "2024-04-07T01:30:00+11:00", "2024-04-07T01:30:00+10:30", "2024-04-07T02:00:00+10:30"}},
		{"Australia/Lord_Howe", "0 * * * *", "2024-04-07T00:30:00+11:00", []string{"2024-04-07T01:00:00+11:00", "2024-04-07T02:00:00+10:30"}},
		{"Australia/Lord_Howe", "45 1 * * *", "2024-04-06T12:00:00+11:00", []string{"2024-04-07T01:45:00+11:00", "2024-04-08T01:45:00+10:30"}},
		{"Australia/Lord_Howe", "15 2 * * *", "2024-10-05T12:00:00+10:30", []string{"2024-10-06T02:30:00+11:00", "2024-10-07T02:15:00+11:00"}},
		{"Australia/Lord_Howe", "*/30 * * * *", "2024-10-06T01:00:00+10:30", []string{"2024-10-06T01:30:00+10:30", "2024-10-06T02:30:00+11:00", "2024-10-06T03:00:00+11:00"}},
		{"Australia/Lord_Howe", "0 * * * *", "2024-10-06T01:00:00+10:30", []string{"2024-10-06T03:00:00+11:00"}},

		// Santiago: 24:00 back to 23:00 on 6 April, 00:00 to 01:00 on 8 September.
		{"America/Santiago", "0 0 * * *", "2024-09-07T00:00:00-04:00", []string{"2024-09-08T01:00:00-03:00", "2024-09-09T00:00:00-03:00"}},
		{"America/Santiago", "0 0 8 9 *", "2024-01-01T00:00:00-03:00", []string{"2024-09-08T01:00:00-03:00", "2025-09-08T00:00:00-03:00"}},
		{"America/Santiago", "0 */24 * * *", "2024-09-07T00:00:00-04:00", []string{"2024-09-09T00:00:00-03:00"}},
		{"America/Santiago", "0 0 * * *", "2024-04-06T00:00:00-03:00", []string{"2024-04-07T00:00:00-04:00", "2024-04-08T00:00:00-04:00"}},
		{"America/Santiago", "30 23 * * *", "2024-04-06T12:00:00-03:00", []string{"2024-04-06T23:30:00-03:00", "2024-04-07T23:30:00-04:00"}},
		{"America/Santiago", "0 * * * *", "2024-04-06T22:00:00-03:00", []string{"2024-04-06T23:00:00-03:00", "2024-04-06T23:00:00-04:00", "2024-04-07T00:00:00-04:00"}},

		// Casablanca goes back for Ramadan, 10 March to 14 April 2024.
		{"Africa/Casablanca", "30 2 * * *", "2024-03-09T12:00:00+01:00", []string{"2024-03-10T02:30:00+01:00", "2024-03-11T02:30:00Z"}},
		{"Africa/Casablanca", "*/30 * * * *", "2024-03-10T02:00:00+01:00", []string{"2024-03-10T02:30:00+01:00", "2024-03-10T02:00:00Z", "2024-03-10T02:30:00Z", "2024-03-10T03:00:00Z"}},
		{"Africa/Casablanca", "30 2 * * *", "2024-04-13T12:00:00Z", []string{"2024-04-14T03:00:00+01:00", "2024-04-15T02:30:00+01:00"}},

		// Samoa had no 30 December 2011, a Friday.
		{"Pacific/Apia", "0 9 * * *", "2011-12-29T12:00:00-10:00", []string{"2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"}},
		{"Pacific/Apia", "0 9 * * 5", "2011-12-29T12:00:00-10:00", []string{"2011-12-31T00:00:00+14:00", "2012-01-06T09:00:00+14:00"}},
		{"Pacific/Apia", "0 * 30 12 *", "2011-12-01T00:00:00-10:00", []string{"2012-12-30T00:00:00+14:00", "2012-12-30T01:00:00+14:00"}},
		{"Pacific/Apia", "*/30 * * * *", "2011-12-29T23:00:00-10:00", []string{"2011-12-29T23:30:00-10:00", "2011-12-31T00:00:00+14:00"}},

		// Kwajalein had 30 September 1969 almost twice, from 01:00 on.
		{"Pacific/Kwajalein", "0 12 * * *", "1969-09-29T12:00:00+11:00", []string{"1969-09-30T12:00:00+11:00", "1969-10-01T12:00:00-12:00"}},
		{"Pacific/Kwajalein", "0 */12 * * *", "1969-09-29T12:00:00+11:00", []string{"1969-09-30T00:00:00+11:00", "1969-09-30T12:00:00+11:00", "1969-09-30T12:00:00-12:00", "1969-10-01T00:00:00-12:00"}},

		// Troll, in Antarctica, moves its clock by two hours.
		{"Antarctica/Troll", "0 1,2 * * *", "2024-03-30T12:00:00Z", []string{"2024-03-31T03:00:00+02:00", "2024-04-01T01:00:00+02:00", "2024-04-01T02:00:00+02:00"}},
		{"Antarctica/Troll", "30 1,2 * * *", "2024-10-27T00:00:00+02:00", []string{"2024-10-27T01:30:00+02:00", "2024-10-27T02:30:00+02:00", "2024-10-28T01:30:00Z"}},
		{"Antarctica/Troll", "0 * * * *", "2024-10-27T01:30:00+02:00", []string{"2024-10-27T02:00:00+02:00", "2024-10-27T01:00:00Z", "2024-10-27T02:00:00Z", "2024-10-27T03:00:00Z"}},

		{"Asia/Beirut", "@daily", "2024-03-30T00:00:00+02:00", []string{"2024-03-31T01:00:00+03:00", "2024-04-01T00:00:00+03:00"}},
		{"Asia/Beirut", "0 23 * * *", "2024-10-26T12:00:00+03:00", []string{"2024-10-26T23:00:00+03:00", "2024-10-27T23:00:00+02:00"}},

		// Kathmandu went from +05:30 to +05:45 at the start of 1986.
		{"Asia/Kathmandu", "0 0 * * *", "2024-01-01T12:00:00+05:45", []string{"2024-01-01T18:15:00Z", "2024-01-02T18:15:00Z"}},
		{"Asia/Kathmandu", "10 0 * * *", "1985-12-31T12:00:00+05:30", []string{"1986-01-01T00:15:00+05:45", "1986-01-02T00:10:00+05:45"}},
		{"Asia/Kolkata", "30 9 * * 1-5", "2024-01-05T09:30:00+05:30", []string{"2024-01-08T09:30:00+05:30", "2024-01-09T09:30:00+05:30"}},

		// Monrovia was 44 minutes and 30 seconds behind until 7 January 1972.
		{"Africa/Monrovia", "30 0 * * *", "1972-01-05T12:00:00Z", []string{"1972-01-06T01:14:30Z", "1972-01-07T00:44:30Z", "1972-01-08T00:30:00Z"}},
		{"Africa/Monrovia", "*/15 * * * *", "1972-01-07T00:14:30Z", []string{"1972-01-07T00:29:30Z", "1972-01-07T00:45:00Z"}},

		{"UTC", "0 0 13 * 5", "2024-11-03T00:00:00Z", []string{"2024-11-08T00:00:00Z", "2024-11-13T00:00:00Z", "2024-11-15T00:00:00Z"}},
		{"UTC", "0 0 */2 * mon", "2024-01-01T00:00:00Z", []string{"2024-01-15T00:00:00Z", "2024-01-29T00:00:00Z", "2024-02-05T00:00:00Z"}},
		{"UTC", "0 0 1-7 * */2", "2024-01-02T00:00:00Z", []string{"2024-01-04T00:00:00Z", "2024-01-06T00:00:00Z", "2024-01-07T00:00:00Z", "2024-02-01T00:00:00Z"}},
		{"UTC", "0 0 31 * *", "2024-01-01T00:00:00Z", []string{"2024-01-31T00:00:00Z", "2024-03-31T00:00:00Z"}},
		{"UTC", "59 23 31 12 *", "2024-12-31T23:58:59.5Z", []string{"2024-12-31T23:59:00Z", "2025-12-31T23:59:00Z"}},
		{"UTC", "0 0 29 2 *", "2096-02-29T00:00:00Z", []string{"2104-02-29T00:00:00Z", "2108-02-29T00:00:00Z"}},
		{"UTC", "0 0 29 2 */7", "2088-02-29T00:00:00Z", []string{"2128-02-29T00:00:00Z", "2156-02-29T00:00:00Z"}},
		{"UTC", "* * 29 2 */7", "2088-02-29T23:59:00Z", []string{"2128-02-29T00:00:00Z", "2128-02-29T00:01:00Z"}},
	} {
		t.Run(c.zone+" "+c.spec+" "+c.after, func(t *testing.T) {
			s, loc := parse(t, c.spec), zone(t, c.zone)
			after := instant(t, c.after)
			for _, want := range c.want {
				next, ok := s.Next(after, loc)
				require.True(t, ok, "Next after %v", after)
				require.Equal(t, instant(t, want).In(loc), next, "Next after %v", after.In(loc))
				after = next
			}
			for i := len(c.want) - 1; i > 0; i-- {
				prev, ok := s.Prev(after.Add(-1), loc)
				require.True(t, ok, "Prev before %v", after)
				require.Equal(t, instant(t, c.want[i-1]).In(loc), prev, "Prev before %v", after)
				after = prev
			}
		})
	}
}

func TestFractionsOfASecond(t *testing.T) {
	s := parse(t, "0 3 * * *")
	due := time.Date(2024, 5, 5, 3, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		at         time.Duration
		prev, next time.Time
	}{
		{-1, due.AddDate(0, 0, -1), due},
		{0, due, due.AddDate(0, 0, 1)},
		{1, due, due.AddDate(0, 0, 1)},
	} {
		prev, _ := s.Prev(due.Add(c.at), time.UTC)
		next, _ := s.Next(due.Add(c.at), time.UTC)
		require.Equal(t, c.prev, prev, "Prev %v from due", c.at)
		require.Equal(t, c.next, next, "Next %v from due", c.at)
	}
}

func TestNoZoneIsUTC(t *testing.T) {
	s := parse(t, "0 3 * * *")
	at := time.Date(2024, 5, 5, 3, 0, 0, 0, time.UTC)
	prev, ok := s.Prev(at, nil)
	require.True(t, ok)
	require.Equal(t, at, prev)
	next, ok := s.Next(at, nil)
	require.True(t, ok)
	require.Equal(t, at.AddDate(0, 0, 1), next)
}

func TestYearsFrom0To9999(t *testing.T) {
	first := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	last := time.Date(9999, 12, 31, 23, 59, 0, 0, time.UTC)
	for _, spec := range []string{"* * * * *", "* 0-23 * * *"} {
		s := parse(t, spec)
		got, ok := s.Next(first.Add(-1), time.UTC)
		require.True(t, ok)
		require.Equal(t, first, got)
		got, ok = s.Prev(last.Add(time.Minute-1), time.UTC)
		require.True(t, ok)
		require.Equal(t, last, got)
		for _, at := range []time.Time{last, last.Add(time.Hour), last.AddDate(1e6, 0, 0), first.Add(-time.Hour), time.Unix(1<<62, 0), time.Unix(-1<<62, 0)} {
			_, ok = s.Next(at, time.UTC)
			require.False(t, ok, "Next after %v", at)
		}
		for _, at := range []time.Time{first.Add(-1), last.Add(time.Hour), time.Unix(1<<62, 0), time.Unix(-1<<62, 0)} {
			_, ok = s.Prev(at, time.UTC)
			require.False(t, ok, "Prev of %v", at)
		}
	}
	leap := parse(t, "0 0 29 2 *")
	_, ok := leap.Next(time.Date(9996, 3, 1, 0, 0, 0, 0, time.UTC), time.UTC)
	require.False(t, ok)
	_, ok = leap.Prev(first, time.UTC)
	require.False(t, ok)
}

func instant(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	require.NoError(t, err)
	return at
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	require.NoError(t, err)
	return loc
}
