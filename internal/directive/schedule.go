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

func applyEvery(b *builder, p *parts) {
	b.options.SchedulePos = p.Pos
	b.options.Every = b.duration(p, p.words[0], false)
	b.options.Start = len(p.flags) > 0
	b.jitter(p, b.options.Every, "the interval")
}

// jitter parses jitter=, which must be shorter than the time between two ticks,
// because otherwise ticks would overtake each other. An interval of 0 means unknown.
func (b *builder) jitter(p *parts, interval time.Duration, what string) {
	arg, ok := p.keys["jitter"]
	if !ok {
		return
	}
	b.options.Jitter = b.duration(p, arg, false)
	if interval > 0 && b.options.Jitter >= interval {
		b.problem(arg.Pos, "%s: jitter %s is not shorter than %s, %s", p, arg.Text, what, interval)
	}
}

func applyCron(b *builder, p *parts) {
	arg := p.words[0]
	b.options.SchedulePos = p.Pos
	schedule, err := cron.Parse(arg.Text)
	if err != nil {
		b.cronProblem(p, err)
	}
	zone := time.UTC
	if tz, ok := p.keys["tz"]; ok {
		if zone, err = time.LoadLocation(tz.Text); err != nil || tz.Text == "Local" {
			b.problem(tz.Pos, "%s: unknown time zone %q; write an IANA name, as in Europe/Rome", p, tz.Text)
			return
		}
		b.options.Zone = tz.Text
	}
	if schedule == nil {
		return
	}
	b.options.Cron = arg.Text
	b.jitter(p, shortest(schedule, zone), "the shortest time between two ticks")
}

// cronProblem reports an error of package cron at its position within the expression.
func (b *builder) cronProblem(p *parts, err error) {
	pos, why := p.words[0].Pos, err.Error()
	var at *cron.Error
	if errors.As(err, &at) {
		why = at.Reason
		if p.quoted(pos) {
			pos++
		}
		pos = min(pos+token.Pos(at.Offset), p.Pos+token.Pos(len(p.text)))
	}
	b.problem(pos, "%s: %s", p, why)
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

func applyMissed(b *builder, p *parts) {
	b.options.Missed = b.choice(p, "policy", "skip", "latest", "all")
	arg, ok := p.keys["max"]
	switch {
	case ok && b.options.Missed != "all" && b.options.Missed != "":
		b.problem(arg.Pos, "%s: max= is for //task:missed all", p)
	case ok:
		b.options.MissedMax = b.number(p, arg, "ticks", maxMissed)
	}
}

func applyOverlap(b *builder, p *parts) {
	b.options.SkipOverlap = b.choice(p, "policy", "allow", "skip") == "skip"
}

// choice parses an argument that must be one of a few words.
func (b *builder) choice(p *parts, what string, words ...string) string {
	arg := p.words[0]
	if slices.Contains(words, arg.Text) {
		return arg.Text
	}
	b.problem(arg.Pos, "%s: unknown %s %q%s; write %s", p, what, arg.Text, Suggest(arg.Text, words), oneOf(words))
	return ""
}

// oneOf lists words: high, medium or low.
func oneOf(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
