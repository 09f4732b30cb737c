package cron

import (
	"fmt"
	"time"
)

// ClockChange is what a change of a zone's clock does to the times of an
// expression on one day. [ClockChange.String] says it in English.
type ClockChange struct {
	At    time.Time // the first instant by the new offset, in the zone
	Date  string    // of Times: 2006-01-02
	Times []string  // that fit the expression and which the change skips or repeats: 15:04, at least one
	Runs  Runs
}

// Runs says what becomes of times that a clock skips or shows twice.
type Runs string

// What a schedule does at a change of the clock.
const (
	RunsAfter Runs = "after" // skipped: once for all of them, at the instant of the change
	RunsNever Runs = "never" // skipped: not at all
	RunsFirst Runs = "first" // shown twice: the first time only
	RunsBoth  Runs = "both"  // shown twice: both times
)

// String is the change as a sentence: "on 2026-03-29 02:30 does not exist: it
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

// when says when the change is; with the day if that is another than Date.
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

// timesWords lists a few times; of more it names the first and the last.
func timesWords(times []string) string {
	const few = 4
	if n := len(times); n > few {
		return fmt.Sprintf("the %d times from %s to %s", n, times[0], times[n-1])
	}
	return join(times)
}

// ClockChanges returns what the clock of zone loc, nil is UTC, does to the
// expression in a year, in the order of time. Changes that skip or repeat none
// of its times are left out.
func (s *Schedule) ClockChanges(year int, loc *time.Location) []ClockChange {
	if loc == nil {
		loc = time.UTC
	}
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

// changesAt returns what the change from one period to the next does, a day at
// a time.
func (s *Schedule) changesAt(before, after period, loc *time.Location) []ClockChange {
	at := before.end
	first, limit, runs := at+before.offset, at+after.offset, RunsAfter // skipped
	switch {
	case after.offset < before.offset: // repeated, as far as both show it
		first = max(at+after.offset, before.start+before.offset)
		limit = min(at+before.offset, after.end+after.offset)
		runs = RunsFirst
		if s.realTime {
			runs = RunsBoth
		}
	case s.realTime:
		runs = RunsNever
	}
	var changes []ClockChange
	for w, ok := s.nextWall(first, limit); ok; w, ok = s.nextWall(w+1, limit) {
		if after.offset > before.offset && firstReached(w, loc) != at {
			continue // the clock had passed it already, and was put back in between
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
