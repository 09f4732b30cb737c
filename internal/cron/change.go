package cron

import (
	"fmt"
	"time"
)

// ClockChange is the effect of one clock change of a zone on the times of an
// expression on one day. [ClockChange.String] describes it in English.
type ClockChange struct {
	At    time.Time // the first instant with the new offset, in the zone
	Date  string    // the day of Times: 2006-01-02
	Times []string  // times that match the expression and that the change skips or repeats: 15:04, at least one
	Runs  Runs
}

// Runs is what a schedule does at times that a clock change skips or repeats.
type Runs string

// The effects of a clock change.
const (
	RunsAfter Runs = "after" // skipped: once for all of them, at the instant of the change
	RunsNever Runs = "never" // skipped: not at all
	RunsFirst Runs = "first" // repeated: the first time only
	RunsBoth  Runs = "both"  // repeated: both times
)

// String describes the change in English: "on 2026-03-29 02:30 does not exist: it
// runs at 03:00".
func (c ClockChange) String() string {
	one := len(c.Times) == 1
	choose := func(singular, plural string) string {
		if one {
			return singular
		}
		return plural
	}
	what := fmt.Sprintf("on %s %s ", c.Date, timesWords(c.Times))
	switch c.Runs {
	case RunsAfter:
		return what + choose("does not exist: it runs ", "do not exist: they run once, ") + c.when()
	case RunsNever:
		return what + choose("does not exist: it does not run", "do not exist: they do not run")
	case RunsFirst:
		return what + choose("comes twice: it runs the first time", "come twice: they run the first time")
	}
	return what + choose("comes twice: it runs both times", "come twice: they run both times")
}

// when returns the time of the change, with its date if that differs from Date.
func (c ClockChange) when() string {
	layout := "15:04"
	if c.At.Second() != 0 {
		layout = "15:04:05"
	}
	if date := c.At.Format(time.DateOnly); date != c.Date {
		return "on " + date + " at " + c.At.Format(layout)
	}
	return "at " + c.At.Format(layout)
}

// timesWords lists a few times; of many, it names the first and the last.
func timesWords(times []string) string {
	const few = 4
	if n := len(times); n > few {
		return fmt.Sprintf("the %d times from %s to %s", n, times[0], times[n-1])
	}
	return join(times)
}

// ClockChanges returns the effects of a year's clock changes in zone loc (nil means
// UTC) on the expression, in order of time. It omits changes that skip or repeat none
// of its times.
func (s *Schedule) ClockChanges(year int, loc *time.Location) []ClockChange {
	loc = orUTC(loc)
	var changes []ClockChange
	end := firstReached(wall(year+1, 1, 1, 0, 0), loc)
	before := periodAt(firstReached(wall(year, 1, 1, 0, 0), loc)-1, loc)
	for before.end < end {
		after := periodAt(before.end, loc)
		changes = append(changes, s.changesAt(before, after, loc)...)
		before = after
	}
	return changes
}

// changesAt returns the effects of the change from one period to the next, one for
// each day.
func (s *Schedule) changesAt(before, after period, loc *time.Location) []ClockChange {
	at := before.end
	first, limit, runs := s.affected(before, after)
	var changes []ClockChange
	for w, ok := s.nextWall(first, limit); ok; w, ok = s.nextWall(w+1, limit) {
		if after.offset > before.offset && firstReached(w, loc) != at {
			continue // the clock had shown it before an earlier change back
		}
		shown := time.Unix(w, 0).UTC()
		date, last := shown.Format(time.DateOnly), len(changes)-1
		if last < 0 || changes[last].Date != date {
			changes = append(changes, ClockChange{At: time.Unix(at, 0).In(loc), Date: date, Runs: runs})
			last++
		}
		changes[last].Times = append(changes[last].Times, shown.Format("15:04"))
	}
	return changes
}

// affected returns the wall times that the change from one period to the next skips or
// repeats, from first up to limit, and what the schedule does at them.
func (s *Schedule) affected(before, after period) (first, limit int64, runs Runs) {
	at := before.end
	if after.offset < before.offset { // repeated where both periods show it
		first = max(at+after.offset, before.start+before.offset)
		limit = min(at+before.offset, after.end+after.offset)
		if s.realTime {
			return first, limit, RunsBoth
		}
		return first, limit, RunsFirst
	}
	if s.realTime {
		return at + before.offset, at + after.offset, RunsNever
	}
	return at + before.offset, at + after.offset, RunsAfter
}
