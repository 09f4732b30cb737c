package cron

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Words describes the expression in English: "at 09:00 on weekdays", or "every 15
// minutes between 08:00 and 17:59". It mentions each value of each field.
// [Schedule.ClockChanges] describes the effects of clock changes.
func (s *Schedule) Words() string {
	words, on, in := s.timeWords(), s.dayWords(), s.monthWords()
	switch {
	case on != "":
		words += " " + on
	case strings.HasPrefix(words, "at ") && !strings.HasSuffix(words, everyHour):
		words += " every day"
	}
	switch {
	case in == "":
		return words
	case strings.HasPrefix(on, "on the ") && !s.eitherDay:
		return words + " of " + in
	case s.eitherDay:
		return words + ", in " + in
	}
	return words + " in " + in
}

const everyHour = " of every hour"

// timeWords describes the minute and hour fields together.
func (s *Schedule) timeWords() string {
	hours, minutes := progressionOf(s.hours), progressionOf(s.minutes)
	between := func(word string, firstMinute int, and string, lastMinute int) string {
		return fmt.Sprintf(" %s %s %s %s", word, clock(hours.first, firstMinute), and, clock(hours.last, lastMinute))
	}
	switch {
	case all(s.hours, 0, 23):
		return s.minutesOfEveryHour()
	case minutes.count*hours.count <= 6:
		return "at " + join(s.times())
	case minutes.count == 1 && hours.step > 0:
		return "every " + units(hours.step, "hour") + between("from", minutes.first, "to", minutes.last)
	case hours.count == 1 && minutes.step > 0:
		return "every " + units(minutes.step, "minute") + between("from", minutes.first, "to", minutes.last)
	case everyFew(minutes) && hours.step == 1:
		return s.minuteWords() + between("between", 0, "and", 59)
	}
	names := elements(s.hours, func(hour int) string { return fmt.Sprintf("%02d", hour) })
	if hours.count == 1 {
		return s.minuteWords() + " of hour " + names[0]
	}
	return s.minuteWords() + " of hours " + join(names)
}

// times returns all matching times of a day in the form 15:04.
func (s *Schedule) times() []string {
	var times []string
	for hour := range values(s.hours) {
		for minute := range values(s.minutes) {
			times = append(times, clock(hour, minute))
		}
	}
	return times
}

// minutesOfEveryHour describes the minute field if the hour field matches every hour.
func (s *Schedule) minutesOfEveryHour() string {
	switch p := progressionOf(s.minutes); {
	case everyFew(p):
		return s.minuteWords()
	case p.last == 0:
		return "every hour on the hour"
	}
	return s.minuteWords() + everyHour
}

// minuteWords describes the minute field within an hour.
func (s *Schedule) minuteWords() string {
	p := progressionOf(s.minutes)
	switch {
	case everyFew(p):
		return "every " + units(p.step, "minute")
	case p.count > 3 && p.step > 1:
		return fmt.Sprintf("every %s from minute %d to %d", units(p.step, "minute"), p.first, p.last)
	case p.count == 1:
		return fmt.Sprintf("at minute %d", p.first)
	}
	return "at minutes " + join(elements(s.minutes, strconv.Itoa))
}

// everyFew reports whether minutes are evenly spaced around the clock.
func everyFew(p progression) bool {
	return p.count > 1 && p.step > 0 && p.first == 0 && p.last+p.step == 60
}

// dayWords describes the days that the two day fields match, or "" for all.
func (s *Schedule) dayWords() string {
	anyDay, anyWeekday := all(s.days, 1, 31), all(s.weekdays, 0, 6)
	switch {
	case s.eitherDay && (anyDay || anyWeekday), anyDay && anyWeekday:
		return ""
	case s.eitherDay:
		return "on " + s.dates() + ", and on " + s.weekdayWords()
	case anyDay:
		return "on " + s.weekdayWords()
	case anyWeekday:
		return "on " + s.dates()
	}
	return "on " + s.weekdayNames() + " that fall on " + s.dates()
}

