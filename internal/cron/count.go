package cron

import (
	"fmt"
	"math/bits"
	"time"
)

// Upcoming returns the first n instants after the given one in zone loc (nil means
// UTC), or fewer if [Schedule.Next] finds no more.
func (s *Schedule) Upcoming(after time.Time, loc *time.Location, n int) []time.Time {
	var list []time.Time
	for range n {
		next, ok := s.Next(after, loc)
		if !ok {
			break
		}
		list = append(list, next)
		after = next
	}
	return list
}

// TimesADay returns the least and the greatest number of instants on a day of a year
// in zone loc (nil means UTC). A day is a calendar day of the zone: it may have 23 or
// 25 hours, and a day that the zone skipped does not count.
func (s *Schedule) TimesADay(year int, loc *time.Location) (least, greatest int) {
	loc = orUTC(loc)
	first := true
	for day := wall(year, 1, 1, 0, 0); day < wall(year+1, 1, 1, 0, 0); day += 24 * 3600 {
		count, exists := s.countOn(day, loc)
		if !exists {
			continue
		}
		if first {
			least, greatest, first = count, count, false
		}
		least, greatest = min(least, count), max(greatest, count)
	}
	return least, greatest
}

// RareDay is a day of the month that an expression names and that does not come in each
// month.
type RareDay struct {
	Day        int
	Months, Of int // in how many months of a year it comes, of those that the expression names
}

// String describes the day in English: "the 31st in 7 months of 12".
func (d RareDay) String() string {
	return fmt.Sprintf("the %s in %d %s of %d", ordinal(d.Day), d.Months, plural(d.Months, "month"), d.Of)
}

// RareDays returns the days after the 28th that an expression names and that do not come
// in each of its months of a year. A range that begins before them does not name them.
func (s *Schedule) RareDays(year int) []RareDay {
	if s.starDay {
		return nil
	}
	var rare []RareDay
	ranged := s.days&(1<<28) != 0
	for day := 29; day <= 31; day++ {
		has := s.days&(1<<day) != 0
		ranged = ranged && has
		if !has || ranged || day == 31 && s.days&lastDay != 0 {
			continue
		}
		r := RareDay{Day: day, Of: bits.OnesCount64(s.months)}
		for month := range values(s.months) {
			if day <= monthLength(year, time.Month(month)) {
				r.Months++
			}
		}
		if r.Months < r.Of {
			rare = append(rare, r)
		}
	}
	return rare
}

// countOn returns the number of instants on the day that starts at the given wall
// time, and whether the zone has that day.
func (s *Schedule) countOn(day int64, loc *time.Location) (count int, exists bool) {
	start := firstReached(day, loc)
	if p := periodAt(start, loc); p.start < start-maxShift && start+24*3600+maxShift < p.end {
		// No clock change is near, not even one that repeats this day.
		date := time.Unix(day, 0).UTC()
		if s.daysIn(date.Year(), date.Month())&(1<<date.Day()) == 0 {
			return 0, true
		}
		return bits.OnesCount64(s.minutes) * bits.OnesCount64(s.hours), true
	}
	// The clock may leave the day and return to it.
	end := start + 24*3600 + maxShift
	exists = dayOf(start, loc) == day
	for at, ok := s.Next(time.Unix(start-1, 0), loc); ok && at.Unix() < end; at, ok = s.Next(at, loc) {
		if dayOf(at.Unix(), loc) == day {
			count++
		}
	}
	return count, exists
}

// dayOf returns the wall time at which the day of an instant starts.
func dayOf(t int64, loc *time.Location) int64 {
	shown := t + periodAt(t, loc).offset
	return shown - mod(shown, 24*3600)
}
