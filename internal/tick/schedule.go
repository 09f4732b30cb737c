package tick

import (
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

// schedule is a schedule with the last of its ticks that is processed.
type schedule struct {
	task     *Task
	queue    string
	rule     Rule // of a dynamic schedule only Missed, MissedMax and SkipOverlap are set
	table    Timetable
	begun    bool
	last     time.Time // the last processed tick
	counted  time.Time // up to which tick, without it, those that were missed are counted
	start    string    // the id of the run at the scheduler's start; empty: it has none yet
	disabled bool      // its task is disabled

	others    int       // ticks in a row that other schedulers had claimed
	claimRead time.Time // when the last claimed tick was read

	dynamic *broker.Schedule // as the broker stores it; nil: the schedule is the task's
	changed bool             // dynamic was changed or deleted since it was read

	wake  time.Time        // when there is something to do
	retry *backoff.Backoff // nil unless the last try failed
}

const (
	onTime          = time.Minute     // after its instant a tick counts as missed
	disabledRecheck = 5 * time.Second // between two questions whether a task is enabled again
)

// due returns the ticks after the last processed one whose time has come, the
// earliest first. Unless missed ticks run, it returns the latest alone.
func (s *schedule) due(now time.Time) []time.Time {
	most := 1
	if s.rule.Missed == MissedAll {
		most = s.rule.MissedMax
		if most <= 0 {
			most = defaultMissedMax
		}
	}
	var ticks []time.Time
	tick, ok := s.table.Latest(now)
	for ; ok && tick.After(s.last) && len(ticks) < most; tick, ok = s.table.Latest(tick.Add(-1)) {
		if !s.at(tick).After(now) {
			ticks = append(ticks, tick)
		}
	}
	slices.Reverse(ticks)
	return ticks
}

// skips reports whether a due tick was missed and does not run.
func (s *schedule) skips(tick, now time.Time, latest bool) bool {
	return s.rule.Missed == MissedSkip && (!latest || now.Sub(s.at(tick)) > onTime)
}

// at returns when a tick's run is queued.
func (s *schedule) at(tick time.Time) time.Time { return s.rule.At(s.name(), tick) }

// next returns when the next tick is due, false if there is none.
func (s *schedule) next(now time.Time) (time.Time, bool) {
	var first time.Time
	earliest := now.Add(-s.rule.Jitter) // ticks whose jitter is not over
	tick, ok := s.table.Next(earliest.Add(-1))
	for ; ok && (first.IsZero() || tick.Before(first)); tick, ok = s.table.Next(tick) {
		if at := s.at(tick); at.After(now) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first, !first.IsZero()
}

// setWake sets when there is something to do again. The error is that of the last
// try.
func (s *schedule) setWake(now time.Time, err error) {
	next, ok := s.next(now)
	switch {
	case err != nil:
		if s.retry == nil {
			s.retry = backoff.New(100*time.Millisecond, 5*time.Second)
		}
		next = now.Add(s.retry.Next())
	case s.disabled:
		next = now.Add(disabledRecheck)
	case !ok:
		next = now.AddDate(1, 0, 0) // there may be one when it has come nearer
	}
	if err == nil {
		s.retry = nil
	}
	s.wake = next.Round(0)
}

// run makes the run of a tick, or of the scheduler's start.
func (s *schedule) run(now time.Time) *broker.TaskRun {
	var run *broker.TaskRun
	if s.dynamic != nil {
		run = s.dynamicRun(now)
	} else {
		run = s.task.NewRun(now)
	}
	if s.rule.SkipOverlap {
		// A key that //task:unique has made serves both, if it lasts as long as
		// the run.
		rules := run.Rules.OrZero()
		rules.UniqueFor, rules.UntilStart = 0, false
		if rules.Unique == "" {
			rules.Unique = "tick/" + s.name()
		}
		run.Rules = &rules
	}
	return run
}

// dynamicRun makes the run of a tick of a dynamic schedule. The policies are those
// that the task has now.
func (s *schedule) dynamicRun(now time.Time) *broker.TaskRun {
	run := *s.dynamic.Run
	run.QueuedAt, run.OwnID = now, false
	fresh := broker.TaskRun{Payload: run.Payload}
	if s.task.ApplyPolicies(&fresh) == nil { // else the policies stay as they were
		run.Rules = fresh.Rules
	}
	return &run
}

// name returns the name that the ids of the ticks' runs begin with.
func (s *schedule) name() string {
	if s.dynamic != nil {
		return "schedule/" + s.dynamic.ID
	}
	return s.task.Name
}

// countTicks returns how many ticks there are between two instants, at most one
// more than maxSkipped.
func (s *schedule) countTicks(from, to time.Time) (n int) {
	tick, ok := s.table.Next(from)
	for ; ok && !tick.After(to) && n <= maxSkipped; tick, ok = s.table.Next(tick) {
		n++
	}
	return n
}
