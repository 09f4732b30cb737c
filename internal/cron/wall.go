package cron

import (
	"math/bits"
	"time"
)

// nextWall returns the first matching wall time from t on, and before limit.
func (s *Schedule) nextWall(t, limit int64) (int64, bool) {
	if rest := mod(t, 60); rest != 0 {
		t += 60 - rest
	}
	if t >= limit {
		return 0, false
	}
	at := time.Unix(t, 0).UTC()
	year, month, day := at.Date()
	days := s.daysIn(year, month)
	if days&(1<<day) != 0 {
		if hour, minute, ok := s.timeFrom(at.Hour(), at.Minute()); ok {
			w := wall(year, month, day, hour, minute)
			return w, w < limit
		}
	}
	return s.nextDay(year, month, days&from(day+1), limit)
}

// nextDay returns the first matching wall time on the days of a month or later, before
// limit.
func (s *Schedule) nextDay(year int, month time.Month, days uint64, limit int64) (int64, bool) {
	for days == 0 {
		if month++; month > time.December {
			year, month = year+1, time.January
		}
		if s.months&(1<<month) == 0 {
			continue
		}
		if wall(year, month, 1, 0, 0) >= limit {
			return 0, false
		}
		days = s.daysIn(year, month)
	}
	w := wall(year, month, bits.TrailingZeros64(days), bits.TrailingZeros64(s.hours), bits.TrailingZeros64(s.minutes))
	return w, w < limit
}

// prevWall returns the last matching wall time up to t, and not before limit.
func (s *Schedule) prevWall(t, limit int64) (int64, bool) {
	if t < limit {
		return 0, false
	}
	at := time.Unix(t, 0).UTC()
	year, month, day := at.Date()
	days := s.daysIn(year, month)
	if days&(1<<day) != 0 {
		if hour, minute, ok := s.timeUpTo(at.Hour(), at.Minute()); ok {
			w := wall(year, month, day, hour, minute)
			return w, w >= limit
		}
	}
	return s.prevDay(year, month, days&upTo(day-1), limit)
}

// prevDay returns the last matching wall time on the days of a month or earlier, not
// before limit.
func (s *Schedule) prevDay(year int, month time.Month, days uint64, limit int64) (int64, bool) {
	for days == 0 {
		if wall(year, month, 1, 0, 0) < limit {
			return 0, false
		}
		if month--; month < time.January {
			year, month = year-1, time.December
		}
		days = s.daysIn(year, month)
	}
	w := wall(year, month, last(days), last(s.hours), last(s.minutes))
	return w, w >= limit
}

// timeFrom returns the first matching time of a day from the given one on.
func (s *Schedule) timeFrom(hour, minute int) (int, int, bool) {
	if s.hours&(1<<hour) != 0 {
		if rest := s.minutes & from(minute); rest != 0 {
			return hour, bits.TrailingZeros64(rest), true
		}
	}
	rest := s.hours & from(hour+1)
	return bits.TrailingZeros64(rest), bits.TrailingZeros64(s.minutes), rest != 0
}

// timeUpTo returns the last matching time of a day up to the given one.
func (s *Schedule) timeUpTo(hour, minute int) (int, int, bool) {
	if s.hours&(1<<hour) != 0 {
		if rest := s.minutes & upTo(minute); rest != 0 {
			return hour, last(rest), true
		}
	}
	rest := s.hours & upTo(hour-1)
	return last(rest), last(s.minutes), rest != 0
}

// daysIn returns the set of matching days of a month.
func (s *Schedule) daysIn(year int, month time.Month) uint64 {
	if s.months&(1<<month) == 0 {
		return 0
	}
	first := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).Weekday()
	length := monthLength(year, month)

	// Bit 0 of week is the weekday of the 1st; five weeks hold any month.
	week := (s.weekdays>>first | s.weekdays<<(7-first)) & 0x7f
	onWeekday := (week | week<<7 | week<<14 | week<<21 | week<<28) << 1

	named := s.days
	if named&lastDay != 0 {
		named |= 1 << length
	}
	days := named & onWeekday
	if s.eitherDay {
		days = named | onWeekday
	}
	return days & upTo(length)
}

func monthLength(year int, month time.Month) int {
	return time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

func wall(year int, month time.Month, day, hour, minute int) int64 {
	return time.Date(year, month, day, hour, minute, 0, 0, time.UTC).Unix()
}

// from returns the set of all values from v on.
func from(v int) uint64 { return ^uint64(0) << v }

// upTo returns the set of all values up to v, which is -1 or more.
func upTo(v int) uint64 { return 1<<(v+1) - 1 }

// last returns the greatest value in a set, or -1 if it is empty.
func last(set uint64) int { return bits.Len64(set) - 1 }

// mod returns n modulo m, never negative.
func mod(n, m int64) int64 { return (n%m + m) % m }
