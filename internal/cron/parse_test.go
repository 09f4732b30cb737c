package cron_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/cron"
)

func TestParseRefuses(t *testing.T) {
	const names = "; known: @yearly @annually @monthly @weekly @daily @midnight @hourly"
	for _, c := range []struct {
		spec   string
		offset int
		reason string
	}{
		{"", 0, `it is empty; it needs five fields: minute hour day-of-month month day-of-week`},
		{" \t ", 0, `it is empty; it needs five fields: minute hour day-of-month month day-of-week`},
		{"0 3 * *", 7, `4 of 5 fields; it needs minute hour day-of-month month day-of-week`},
		{"0 0 3 * * *", 10, `6 fields, and only 5 are allowed: minute hour day-of-month month day-of-week; there are no seconds and no years (below a minute use an interval)`},
		{"CRON_TZ=Asia/Tokyo 0 3 * * *", 0, `"CRON_TZ=Asia/Tokyo": the time zone is not part of the expression`},

		{"61 * * * *", 0, `minute "61" is outside 0-59`},
		{"0 24 * * *", 2, `hour "24" is outside 0-23`},
		{"0 0 0 * *", 4, `day of month "0" is outside 1-31`},
		{"0 0 * 13 *", 6, `month "13" is outside 1-12`},
		{"0 0 * * 8", 8, `day of week "8" is outside 0-7`},
		{"0 0 * * 1,2,9", 12, `day of week "9" is outside 0-7`},
		{"99999999999999999999 * * * *", 0, `minute "99999999999999999999" is outside 0-59`},
		{"0-60 * * * *", 2, `minute "60" is outside 0-59`},
		{"-1 * * * *", 0, `minute: a number in 0-59 is missing`},
		{"5- * * * *", 2, `minute: a number in 0-59 is missing`},
		{"+5 * * * *", 0, `minute "+5" is not a number in 0-59`},
		{"1.5 * * * *", 0, `minute "1.5" is not a number in 0-59`},
		{"٣ * * * *", 0, `minute "٣" is not a number in 0-59`},
		{"0\n0 * * * *", 0, `minute "0\n0" is not a number in 0-59`},
		{"\x00 * * * *", 0, `minute "\x00" is not a number in 0-59`},
		{"0 mon * * *", 2, `hour "mon" is not a number in 0-23`},
		{"1,,2 * * * *", 2, `minute "1,,2" has an empty element`},
		{"1, * * * *", 2, `minute "1," has an empty element`},
		{"0 0 * foo *", 6, `month "foo" is not a number in 1-12 or a name in jan-dec`},
		{"0 0 * January *", 6, `month "January" is not a number in 1-12 or a name in jan-dec; write jan`},
		{"0 0 ? * 1", 4, `day of month "?" is not a number in 1-31 or L; write *`},
		{"0 0 15W * *", 4, `day of month "15W" is not a number in 1-31 or L; L, the last day of the month, stands alone or in a list; W and # are not supported`},
		{"0 0 LW * *", 4, `day of month "LW" is not a number in 1-31 or L; L, the last day of the month, stands alone or in a list; W and # are not supported`},
		{"0 0 25-L * *", 7, `day of month "L" is not a number in 1-31 or L; L, the last day of the month, stands alone or in a list; W and # are not supported`},
		{"0 0 L-3 * *", 4, `day of month "L" is not a number in 1-31 or L; L, the last day of the month, stands alone or in a list; W and # are not supported`},
		{"0 0 L/2 * *", 4, `day of month "L" is not a number in 1-31 or L; L, the last day of the month, stands alone or in a list; W and # are not supported`},
		{"0 0 last * *", 4, `day of month "last" is not a number in 1-31 or L; L, the last day of the month, stands alone or in a list; W and # are not supported`},
		{"0 L * * *", 2, `hour "L" is not a number in 0-23; L is for the day of month; W and # are not supported`},
		{"0 0 * * 5L", 8, `day of week "5L" is not a number in 0-7 or a name in sun-sat; L is for the day of month; W and # are not supported`},
		{"0 0 * * 5#3", 8, `day of week "5#3" is not a number in 0-7 or a name in sun-sat; L is for the day of month; W and # are not supported`},
		{"*-5 * * * *", 0, `minute "*" is not a number in 0-59`},

		{"*/0 * * * *", 2, `minute "*/0": step "0" is outside 1-60`},
		{"*/61 * * * *", 2, `minute "*/61": step "61" is outside 1-60`},
		{"*/ * * * *", 2, `minute "*/": step "" is outside 1-60`},
		{"*/5/5 * * * *", 2, `minute "*/5/5": step "5/5" is outside 1-60`},
		{"10-20/12 * * * *", 6, `minute "10-20/12": step "12" is outside 1-11`},
		{"5/15 * * * *", 0, `minute "5/15" has a step but no range; write 5-59/15`},
		{"0 0 * * 1/2", 8, `day of week "1/2" has a step but no range; write 1-6/2`},
		{"0 22-2 * * *", 2, `hour "22-2" runs backwards; write 22-23,0-2`},
		{"0 23-0 * * *", 2, `hour "23-0" runs backwards; write 23,0`},
		{"0 0 * nov-feb *", 6, `month "nov-feb" runs backwards; write 11-12,1-2`},
		{"0 0 * * fri-mon", 8, `day of week "fri-mon" runs backwards; write 5-6,0-1`},
		{"0 0 * * 5-0", 8, `day of week "5-0" runs backwards; write 5-7`},

		{"0 0 31 2 *", 4, `day of month "31" never comes in month "2"; write L for its last day`},
		{"0 0 30 feb *", 4, `day of month "30" never comes in month "feb"; write L for its last day`},
		{"0 0 30,31 2 */2", 4, `day of month "30,31" never comes in month "2"; write L for its last day`},
		{"0 0 31 4,jun,9,11 *", 4, `day of month "31" never comes in month "4,jun,9,11"; write L for its last day`},

		{"@every 1h", 0, `"@every" is not a cron expression: use an interval`},
		{"@reboot", 0, `"@reboot" is not supported: it names no instant`},
		{"@dayly", 0, `unknown name "@dayly"` + names},
		{"  @", 2, `unknown name "@"` + names},
		{"@daily 5", 7, `"5" after @daily, which stands alone`},

		{strings.Repeat("0", 257), 256, `257 bytes long; at most 256 are allowed`},
		{strings.Repeat("* ", 5<<20), 256, `10485760 bytes long; at most 256 are allowed`},
	} {
		s, err := cron.Parse(c.spec)
		name := c.spec[:min(len(c.spec), 40)]
		require.Nil(t, s, "parsing %q", name)
		var typed *cron.Error
		require.ErrorAs(t, err, &typed, "parsing %q", name)
		require.Equal(t, c.reason, typed.Reason, "parsing %q", name)
		require.Equal(t, c.offset, typed.Offset, "where %q is wrong", name)
	}
	_, err := cron.Parse("0 24 * * *")
	require.EqualError(t, err, `parse cron expression "0 24 * * *": hour "24" is outside 0-23 (column 3)`)
}

