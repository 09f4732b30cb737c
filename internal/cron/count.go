package cron

import (
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
