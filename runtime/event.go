package runtime

import (
	"runtime/debug"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// EventKind tells what happened to a run.
type EventKind string

// What can happen to a run at a consumer.
const (
	RunStarted   EventKind = "started"   // an attempt begins
	RunSucceeded EventKind = "succeeded" // it has ended well
	RunRetried   EventKind = "retried"   // the attempt failed, or its process died; there will be another
	RunFailed    EventKind = "failed"    // it has failed for good and is a dead letter
	RunDropped   EventKind = "dropped"   // it has ended as cancelled or expired, or was to follow another and was left out as a duplicate
	RunReturned  EventKind = "returned"  // it goes back to its queue, unpunished, or starts elsewhere as the lease was lost
)

// Event is something that happened to a run, as a consumer saw it. The broker
// hears of an end a little later, and may then no longer count it, when the lease
// was lost meanwhile.
type Event struct {
	Kind EventKind
	Run  *Run
	Err  *RunError     // of RunRetried, RunFailed and RunDropped
	Took time.Duration // of the attempt, if there was one
	Wait time.Duration // of RunRetried: until the next attempt
}

// notifyStart calls OnEvent: an attempt begins.
func (c *Consumer) notifyStart(run *Run) {
	if c.cfg.OnEvent != nil {
		c.notify(Event{Kind: RunStarted, Run: run})
	}
}

// notifyEnd calls OnEvent with what becomes of a run. Without an attempt, run is nil and
// took zero.
func (c *Consumer) notifyEnd(o *broker.Outcome, run *Run, took time.Duration) {
	if c.cfg.OnEvent == nil {
		return
	}
	if run == nil {
		run = new(Run)
		run.init(o.Run, time.Time{})
	}
	e := Event{Run: run, Took: took}
	switch o.Verdict {
	case broker.Succeeded:
		e.Kind = RunSucceeded
	case broker.Dead:
		e.Kind = RunFailed
	case broker.Dropped:
		e.Kind = RunDropped
	default:
		e.Kind, e.Wait = RunRetried, o.Delay
		if o.Failure == nil {
			e.Kind = RunReturned
		}
	}
	if f := o.Failure; f != nil {
		e.Err = &RunError{Task: o.Run.Task, ID: o.Run.ID, Kind: f.Kind, Attempt: o.Run.Attempt, Message: f.Message, Stack: f.Stack}
	}
	c.notify(e)
}

// notify calls OnEvent. A panic of it does not fail the run.
func (c *Consumer) notify(e Event) {
	defer func() {
		if v := recover(); v != nil {
			c.logger.Error("OnEvent panicked", "event", e.Kind, "run", e.Run.ID, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	c.cfg.OnEvent(e)
}

// ask calls Retry. It returns asked as false if there is no Retry, or if that panics: then
// the task's own policy decides.
func (c *Consumer) ask(x *execution, err error) (wait time.Duration, again, asked bool) {
	if c.cfg.Retry == nil {
		return 0, false, false
	}
	defer func() {
		if v := recover(); v != nil {
			f := failureOf(x, x.secrets, &panicError{v, debug.Stack()})
			c.logger.Error("Retry panicked", "run", x.info.ID, "panic", f.Message, "stack", f.Stack)
			asked = false
		}
	}()
	wait, again = c.cfg.Retry(&x.info, err)
	return wait, again, true
}