// dates describes the day-of-month field.
func (s *Schedule) dates() string {
	numbered := s.days &^ lastDay
	if numbered != s.days {
		return "the " + join(append(elements(numbered, ordinal), "last day")) + s.ofTheMonth()
	}
	p := progressionOf(s.days)
	if p.count > 3 && p.step > 1 {
		return fmt.Sprintf("every %s day from the %s to the %s", ordinal(p.step), ordinal(p.first), ordinal(p.last))
	}
	return "the " + join(elements(s.days, ordinal))
}

// ofTheMonth follows the last day, unless the names of months do.
func (s *Schedule) ofTheMonth() string {
	if all(s.months, 1, 12) || s.eitherDay || !all(s.weekdays, 0, 6) {
		return " of the month"
	}
	return ""
}

// weekdayWords describes the day-of-week field, or "" for all days.
func (s *Schedule) weekdayWords() string {
	const week = 1<<7 - 1
	if out := week &^ s.weekdays; bits.OnesCount64(out) == 1 {
		return fmt.Sprintf("all days but %ss", time.Weekday(bits.TrailingZeros64(out)))
	}
	return s.weekdayNames()
}

// weekdayNames names the days of the week, Monday first.
func (s *Schedule) weekdayNames() string {
	const (
		weekend = 1<<time.Saturday | 1<<time.Sunday
		working = 1<<7 - 1 - weekend
	)
	switch s.weekdays {
	case weekend:
		return "weekends"
	case working:
		return "weekdays"
	}
	var names []string
	for day := time.Monday; day <= time.Saturday+1; day++ {
		if s.weekdays&(1<<(day%7)) != 0 {
			names = append(names, (day%7).String()+"s")
		}
	}
	return join(names)
}

// monthWords names the months, or "" for all.
func (s *Schedule) monthWords() string {
	if all(s.months, 1, 12) {
		return ""
	}
	return join(elements(s.months, func(m int) string { return time.Month(m).String() }))
}

// progression is a set of evenly spaced values.
type progression struct {
	first, last, count int
	step               int // 0: not evenly spaced; 1 for a single value
}

func progressionOf(set uint64) progression {
	p := progression{first: bits.TrailingZeros64(set), last: last(set), count: bits.OnesCount64(set), step: 1}
	if p.count == 1 {
		return p
	}
	p.step = bits.TrailingZeros64(set&(set-1)) - p.first
	if p.first+p.step*(p.count-1) != p.last {
		p.step = 0
		return p
	}
	for v := p.first; v <= p.last; v += p.step {
		if set&(1<<v) == 0 {
			p.step = 0
			return p
		}
	}
	return p
}

// elements names the values of a set; three or more in a row by the first and the
// last.
func elements(set uint64, name func(int) string) []string {
	var names []string
	for set != 0 {
		first := bits.TrailingZeros64(set)
		end := first + bits.TrailingZeros64(^(set >> first)) // after the last in the row
		switch {
		case end-first > 2:
			names = append(names, name(first)+" to "+name(end-1))
		default:
			for v := first; v < end; v++ {
				names = append(names, name(v))
			}
		}
		set &= from(end)
	}
	return names
}

// values yields the values of a set in ascending order.
func values(set uint64) func(func(int) bool) {
	return func(yield func(int) bool) {
		for ; set != 0; set &= set - 1 {
			if !yield(bits.TrailingZeros64(set)) {
				return
			}
		}
	}
}

// all reports whether a set has every value from lo to hi.
func all(set uint64, lo, hi int) bool {
	want := from(lo) & upTo(hi)
	return set&want == want
}

func clock(hour, minute int) string { return fmt.Sprintf("%02d:%02d", hour, minute) }

// units formats a number of minutes or hours after "every".
func units(n int, unit string) string {
	if n == 1 {
		return unit
	}
	return fmt.Sprintf("%d %s", n, plural(n, unit))
}

func plural(n int, unit string) string {
	if n == 1 {
		return unit
	}
	return unit + "s"
}

// ordinal returns 1st for 1.
func ordinal(n int) string {
	suffix := "th"
	if n/10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

// join formats a list of words: a, b and c.
func join(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
