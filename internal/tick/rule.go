package tick

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/cron"
)

// Rule says when a task runs without a caller: at an interval or by a cron
// expression. The zero Rule has no ticks.
type Rule struct {
	Every  time.Duration // at multiples of this since the Unix epoch
	Start  bool          // once more when a scheduler starts
	Cron   string
	Zone   string        // of Cron, an IANA name; empty: UTC
	Jitter time.Duration // each tick is moved by less than this

	Missed    Missed
	MissedMax int // of MissedAll; 0: 100

	// SkipOverlap leaves a tick out while the run of an earlier one lives.
	SkipOverlap bool
}

// Missed says what becomes of the ticks that no scheduler was up for.
type Missed int8

// The values are those of package runtime's constants.
const (
	MissedLatest Missed = iota // the last of them runs once
	MissedSkip                 // none runs
	MissedAll                  // each runs, the latest MissedMax of them
)

const defaultMissedMax = 100

// Timetable returns the instants that the rule names, nil if it has none.
func (r *Rule) Timetable() (Timetable, error) {
	switch {
	case r.Every != 0 && r.Cron != "":
		return nil, errors.New("it has both an interval and a cron expression")
	case r.Every < 0 || r.Jitter < 0:
		return nil, errors.New("its interval or jitter is negative")
	case r.Every > 0 && r.Jitter >= r.Every:
		return nil, fmt.Errorf("its jitter %s is not less than its interval %s", r.Jitter, r.Every)
	case r.Every > 0:
		return interval(r.Every), nil
	case r.Cron == "":
		return nil, nil
	}
	schedule, err := cron.Parse(r.Cron)
	if err != nil {
		return nil, err
	}
	zone, err := time.LoadLocation(r.Zone) // "" is UTC
	if err != nil {
		return nil, err
	}
	return calendar{schedule, zone}, nil
}

// At returns when the run of a task's tick is queued: at the tick, moved by the
// rule's jitter.
func (r *Rule) At(task string, tick time.Time) time.Time {
	return tick.Add(jitter(task, tick, r.Jitter))
}

// minEvery is the shortest interval of a dynamic schedule.
const minEvery = time.Second

// Parse reads when a dynamic schedule has its ticks: spec is a cron expression, or
// "@every" and a duration.
func Parse(spec, zone string) (Timetable, error) {
	if len(spec) > broker.MaxSpec {
		return nil, fmt.Errorf("the schedule has %d bytes, at most %d are allowed", len(spec), broker.MaxSpec)
	}
	rest, ok := strings.CutPrefix(spec, "@every ")
	if !ok {
		return parseCron(spec, zone)
	}
	every, err := time.ParseDuration(strings.TrimSpace(rest))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%q is not \"@every\" and a duration such as 10m", spec)
	case every < minEvery:
		return nil, fmt.Errorf("the interval %s is shorter than %s", every, minEvery)
	case zone != "":
		return nil, fmt.Errorf("an interval has no time zone; leave %q out, or use a cron expression", zone)
	}
	return interval(every), nil
}

func parseCron(spec, zone string) (Timetable, error) {
	if zone == "Local" {
		return nil, errors.New("the time zone Local is another one on each machine; name it, such as Europe/Rome")
	}
	rule := Rule{Cron: spec, Zone: zone}
	table, err := rule.Timetable()
	if table == nil && err == nil {
		err = errors.New(`the schedule is empty; write a cron expression, or "@every" and a duration such as 10m`)
	}
	return table, err
}

// Later returns the later of two instants.
func Later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
