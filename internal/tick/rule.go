package tick

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/cron"
)

// Rule says when a task runs without a caller. The zero Rule has no ticks. Its fields are
// those of taskrt.Timing, which documents them.
type Rule struct {
	Every       time.Duration
	Start       bool
	Cron        string
	Zone        string
	Jitter      time.Duration
	Missed      Missed
	MissedMax   int
	SkipOverlap bool
}

// Missed has the values of taskrt.Missed, which documents them.
type Missed int8

// The values of Missed.
const (
	MissedLatest Missed = iota
	MissedSkip
	MissedAll
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
