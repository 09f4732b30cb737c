package cron

import "time"

// Schedule is a parsed expression. It is immutable, so its methods may be called
// concurrently.
type Schedule struct {
	text string
	// Sets of values: bit v is value v. That of days may have lastDay, too.
	minutes, hours, days, months, weekdays uint64

	realTime  bool // the hour field starts with *
	starDay   bool // the day field starts with *
	eitherDay bool // a day need match only one of the day fields
}

// lastDay is in a set of days the last of whatever month.
const lastDay = 1 << 32

// String returns the expression with one space between its fields.
func (s *Schedule) String() string { return s.text }

// The limits of [Schedule.Next] and [Schedule.Prev]. The rarest day is a 29 February
// on a given weekday: it may take 40 years around a year such as 2100, which is not a
// leap year.
const (
	reach    = 41 * 366 * 86400 // seconds
	earliest = -62167219200     // 0000-01-01T00:00:00Z
	latest   = 253402300799     // 9999-12-31T23:59:59Z
)

// Next returns the first instant after the given one in zone loc (nil means UTC). It
// reports false if there is none in the next 41 years or before the year 10000.
func (s *Schedule) Next(after time.Time, loc *time.Location) (time.Time, bool) {
	loc = orUTC(loc)
	next := s.nextNamed
	if s.realTime {
		next = s.nextShown
	}
	return instant(next, after.Unix()+1, loc) // instants are whole seconds
}

// Prev returns the last instant that is not after the given one in zone loc (nil
// means UTC). It reports false if there is none in the last 41 years or since the
// start of the year 0.
func (s *Schedule) Prev(atOrBefore time.Time, loc *time.Location) (time.Time, bool) {
	loc = orUTC(loc)
	prev := s.prevNamed
	if s.realTime {
		prev = s.prevShown
	}
	return instant(prev, atOrBefore.Unix(), loc)
}

// instant calls one of the four searches below if t is within their years.
func instant(search func(int64, *time.Location) (int64, bool), t int64, loc *time.Location) (time.Time, bool) {
	if t < earliest || t > latest {
		return time.Time{}, false
	}
	t, ok := search(t, loc)
	if !ok || t < earliest || t > latest {
		return time.Time{}, false
	}
	return time.Unix(t, 0).In(loc), true
}

// nextShown returns the first instant from t on at which the zone's clock shows a
// matching minute.
func (s *Schedule) nextShown(t int64, loc *time.Location) (int64, bool) {
	for limit := t + reach; t < limit; {
		p := periodAt(t, loc)
		end := min(p.end, limit)
		if w, ok := s.nextWall(t+p.offset, end+p.offset); ok {
			return w - p.offset, true
		}
		t = end
	}
	return 0, false
}

// prevShown returns the last instant up to t at which the zone's clock shows a
// matching minute.
func (s *Schedule) prevShown(t int64, loc *time.Location) (int64, bool) {
	for limit := t - reach; t > limit; {
		p := periodAt(t, loc)
		start := max(p.start, limit)
		if w, ok := s.prevWall(t+p.offset, start+p.offset); ok {
			return w - p.offset, true
		}
		t = start - 1
	}
	return 0, false
}

// nextNamed returns the first instant from t on at which a matching time of day is
// reached: the first one that the clock had neither shown nor passed before t.
func (s *Schedule) nextNamed(t int64, loc *time.Location) (int64, bool) {
	from := furthestShown(t-1, loc) + 1
	w, ok := s.nextWall(from, from+reach)
	if !ok {
		return 0, false
	}
	return firstReached(w, loc), true
}

// prevNamed returns the last instant up to t at which a matching time of day
// was reached.
func (s *Schedule) prevNamed(t int64, loc *time.Location) (int64, bool) {
	from := furthestShown(t, loc)
	w, ok := s.prevWall(from, from-reach)
	if !ok {
		return 0, false
	}
	return firstReached(w, loc), true
}
