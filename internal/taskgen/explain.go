package taskgen

import (
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/internal/cron"
	"github.com/taskgen/taskgen/internal/directive"
)

// upcoming is how many instants of a schedule are shown.
const upcoming = 5

// Explanation describes a schedule as seen from [Config].Now. It ignores jitter and
// runs at start.
type Explanation struct {
	Words        string        `json:"words"`                  // in English
	TimesADay    TimesADay     `json:"timesADay"`              // of a cron expression: in the year of Now
	RareDays     []RareDay     `json:"rareDays,omitempty"`     // of a cron expression: named days of the month that not each of its months has, in the year of Now
	Next         []time.Time   `json:"next"`                   // after Now, in the schedule's zone; fewer than five if no more follow
	ClockChanges []ClockChange `json:"clockChanges,omitempty"` // of a cron expression: in the year of Now
}

// TimesADay is the least and the greatest number of ticks on one day.
type TimesADay struct {
	Min int64 `json:"min"`
	Max int64 `json:"max"`
}

// RareDay is a day of the month from the 29th on that comes in some months alone.
type RareDay struct {
	Day    int    `json:"day"`
	Months int    `json:"months"` // that have the day
	Of     int    `json:"of"`     // months that the expression names
	Words  string `json:"words"`
}

// ClockChange is the effect of a clock change of the zone on a schedule.
type ClockChange struct {
	At    time.Time `json:"at"`    // instant of the change
	Date  string    `json:"date"`  // of Times
	Times []string  `json:"times"` // local times that the change skips or repeats
	Runs  string    `json:"runs"`  // skipped: after (once, at At) or never; repeated: first (first time only) or both
	Words string    `json:"words"`
}

// explain explains a task's schedule.
func explain(o *directive.Options, now time.Time) (*Explanation, error) {
	if o.Cron == "" {
		return explainEvery(o.Every, now), nil
	}
	schedule, err := cron.Parse(o.Cron)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(o.Zone) // "" is UTC
	if err != nil {
		return nil, fmt.Errorf("load time zone: %w", err)
	}
	return explainCron(schedule, zone, now), nil
}

func explainCron(s *cron.Schedule, zone *time.Location, now time.Time) *Explanation {
	year := now.In(zone).Year()
	least, greatest := s.TimesADay(year, zone)
	e := &Explanation{
		Words:     s.Words(),
		TimesADay: TimesADay{Min: int64(least), Max: int64(greatest)},
		Next:      append([]time.Time{}, s.Upcoming(now, zone, upcoming)...), // a list, not null
	}
	for _, d := range s.RareDays(year) {
		e.RareDays = append(e.RareDays, RareDay{Day: d.Day, Months: d.Months, Of: d.Of, Words: d.String()})
	}
	for _, c := range s.ClockChanges(year, zone) {
		e.ClockChanges = append(e.ClockChanges, ClockChange{At: c.At, Date: c.Date, Times: c.Times, Runs: string(c.Runs), Words: c.String()})
	}
	return e
}

// explainEvery explains an interval. As in the scheduler, ticks are multiples of the
// interval since the Unix epoch.
func explainEvery(every time.Duration, now time.Time) *Explanation {
	const day = 24 * time.Hour
	e := &Explanation{Words: "every " + short(every)}
	e.TimesADay.Min = int64(day / every)
	e.TimesADay.Max = e.TimesADay.Min
	if day%every != 0 {
		e.TimesADay.Max++
	}
	at := time.Unix(0, now.UnixNano()/int64(every)*int64(every)).UTC()
	for range upcoming {
		at = at.Add(every)
		e.Next = append(e.Next, at)
	}
	return e
}

// short formats a duration without trailing zeros: 1h30m.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Lines explains the schedule: a line with its words, one for each of the next
// instants, and one for each clock change. It returns nil without a schedule or an
// explanation.
func (s *Schedule) Lines() []string {
	if s == nil || s.Explanation == nil {
		return nil
	}
	words := s.Words + "; " + s.TimesADay.String()
	if s.TimesADay.Max > 0 {
		for _, d := range s.RareDays {
			words += ", " + d.Words
		}
		if len(s.RareDays) == 1 {
			words += " (L is the last day of each)"
		}
	}
	if s.Start {
		words += "; once at start, too"
	}
	if s.Jitter != "" {
		words += "; each up to " + s.Jitter + " later"
	}
	lines := []string{words}
	label := "next "
	for _, at := range s.Next {
		lines = append(lines, label+at.Format("Mon 2006-01-02 15:04:05.999999999 -07:00"))
		label = "     "
	}
	for _, c := range s.ClockChanges {
		lines = append(lines, c.Words)
	}
	return lines
}

// String returns the numbers in a few words.
func (t TimesADay) String() string {
	switch {
	case t.Max == 0:
		return "not this year"
	case t.Max == 1 && t.Min == 1:
		return "once a day"
	case t.Max == 1:
		return "at most once a day"
	case t.Min == t.Max:
		return fmt.Sprintf("%d times a day", t.Max)
	}
	return fmt.Sprintf("%d to %d times a day", t.Min, t.Max)
}
