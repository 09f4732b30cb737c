package cron

import (
	"cmp"
	"time"
)

// A wall time is the time that a zone's clock shows, counted in seconds since the
// Unix epoch as if the clock were in UTC.

// maxShift is longer than any clock change, in seconds: crossing the date line takes
// 24 hours.
const maxShift = 48 * 3600

// never is before the start of a zone's first period and, negated, after the end of
// its last.
const never = -1 << 50

// period is a time in which a zone's offset is constant, from start up to but
// excluding end.
type period struct{ start, end, offset int64 }

func periodAt(t int64, loc *time.Location) period {
	at := time.Unix(t, 0).In(loc)
	_, offset := at.Zone()
	start, end := at.ZoneBounds()
	p := period{start: never, end: -never, offset: int64(offset)}
	if !start.IsZero() {
		p.start = start.Unix()
	}
	if !end.IsZero() {
		p.end = end.Unix()
	}
	// Beyond the years in a zone's file, ZoneBounds ends a leap year one day early
	// (go.dev/issue/81583): on 31 December, end has already passed. No clock changes
	// on that day by such a rule, and the next day is right again.
	if p.end <= t {
		const day = 86400
		p.end = t + day - mod(t, day)
	}
	return p
}

// furthestShown returns the latest wall time that the zone's clock has shown up to
// instant t: the time it shows at t, unless it was put back shortly before.
func furthestShown(t int64, loc *time.Location) int64 {
	p := periodAt(t, loc)
	wall := t + p.offset
	for start := p.start; start > t-maxShift; start = p.start {
		p = periodAt(start-1, loc)
		wall = max(wall, start-1+p.offset)
	}
	return wall
}

// firstReached returns the first instant at which the zone's clock shows wall or, if
// the clock skips it, a later time.
func firstReached(wall int64, loc *time.Location) int64 {
	t := wall - periodAt(wall, loc).offset - maxShift
	for {
		p := periodAt(t, loc)
		at := max(p.start, wall-p.offset)
		if at < p.end || p.end == -never {
			return at
		}
		t = p.end
	}
}

// orUTC returns loc, or UTC for nil.
func orUTC(loc *time.Location) *time.Location { return cmp.Or(loc, time.UTC) }
