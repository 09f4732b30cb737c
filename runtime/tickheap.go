package runtime

import (
	"container/heap"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

// schedule is one schedule and the last of its ticks that is dealt with.
type schedule struct {
	spec     Spec
	task     *Task
	table    timetable
	begun    bool
	last     time.Time
	start    string // the id of the run at the scheduler's start, once it has one
	disabled bool   // its task is disabled

	others    int       // ticks in a row that others had claimed
	claimRead time.Time // when it was last read which tick was claimed last

	dynamic *broker.Entry // the schedule made at run time that it is; nil: it is the task's
	changed bool          // that was changed or deleted

	wake  time.Time        // when there is something to do
	retry *backoff.Backoff // nil unless the last try failed
}

const (
	onTime           = time.Minute     // after its instant a tick counts as missed
	disabledRecheck  = 5 * time.Second // until it is seen whether a task is enabled again
	defaultMissedMax = 100
	emptyPayload     = "\x80" // an empty map: parameters have their defaults
)

// due returns the ticks after the last one that is dealt with whose time has
// come, the earliest first: all if missed ones are to run, else the latest.
func (e *schedule) due(now time.Time) []time.Time {
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
func (e *schedule) skips(tick, now time.Time, latest bool) bool {
	return e.spec.Schedule.Missed == MissedSkip && (!latest || now.Sub(e.at(tick)) > onTime)
}

// at is when a tick's run is queued.
func (e *schedule) at(tick time.Time) time.Time {
	return tick.Add(jitter(e.name(), tick, e.spec.Schedule.Jitter))
}

// next is when the next tick is due if none is now, false if there is none.
func (e *schedule) next(now time.Time) (time.Time, bool) {
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

// setWake sets when there is something to do again, after what there was at an
// instant was done or, with an error, was not.
func (e *schedule) setWake(now time.Time, err error) {
	next, ok := e.next(now)
	switch {
	case err != nil:
		if e.retry == nil {
			e.retry = backoff.New(100*time.Millisecond, 5*time.Second)
		}
		next = now.Add(e.retry.Next())
	case e.disabled:
		next = now.Add(disabledRecheck)
	case !ok:
		next = now.AddDate(1, 0, 0) // there may be one when it has come nearer
	}
	if err == nil {
		e.retry = nil
	}
	e.wake = next.Round(0)
}

// run makes the run of a tick, or of the scheduler's start.
func (e *schedule) run(now time.Time) *broker.TaskRun {
	var run *broker.TaskRun
	if e.dynamic != nil {
		run = e.dynamicRun(now)
	} else {
		run = e.spec.newRun(now)
		run.Payload = []byte(emptyPayload)
		// Without a default for a parameter it ends as a schema failure anyway.
		_ = e.task.police(run)
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
func (e *schedule) name() string {
	if e.dynamic != nil {
		return "entry/" + e.dynamic.ID
	}
	return e.spec.Name
}

// tickHeap is schedules in the order in which there is something to do.
type tickHeap []*schedule

func (h tickHeap) Len() int           { return len(h) }
func (h tickHeap) Less(i, j int) bool { return h[i].wake.Before(h[j].wake) }
func (h tickHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *tickHeap) Push(x any)        { *h = append(*h, x.(*schedule)) }

func (h *tickHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}

// take removes and returns the schedules that have something to do now.
func (h *tickHeap) take(now time.Time) []*schedule {
	var due []*schedule
	for len(*h) > 0 && !(*h)[0].wake.After(now) {
		due = append(due, heap.Pop(h).(*schedule))
	}
	return due
}
