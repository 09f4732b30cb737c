package cron_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/cron"
)

func TestWords(t *testing.T) {
	for spec, want := range map[string]string{
		"* * * * *":          "every minute",
		"*/15 * * * *":       "every 15 minutes",
		"0,30 * * * *":       "every 30 minutes",
		"*/60 * * * *":       "every hour on the hour",
		"@hourly":            "every hour on the hour",
		"30 * * * *":         "at minute 30 of every hour",
		"15,45 * * * *":      "at minutes 15 and 45 of every hour",
		"*/7 * * * *":        "every 7 minutes from minute 0 to 56 of every hour",
		"5-50/15 * * * *":    "every 15 minutes from minute 5 to 50 of every hour",
		"0-5,30 * * * *":     "at minutes 0 to 5 and 30 of every hour",
		"* 2 * * *":          "every minute from 02:00 to 02:59",
		"0-10 3 * * *":       "every minute from 03:00 to 03:10",
		"*/5 4 * * *":        "every 5 minutes from 04:00 to 04:55",
		"1-4,6-9 3 * * *":    "at minutes 1 to 4 and 6 to 9 of hour 03 every day",
		"*/15 8-17 * * *":    "every 15 minutes between 08:00 and 17:59",
		"* 1,2,5 * * *":      "every minute of hours 01, 02 and 05",
		"*/7 9-12 * * *":     "every 7 minutes from minute 0 to 56 of hours 09 to 12",
		"0 9-17 * * 1-5":     "every hour from 09:00 to 17:00 on weekdays",
		"30 */2 * * *":       "every 2 hours from 00:30 to 22:30",
		"0 */24 * * *":       "at 00:00 every day",
		"@daily":             "at 00:00 every day",
		"5 0,6,13 * * *":     "at 00:05, 06:05 and 13:05 every day",
		"0 1-6,9 * * *":      "at minute 0 of hours 01 to 06 and 09 every day",
		"0,30 9,17 * * *":    "at 09:00, 09:30, 17:00 and 17:30 every day",
		"0 9 * * 1-5":        "at 09:00 on weekdays",
		"0 9 * * sat-sun":    "at 09:00 on weekends",
		"0 9 * * 0,1,3":      "at 09:00 on Mondays, Wednesdays and Sundays",
		"0 9 * * 1-6":        "at 09:00 on all days but Sundays",
		"*/15 * * * 5":       "every 15 minutes on Fridays",
		"0 0 13 * 5":         "at 00:00 on the 13th, and on Fridays",
		"0 0 1-31 * 5":       "at 00:00 every day",
		"0 0 13 3 5":         "at 00:00 on the 13th, and on Fridays, in March",
		"0 0 */2 * mon":      "at 00:00 on Mondays that fall on every 2nd day from the 1st to the 31st",
		"0 0 1-7 3 */2":      "at 00:00 on Tuesdays, Thursdays, Saturdays and Sundays that fall on the 1st to 7th in March",
		"0 0 */31 * 1-6":     "at 00:00 on Mondays, Tuesdays, Wednesdays, Thursdays, Fridays and Saturdays that fall on the 1st",
		"0 0 1,2,22,23 * *":  "at 00:00 on the 1st, 2nd, 22nd and 23rd",
		"0 0 3,11-13,31 * *": "at 00:00 on the 3rd, 11th to 13th and 31st",
		"@monthly":           "at 00:00 on the 1st",
		"@yearly":            "at 00:00 on the 1st of January",
		"0 0 * 1-3,6 *":      "at 00:00 every day in January to March and June",
		"*/30 * * 5 1-5":     "every 30 minutes on weekdays in May",
		"0 0 29 feb *":       "at 00:00 on the 29th of February",
		"59 23 L * *":        "at 23:59 on the last day of the month",
		"0 0 l 2 *":          "at 00:00 on the last day of February",
		"0 0 15,L * *":       "at 00:00 on the 15th and last day of the month",
		"0 0 L,1-3,9 1,4 *":  "at 00:00 on the 1st to 3rd, 9th and last day of January and April",
		"0 0 L * fri":        "at 00:00 on the last day of the month, and on Fridays",
		"0 0 L 6 fri":        "at 00:00 on the last day of the month, and on Fridays, in June",
		"*/5 * L * */2":      "every 5 minutes on Tuesdays, Thursdays, Saturdays and Sundays that fall on the last day of the month",
		"0 0 *,L * 1":        "at 00:00 on Mondays",
	} {
		require.Equal(t, want, parse(t, spec).Words(), "%q", spec)
	}
}

// mixture is an expression that is made of sets of values.
type mixture [5][]int

// fieldBounds are the least and the greatest value of each field.
var fieldBounds = [5][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}}

