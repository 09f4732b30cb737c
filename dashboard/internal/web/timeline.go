package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// timeline is what became of a run, in turn.
type timeline struct {
	Steps []timeStep
	Bars  []shape // the same as a drawing: waits and attempts
	Label string
	Note  string
}

// timeStep is a moment of a timeline.
type timeStep struct {
	Class string // of its dot
	Title string
	At    time.Time
	Wait  string // how long it waited before
	Took  string
	Text  string
	Host  string
}

// period is a part of a timeline's drawing.
type period struct {
	from, to time.Time
	colour   string
}

// newTimeline returns the attempts of a run that are known, with the waits between them.
func newTimeline(d *taskrt.RunDetail, now time.Time) *timeline {
	t := new(timeline)
	var periods []period
	last := d.QueuedAt
	if !last.IsZero() {
		t.Steps = append(t.Steps, timeStep{Class: "s-queued", Title: "Queued", At: last})
	}
	first := max(d.Attempt-len(d.Attempts), 0)
	if first > 0 {
		t.Note = fmt.Sprintf("The first %d attempts are not kept: a run keeps its last %d.", first, broker.MaxHistory)
		last = time.Time{}
	}
	wait := func(until time.Time) string {
		if last.IsZero() || until.IsZero() || until.Before(last) {
			return ""
		}
		periods = append(periods, period{last, until, "grey"})
		return span(until.Sub(last))
	}
	for i, a := range d.Attempts {
		s := timeStep{Class: "s-failed", Title: fmt.Sprintf("Attempt %d: %s", first+i+1, a.Kind), At: a.Started, Wait: wait(a.Started), Text: a.Message, Host: a.Host}
		colour := "red"
		if a.Kind == "" {
			s.Class, s.Title, colour = "s-succeeded", fmt.Sprintf("Attempt %d succeeded", first+i+1), "green"
		}
		if a.Took > 0 {
			s.Took = "after " + span(a.Took)
		}
		if !a.Started.IsZero() {
			last = a.Started.Add(a.Took)
			periods = append(periods, period{a.Started, last, colour})
		}
		t.Steps = append(t.Steps, s)
	}
	t.addEnd(d, now, wait, &periods)
	t.draw(periods)
	return t
}

// addEnd adds how the run is now.
func (t *timeline) addEnd(d *taskrt.RunDetail, now time.Time, wait func(time.Time) string, periods *[]period) {
	switch d.State {
	case broker.StateRunning:
		s := timeStep{Class: "s-running", Title: fmt.Sprintf("Attempt %d goes on", d.Attempt+1), At: d.Started, Wait: wait(d.Started), Host: d.Host}
		if !d.Started.IsZero() {
			s.Took = "for " + span(max(now.Sub(d.Started), time.Millisecond)) + " so far"
			*periods = append(*periods, period{d.Started, now, "blue"})
		}
		t.Steps = append(t.Steps, s)
	case broker.StateDelayed:
		s := timeStep{Class: "s-delayed", Title: "Waits until it is due", At: d.Due}
		if d.Attempt > 0 {
			s.Title = fmt.Sprintf("Attempt %d is due", d.Attempt+1)
		}
		t.Steps = append(t.Steps, s)
	case broker.StateQueued:
		t.Steps = append(t.Steps, timeStep{Class: "s-queued", Title: "Waits for a consumer", Wait: wait(now)})
	case broker.StateCancelled:
		t.Steps = append(t.Steps, timeStep{Class: "s-cancelled", Title: "Cancelled", At: d.Ended})
	case broker.StateFailed:
		s := timeStep{Class: "s-failed", Title: "Failed", At: d.Ended}
		if d.Dead != nil {
			s.Title = "Became a dead letter"
		}
		t.Steps = append(t.Steps, s)
	}
}

// draw draws the periods to scale. What is short is as wide as can be seen.
func (t *timeline) draw(periods []period) {
	if len(periods) == 0 {
		return
	}
	from, to := periods[0].from, periods[0].to
	for _, p := range periods {
		if p.from.Before(from) {
			from = p.from
		}
		if p.to.After(to) {
			to = p.to
		}
	}
	whole := max(to.Sub(from), time.Millisecond)
	paths := map[string]*strings.Builder{}
	for _, p := range periods {
		x := chartWidth * float64(p.from.Sub(from)) / float64(whole)
		w := max(chartWidth*float64(p.to.Sub(p.from))/float64(whole), 3)
		x = min(x, chartWidth-w)
		b := paths[p.colour]
		if b == nil {
			b = new(strings.Builder)
			paths[p.colour] = b
		}
		top, tall := 4, 12
		if p.colour == "grey" {
			top, tall = 9, 2
		}
		fmt.Fprintf(b, "M%s %dh%sv%dh-%sz", short(x), top, short(w), tall, short(w))
	}
	for _, c := range []struct{ colour, name string }{{"grey", "waits"}, {"red", "attempts that failed"}, {"green", "the attempt that succeeded"}, {"blue", "the attempt that goes on"}} {
		if b := paths[c.colour]; b != nil {
			t.Bars = append(t.Bars, shape{c.name, c.colour, b.String()})
		}
	}
	t.Label = fmt.Sprintf("%s in all, from its queueing on", span(whole))
}
