package runtime

import (
	"fmt"
	"iter"
	"time"

	"github.com/taskgen/taskgen/internal/tick"
)

// Ticks returns the instants after t at which the task runs by its own directives, in
// their order and in the schedule's zone. Jitter is included. A task without a schedule
// has none. It returns an error if the schedule is wrong.
func (t Task) Ticks(after time.Time) (iter.Seq[time.Time], error) {
	rule := t.spec.Schedule.rule()
	table, err := rule.Timetable()
	if err != nil {
		return nil, fmt.Errorf("list ticks of task %s: %w", t.spec.Name, err)
	}
	return ticks(table, after, func(at time.Time) time.Time { return rule.At(t.spec.Name, at) }), nil
}

// Ticks returns the instants after t, and after the schedule was made, at which its
// task runs, in their order and in its zone. It returns an error if this version cannot
// read the schedule.
func (s ScheduledInfo) Ticks(after time.Time) (iter.Seq[time.Time], error) {
	table, err := tick.Parse(s.Spec, s.Zone)
	if err != nil {
		return nil, fmt.Errorf("list ticks of schedule %.64q: %w", s.ID, err)
	}
	return ticks(table, tick.Later(after, s.Since), func(at time.Time) time.Time { return at }), nil
}

func ticks(table tick.Timetable, after time.Time, at func(time.Time) time.Time) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		if table == nil {
			return
		}
		for next, ok := table.Next(after); ok && yield(at(next)); next, ok = table.Next(next) {
		}
	}
}