func (m mixture) String() string {
	var fields []string
	for i, values := range m {
		b := fieldBounds[i]
		var elements []string
		for len(values) > 0 {
			row := 1
			for row < len(values) && values[row] == values[0]+row {
				row++
			}
			element := strconv.Itoa(values[0])
			if row > 1 {
				element += "-" + strconv.Itoa(values[row-1])
			}
			elements = append(elements, element)
			values = values[row:]
		}
		text := strings.Join(elements, ",")
		if text == fmt.Sprintf("%d-%d", b[0], b[1]) {
			text = "*"
		}
		fields = append(fields, text)
	}
	return strings.Join(fields, " ")
}

// toggle returns the mixture with value v put into a field, or taken out; false
// if that leaves nothing.
func (m mixture) toggle(field, v int) (mixture, bool) {
	values := slices.Clone(m[field])
	if i, found := slices.BinarySearch(values, v); found {
		values = slices.Delete(values, i, i+1)
	} else {
		values = slices.Insert(values, i, v)
	}
	m[field] = values
	return m, len(values) > 0
}

// possible is false where there may be no such day: when it must be late in a
// month.
func (m mixture) possible() bool { return len(m[4]) < 7 || m[2][0] <= 29 }

// random returns a mixture of single values, ranges, steps and anything.
func random(r *rand.Rand) mixture {
	var m mixture
	for i, b := range fieldBounds {
		size := b[1] - b[0] + 1
		lo, step := b[0], 1
		hi := b[1]
		switch r.IntN(5) {
		case 0: // all
		case 1:
			lo += r.IntN(size)
			hi = lo
		case 2:
			lo += r.IntN(size)
			hi = lo + r.IntN(b[1]-lo+1)
		case 3:
			step = 1 + r.IntN(size/2)
		case 4:
			for v := lo; v <= hi; v++ {
				if r.IntN(4) == 0 {
					m[i] = append(m[i], v)
				}
			}
		}
		for v := lo; v <= hi && len(m[i]) == 0; lo = v {
			for ; v <= hi; v += step {
				m[i] = append(m[i], v)
			}
		}
		if len(m[i]) == 0 {
			m[i] = []int{b[0]}
		}
	}
	return m
}

// TestWordsTellEachValue changes one value of one field at a time: unless the
// expression then still means the same, its words must change.
func TestWordsTellEachValue(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	told := 0
	for range 200 {
		m := random(r)
		spec := m.String()
		if !m.possible() {
			continue
		}
		words := parse(t, spec).Words()
		for field, b := range fieldBounds {
			for v := b[0]; v <= b[1]; v++ {
				other, ok := m.toggle(field, v)
				if !ok || !other.possible() {
					continue
				}
				told++
				if parse(t, other.String()).Words() == words {
					require.True(t, field == 2 || field == 4, "%q and %q are both %q", spec, other, words)
					require.Equal(t, days(spec), days(other.String()), "%q and %q are both %q", spec, other, words)
				}
			}
		}
	}
	require.Greater(t, told, 5_000)
}

// days returns which days of 28 years fit an expression: in these each date
// falls on each day of the week.
func days(spec string) []bool {
	c := newCrowd([]*oracle{newOracle(spec)})
	var fit []bool
	first := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Unix() / 86400
	last := time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC).Unix() / 86400
	for day := first; day < last; day++ {
		fit = append(fit, c.date(day) != 0)
	}
	return fit
}

func TestRareDays(t *testing.T) {
	for spec, want := range map[string][]cron.RareDay{
		"59 23 31 * *":      {{Day: 31, Months: 7, Of: 12}},
		"0 0 30 * *":        {{Day: 30, Months: 11, Of: 12}},
		"0 0 29 * *":        {{Day: 29, Months: 11, Of: 12}},
		"0 0 1,29,31 * *":   {{Day: 29, Months: 11, Of: 12}, {Day: 31, Months: 7, Of: 12}},
		"0 0 29-31 * *":     {{Day: 29, Months: 11, Of: 12}, {Day: 30, Months: 11, Of: 12}, {Day: 31, Months: 7, Of: 12}},
		"0 0 31 1,4,6 *":    {{Day: 31, Months: 1, Of: 3}},
		"0 0 29 2 *":        {{Day: 29, Months: 0, Of: 1}},
		"0 0 31 * fri":      {{Day: 31, Months: 7, Of: 12}},
		"0 0 25-31 * *":     nil,
		"0 0 28,29,31 * *":  {{Day: 31, Months: 7, Of: 12}},
		"0 0 31 1,3,12 *":   nil,
		"0 0 */2 * *":       nil,
		"0 0 28 * *":        nil,
		"0 0 L * *":         nil,
		"0 0 31,L * *":      nil,
		"0 0 30,31,L 2-4 *": {{Day: 30, Months: 2, Of: 3}},
		"@daily":            nil,
	} {
		require.Equal(t, want, parse(t, spec).RareDays(2026), "%q", spec)
	}
	require.Equal(t, []cron.RareDay(nil), parse(t, "0 0 29 * *").RareDays(2028), "a leap year")
}