// Expressions that mean the same, which shows in their next instants.
func TestParseReads(t *testing.T) {
	for _, c := range [][2]string{
		{"@yearly", "0 0 1 1 *"},
		{"@annually", "0 0 1 jan *"},
		{"@monthly", "0 0 1 * *"},
		{"@weekly", "0 0 * * sun"},
		{"@Daily", "0 0 * * *"},
		{"@midnight", "0 0 * * *"},
		{"@hourly", "0 * * * *"},
		{"0 0 * * 7", "0 0 * * 0"},
		{"0 0 * * 5-7", "0 0 * * 0,5,6"},
		{"0 0 * * fri-SUN", "0 0 * * 0,5,6"},
		{"0 0 * * 1-7/2", "0 0 * * 1,3,5,0"},
		{"0 0 * * 0-7", "0 0 * * 0-6"},
		{"0 0 * * sun-tue", "0 0 * * 0,1,2"},
		{"0 0 * JAN,Mar-may *", "0 0 * 1,3,4,5 *"},
		{"*/20 * * * *", "0,20,40 * * * *"},
		{"10-50/20 * * * *", "10,30,50 * * * *"},
		{"*/60 */24 */31 */12 *", "0 0 1 1 *"},
		{"00 007 * * *", "0 7 * * *"},
		{"5,5,1-9 0 * * *", "1-9 0 * * *"},
		{"\t 0  3\t* * 1 ", "0 3 * * 1"},
		{"0 0 31 1,2 *", "0 0 31 1 *"},
		{"0 0 31 2 1", "0 0 * 2 1"}, // Mondays; the 31st never comes
	} {
		a, b := parse(t, c[0]), parse(t, c[1])
		x := time.Date(2024, 5, 5, 0, 0, 0, 0, time.UTC)
		y := x
		for range 100 {
			var ok bool
			x, ok = a.Next(x, time.UTC)
			require.True(t, ok)
			y, ok = b.Next(y, time.UTC)
			require.True(t, ok)
			require.Equal(t, y, x, "%q against %q", c[0], c[1])
		}
	}
}

func TestStringGivesTheExpression(t *testing.T) {
	for spec, want := range map[string]string{
		"\t 0  3\t* * Mon-fri ": "0 3 * * Mon-fri",
		" @Daily":               "@daily",
	} {
		s := parse(t, spec)
		require.Equal(t, want, s.String())
		require.Equal(t, s, parse(t, s.String()))
	}
}

func TestParseIsQuick(t *testing.T) {
	long := strings.Repeat("*,", 123) + "* * * * *"
	for _, spec := range []string{
		strings.Repeat("* ", 8<<20),
		strings.Repeat("\xff", 256),
		strings.Repeat("9", 256),
		strings.Repeat("*,", 128),
		long,
		"0 0 31 2 *",
	} {
		best := time.Hour
		for range 5 { // the machine may be busy with something else
			start := time.Now()
			_, err := cron.Parse(spec)
			best = min(best, time.Since(start))
			require.Equal(t, spec == long, err == nil)
			require.Less(t, len(errorText(err)), 4096)
		}
		require.Less(t, best, 10*time.Millisecond, "parsing %q…", spec[:10])
	}
}

func errorText(err error) string {
	return errors.Join(err, errors.New("")).Error()
}

func parse(t testing.TB, spec string) *cron.Schedule {
	t.Helper()
	s, err := cron.Parse(spec)
	require.NoError(t, err)
	return s
}
