package cron

import "time"

// What a zone's clock shows is counted in seconds, too: those since the Unix
// epoch if the clock were one in UTC. It is called wall below.

// maxShift is longer than any clock was ever put forward or back, in seconds:
// crossing the date line takes 24 hours.
const maxShift = 48 * 3600

// never stands for the start of a zone's first period and, negated, for the end
// of its last.
const never = -1 << 50

// period is a stretch of time in which a zone's offset stays the same, from
// start up to, not including, end.
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
	// Beyond the years that a zone's file lists, ZoneBounds ends a leap year a
	// day early (go.dev/issue/81583): on 31 December the end has passed already.
	// By such a rule no clock changes that day, and the next is right again.
	if p.end <= t {
		const day = 86400
		p.end = t + day - mod(t, day)
	}
	return p
}

// furthestShown returns the latest wall that the zone's clock has shown up to
// instant t. It is what the clock shows at t, unless it was put back shortly
// before.
func furthestShown(t int64, loc *time.Location) int64 {
	p := periodAt(t, loc)
	wall := t + p.offset
	for start := p.start; start > t-maxShift; start = p.start {
		p = periodAt(start-1, loc)
		wall = max(wall, start-1+p.offset)
	}
	return wall
}

// firstReached returns the first instant at which the zone's clock shows wall
// or, where the clock skips it, a later one.
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
