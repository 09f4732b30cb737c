package directive

import (
	"errors"
	"go/token"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/internal/cron"
)

// maxMissed bounds how many ticks a scheduler queues at once.
const maxMissed = 100_000

func applyEvery(f *fold, p *parts) {
	f.options.SchedulePos = p.Pos
	f.options.Every = f.duration(p, p.words[0], false)
	f.options.Start = len(p.flags) > 0
	f.jitter(p, f.options.Every, "the interval")
}

// jitter parses jitter=, which must be shorter than the time between two ticks,
// because otherwise ticks would overtake each other. An interval of 0 means unknown.
func (f *fold) jitter(p *parts, interval time.Duration, what string) {
	arg, ok := p.keys["jitter"]
	if !ok {
		return
	}
	f.options.Jitter = f.duration(p, arg, false)
	if interval > 0 && f.options.Jitter >= interval {
		f.problem(arg.Pos, "%s: jitter %s is not shorter than %s, %s", p, arg.Text, what, interval)
	}
}

func applyCron(f *fold, p *parts) {
	arg := p.words[0]
	f.options.SchedulePos = p.Pos
	schedule, err := cron.Parse(arg.Text)
	if err != nil {
		f.cronProblem(p, err)
	}
	zone := time.UTC
	if tz, ok := p.keys["tz"]; ok {
		if zone, err = time.LoadLocation(tz.Text); err != nil || tz.Text == "Local" {
			f.problem(tz.Pos, "%s: unknown time zone %q; write an IANA name, as in Europe/Rome", p, tz.Text)
			return
		}
		f.options.Zone = tz.Text
	}
	if schedule == nil {
		return
	}
	f.options.Cron = arg.Text
	f.jitter(p, shortest(schedule, zone), "the shortest time between two ticks")
}

// cronProblem reports an error of package cron at its position within the expression.
func (f *fold) cronProblem(p *parts, err error) {
	pos, why := p.words[0].Pos, err.Error()
	var at *cron.Error
	if errors.As(err, &at) {
		why = at.Reason
		if p.quoted(pos) {
			pos++
		}
		pos = min(pos+token.Pos(at.Offset), p.Pos+token.Pos(len(p.text)))
	}
	f.problem(pos, "%s: %s", p, why)
}

// shortest returns the shortest time between two of the first ticks of a schedule.
func shortest(s *cron.Schedule, zone *time.Location) time.Duration {
	const ticks = 64
	var gap time.Duration
	last, ok := s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), zone)
	for range ticks {
		if !ok {
			break
		}
		var next time.Time
		if next, ok = s.Next(last, zone); ok {
			if d := next.Sub(last); gap == 0 || d < gap {
				gap = d
			}
			last = next
		}
	}
	return gap
}

func applyMissed(f *fold, p *parts) {
	f.options.Missed = f.choice(p, "policy", "skip", "latest", "all")
	arg, ok := p.keys["max"]
	switch {
	case ok && f.options.Missed != "all" && f.options.Missed != "":
		f.problem(arg.Pos, "%s: max= is for //task:missed all", p)
	case ok:
		f.options.MissedMax = f.number(p, arg, "ticks", maxMissed)
	}
}

func applyOverlap(f *fold, p *parts) {
	f.options.SkipOverlap = f.choice(p, "policy", "allow", "skip") == "skip"
}

// choice parses an argument that must be one of a few words.
func (f *fold) choice(p *parts, what string, words ...string) string {
	arg := p.words[0]
	if slices.Contains(words, arg.Text) {
		return arg.Text
	}
	last := len(words) - 1
	f.problem(arg.Pos, "%s: unknown %s %q%s; write %s or %s", p, what, arg.Text, Suggest(arg.Text, words),
		strings.Join(words[:last], ", "), words[last])
	return ""
}
