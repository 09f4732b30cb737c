package runtime

import (
	"container/heap"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// entry is one schedule and the last of its ticks that is dealt with.
type entry struct {
	spec  Spec
	task  *Task
	table timetable
	begun bool
	last  time.Time
	start string // the id of the run at the scheduler's start, once it has one
	held  bool   // its task is disabled

	others int       // ticks in a row that others had claimed
	looked time.Time // when it was last read which tick was claimed last

	made *broker.Schedule // the schedule made at run time that it is; nil: it is the task's
	gone bool             // that was changed or deleted

	wake  time.Time // when there is something to do
	retry *backoff  // nil unless the last try failed
}

const (
	onTime           = time.Minute     // after its instant a tick counts as missed
	heldFor          = 5 * time.Second // until it is seen whether a task is enabled again
	defaultMissedMax = 100
	emptyPayload     = "\x80" // an empty map: parameters have their defaults
)

// due returns the ticks after the last one that is dealt with whose time has
// come, the earliest first: all if missed ones are to run, else the latest.
func (e *entry) due(now time.Time) []time.Time {
	most := 1
	if e.spec.Schedule.Missed == MissedAll {
		most = e.spec.Schedule.MissedMax
		if most <= 0 {
			most = defaultMissedMax
		}
	}
	var ticks []time.Time
	tick, ok := e.table.latest(now)
	for ; ok && tick.After(e.last) && len(ticks) < most; tick, ok = e.table.latest(tick.Add(-1)) {
		if !e.at(tick).After(now) {
			ticks = append(ticks, tick)
		}
	}
	slices.Reverse(ticks)
	return ticks
}

// skips reports whether a due tick is one that was missed and does not run.
func (e *entry) skips(tick, now time.Time, latest bool) bool {
	return e.spec.Schedule.Missed == MissedSkip && (!latest || now.Sub(e.at(tick)) > onTime)
}

// at is when a tick's run is queued.
func (e *entry) at(tick time.Time) time.Time {
	return tick.Add(jitter(e.name(), tick, e.spec.Schedule.Jitter))
}

// next is when the next tick is due if none is now, false if there is none.
func (e *entry) next(now time.Time) (time.Time, bool) {
	var first time.Time
	earliest := now.Add(-e.spec.Schedule.Jitter) // ticks whose jitter is not over
	tick, ok := e.table.next(earliest.Add(-1))
	for ; ok && (first.IsZero() || tick.Before(first)); tick, ok = e.table.next(tick) {
		if at := e.at(tick); at.After(now) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first, !first.IsZero()
}

// plan sets when there is something to do again, after what there was at an
// instant was done or, with an error, was not.
func (e *entry) plan(now time.Time, err error) {
	next, ok := e.next(now)
	switch {
	case err != nil:
		if e.retry == nil {
			e.retry = newBackoff(100*time.Millisecond, 5*time.Second)
		}
		next = now.Add(e.retry.draw())
	case e.held:
		next = now.Add(heldFor)
	case !ok:
		next = now.AddDate(1, 0, 0) // there may be one when it has come nearer
	}
	if err == nil {
		e.retry = nil
	}
	e.wake = next.Round(0)
}

// run makes the run of a tick, or of the scheduler's start.
func (e *entry) run(now time.Time) *broker.TaskRun {
	var run *broker.TaskRun
	if e.made != nil {
		run = e.madeRun(now)
	} else {
		run = e.spec.newRun(now)
		run.Payload = []byte(emptyPayload)
		// Without a default for a parameter it ends as a schema failure anyway.
		_ = e.task.applyPolicies(run)
	}
	if e.spec.Schedule.SkipOverlap {
		// A key that //task:unique has made serves both, if it lasts as long as
		// the run.
		rules := run.Rules.OrZero()
		rules.UniqueFor, rules.UntilStart = 0, false
		if rules.Unique == "" {
			rules.Unique = "tick/" + e.name()
		}
		run.Rules = &rules
	}
	return run
}

// name is what a tick's run is named by.
func (e *entry) name() string {
	if e.made != nil {
		return "entry/" + e.made.ID
	}
	return e.spec.Name
}

// agenda is entries in the order in which there is something to do.
type agenda []*entry

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].wake.Before(a[j].wake) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(*entry)) }

func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return e
}

// take removes and returns the entries that have something to do now.
func (a *agenda) take(now time.Time) []*entry {
	var due []*entry
	for len(*a) > 0 && !(*a)[0].wake.After(now) {
		due = append(due, heap.Pop(a).(*entry))
	}
	return due
}
