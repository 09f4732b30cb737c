package runtime

import (
	"context"
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/counting"
	"github.com/taskgen/taskgen/internal/worker"
)

// EventKind is what happened to a run.
type EventKind string

// What can happen to a run at a consumer.
const (
	RunStarted   EventKind = "started"   // an attempt begins
	RunSucceeded EventKind = "succeeded" // the run succeeded
	RunRetried   EventKind = "retried"   // the attempt failed, or its process died; another attempt follows
	RunFailed    EventKind = "failed"    // the run failed for good and is a dead letter
	RunDropped   EventKind = "dropped"   // the run was cancelled, expired, or is a follow-up that was skipped as a duplicate
	RunReturned  EventKind = "returned"  // the run goes back to its queue, no attempt spent, or the lease was lost and it starts elsewhere

	// These two follow one of the last five, which come before the broker has replied.
	RunRecorded EventKind = "recorded" // the broker has recorded the outcome
	RunFenced   EventKind = "fenced"   // the broker has refused the outcome: the lease was lost, or it had the outcome from a try whose reply was lost
)

// Event is something that happened to a run at a consumer. Durations are by the consumer's
// clock, and never negative.
type Event struct {
	Kind EventKind
	Run  *Run      // shared by the events of an attempt: do not change it
	Err  *RunError // of a run that did not succeed; nil: it started, succeeded or was returned

	// Outcome is what was recorded or refused: RunSucceeded, RunRetried, RunFailed,
	// RunDropped or RunReturned. Of other events it is the Kind. It can differ from the
	// Kind of the event before: a run whose follow-ups cannot be stored fails.
	Outcome EventKind
	Began   time.Time     // of the attempt; zero: there was none
	Took    time.Duration // of the attempt, once it has ended
	Waited  time.Duration // of an attempt: from when the run was due to the start
	Total   time.Duration // of a run that has ended: from its queueing to the end
	Wait    time.Duration // of RunRetried and RunReturned: until the run is due again
}

// Events returns a function for OnEvent of [ConsumerConfig] that calls each of the given
// ones in turn, also if one panics. It leaves out those that are nil.
func Events(fns ...func(Event)) func(Event) {
	var all []func(Event)
	for _, fn := range fns {
		if fn != nil {
			all = append(all, fn)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return func(e Event) { callAll(all, e) }
}

func callAll(fns []func(Event), e Event) {
	if len(fns) > 1 {
		defer callAll(fns[1:], e)
	}
	fns[0](e)
}

// Observer is told of all events of a consumer at once, such as by a package that counts
// them. Unlike OnEvent, it is also called on the goroutines that record outcomes. So it must
// not block: it would delay other runs. It may be called concurrently. It is comparable, such
// as a pointer.
type Observer interface{ Observe(e Event) }

// Observe has an observer told of the rest of the run that ctx belongs to: of its start at
// once, then of its end, and of what the broker does with the outcome. It is for middleware,
// which calls it before next. If the observer is told of the run already, and outside of a
// consumer, Observe does nothing. An observer that is not comparable is told once more for each
// call.
func Observe(ctx context.Context, o Observer) {
	c, ok := ctx.Value(progressKey{}).(*runContext)
	if !ok || c.execution == nil {
		return
	}
	x := c.execution
	n := x.executor.events
	if canCompare(o) && slices.Contains(n.all, o) {
		return
	}
	if by, ok := o.(counting.Observer); ok {
		n.countRun(x, by)
		return
	}
	if !canCompare(o) || !x.observers.has(o) {
		x.observers.add(o)
		n.tell([]Observer{o}, n.startOf(x))
	}
}

// canCompare reports whether an observer can be compared with others without a panic.
func canCompare(o Observer) bool { return reflect.ValueOf(o).Comparable() }

// runObservers are the observers of one run. There is seldom more than one, and each run has
// the memory for that, so it is small.
type runObservers struct {
	first Observer // nil: there are none
	more  *[]Observer
}

func (r *runObservers) add(o Observer) {
	switch {
	case r.first == nil:
		r.first = o
	case r.more == nil:
		r.more = &[]Observer{o}
	default:
		*r.more = append(*r.more, o)
	}
}

func (r *runObservers) has(o Observer) bool {
	return r.first == o || r.more != nil && slices.Contains(*r.more, o)
}

// told reports whether there is an observer that does not count by itself.
func (r *runObservers) told() bool {
	if r.first == nil {
		return false
	}
	_, counts := r.first.(*counter)
	return !counts || r.more != nil && slices.ContainsFunc(*r.more, func(o Observer) bool {
		_, counts := o.(*counter)
		return !counts
	})
}

// counters calls do for each of those that count by themselves.
func (r *runObservers) counters(do func(*counter)) {
	if c, ok := r.first.(*counter); ok {
		do(c)
	}
	if r.more == nil {
		return
	}
	for _, o := range *r.more {
		if c, ok := o.(*counter); ok {
			do(c)
		}
	}
}

// maxEvents bounds the events that wait for an OnEvent that is slow.
const maxEvents = 10_000

// notifier calls OnEvent and the observers. Its methods may be called concurrently.
type notifier struct {
	onEvent   func(Event) // nil: nobody asks for events
	all       []Observer  // of all runs
	observers []Observer  // those of them that do not count by themselves
	counters  []*counter  // of the others
	ofRuns    runCounters // of runs whose middleware asks for it
	logger    *slog.Logger

	mu   sync.Mutex
	ends map[*broker.TaskRun]runEnd // of which the broker has not replied yet
	told []runEnd                   // its array is used next

	// Skipped runs and recorded outcomes have no goroutine on which to call OnEvent,
	// which may block or end it.
	queued  []Event
	lost    int64 // events that were left out because too many waited
	busy    bool  // a goroutine calls OnEvent for queued events
	callers sync.WaitGroup
}

// runEnd is the end of a run that the broker is to record.
type runEnd struct {
	Event
	x *execution // nil: there was no attempt
}

func newNotifier(cfg *ConsumerConfig) *notifier {
	n := &notifier{onEvent: cfg.OnEvent, all: cfg.Observers, logger: cfg.Logger}
	n.counters, n.observers = split(cfg.Observers)
	return n
}

// isUsed reports whether anybody asks for the events of a run.
func (n *notifier) isUsed(x *execution) bool {
	return n.onEvent != nil || len(n.observers) > 0 || x != nil && x.observers.told()
}

// started notifies of the start of an attempt.
func (n *notifier) started(x *execution) {
	n.countStart(x)
	if n.isUsed(nil) {
		n.notify(n.startOf(x), nil)
	}
}

func (n *notifier) startOf(x *execution) Event {
	return Event{Kind: RunStarted, Outcome: RunStarted, Run: x.asked(), Began: x.Started(), Waited: x.Waited()}
}

// ended notifies of what becomes of a run after an attempt.
func (n *notifier) ended(o *broker.Outcome, x *execution, took time.Duration) {
	n.countEnd(o, x, took)
	if n.isUsed(x) {
		n.end(o, runEnd{Event{Run: x.asked(), Began: x.Started(), Took: max(took, 0), Waited: x.Waited()}, x})
	}
}

// notStarted notifies of what becomes of a run without an attempt.
func (n *notifier) notStarted(o *broker.Outcome) {
	if goesBack(o) {
		n.countGoingBack(o, nil)
	}
	if !n.isUsed(nil) {
		return
	}
	n.end(o, runEnd{Event: Event{Run: newRun(o.Run)}})
}

// end notifies of an end, and keeps its event until the broker has replied.
func (n *notifier) end(o *broker.Outcome, e runEnd) {
	e.setOutcome(o)
	n.mu.Lock()
	if n.ends == nil {
		n.ends = make(map[*broker.TaskRun]runEnd)
	}
	n.ends[o.Run] = e
	n.mu.Unlock()
	n.notify(e.Event, e.x)
}

// setOutcome sets what the outcome says.
func (e *Event) setOutcome(o *broker.Outcome) {
	e.Wait, e.Total, e.Err = 0, 0, nil
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
	e.Outcome = e.Kind
	if o.Verdict != broker.Retry {
		e.Total = max(time.Since(o.Run.QueuedAt), 0)
	}
	if f := o.Failure; f != nil {
		e.Err = &RunError{Task: o.Run.Task, ID: o.Run.ID, Kind: f.Kind, Attempt: o.Run.Attempt, Message: f.Message, Stack: f.Stack}
	}
}

// recorded notifies of what the broker has done with outcomes. It does not block.
func (n *notifier) recorded(outcomes []broker.Outcome, how func(*broker.TaskRun) worker.Reply) {
	n.countRecorded(outcomes, how)
	n.mu.Lock()
	if len(n.ends) == 0 {
		n.mu.Unlock()
		return
	}
	all := n.told[:0]
	n.told = nil // another goroutine makes its own
	for i := range outcomes {
		o := &outcomes[i]
		e, ok := n.ends[o.Run]
		if !ok {
			continue // it went back without an event
		}
		delete(n.ends, o.Run)
		if total := e.Total; !e.fits(o) { // it could not be stored as it was
			e.setOutcome(o)
			e.Total = total
		}
		switch how(o.Run) {
		case worker.Recorded:
			e.Kind = RunRecorded
		case worker.Fenced:
			e.Kind = RunFenced
		default:
			continue // nobody knows
		}
		all = append(all, e)
		if n.onEvent != nil {
			n.queue(e.Event)
		}
	}
	n.mu.Unlock()
	for i := range all {
		n.tell(n.observers, all[i].Event)
		n.tellRun(all[i].x, all[i].Event)
	}
	clear(all)
	n.mu.Lock()
	n.told = all
	n.mu.Unlock()
}

// fits reports whether the event is of this outcome's verdict.
func (e *Event) fits(o *broker.Outcome) bool {
	switch o.Verdict {
	case broker.Succeeded:
		return e.Outcome == RunSucceeded
	case broker.Dead:
		return e.Outcome == RunFailed
	case broker.Dropped:
		return e.Outcome == RunDropped
	}
	return e.Outcome == RunRetried || e.Outcome == RunReturned
}

// skip notifies of runs that were skipped as duplicates. It does not block.
func (n *notifier) skip(skipped []broker.SkippedDuplicate) {
	if n.onEvent == nil && len(n.all) == 0 {
		return
	}
	for _, d := range skipped {
		e := Event{Kind: RunDropped, Outcome: RunDropped, Run: newRun(d.Run), Err: &RunError{
			Task: d.Run.Task, ID: d.Run.ID, Kind: Duplicate,
			Message: (&DuplicateError{Runs: []broker.Duplicate{{ID: d.LiveID}}}).Error(),
		}}
		n.tell(n.all, e)
		if n.onEvent != nil {
			n.mu.Lock()
			n.queue(e)
			n.mu.Unlock()
		}
	}
}

// queue has a goroutine notify of the event. If too many wait, it leaves the event out. The
// lock is held.
func (n *notifier) queue(e Event) {
	if len(n.queued) >= maxEvents {
		n.lost++
		if n.lost == 1 {
			n.logger.Warn("OnEvent is too slow: events of recorded outcomes and skipped runs are left out", "waiting", len(n.queued))
		}
		return
	}
	n.queued = append(n.queued, e)
	n.start()
}

// start starts a goroutine that notifies of queued events, unless there is one or there are
// none. The lock is held.
func (n *notifier) start() {
	if n.busy || len(n.queued) == 0 {
		return
	}
	n.busy = true
	n.callers.Go(n.notifyQueued)
}

// notifyQueued notifies of queued events until there are none.
func (n *notifier) notifyQueued() {
	var events []Event
	next := 0
	defer func() { // also if OnEvent ends the goroutine: then another goes on
		n.mu.Lock()
		defer n.mu.Unlock()
		if next < len(events) {
			n.queued = append(events[next:len(events):len(events)], n.queued...)
		}
		n.busy = false
		n.start()
	}()
	for {
		n.mu.Lock()
		clear(events)
		events, next, n.queued = n.queued, 0, events[:0]
		n.mu.Unlock()
		if len(events) == 0 {
			return
		}
		for next < len(events) {
			next++
			n.callOnEvent(events[next-1])
		}
	}
}

// lostEvents returns how many events were left out.
func (n *notifier) lostEvents() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

// notify tells all who ask for the events of a run. x is nil without an attempt.
func (n *notifier) notify(e Event, x *execution) {
	n.tell(n.observers, e)
	n.tellRun(x, e)
	if n.onEvent != nil {
		n.callOnEvent(e)
	}
}

// tellRun tells the observers of one run. x is nil without an attempt.
func (n *notifier) tellRun(x *execution, e Event) {
	if x == nil || x.observers.first == nil {
		return
	}
	n.tellOne(x.observers.first, e)
	if x.observers.more != nil {
		n.tell(*x.observers.more, e)
	}
}

// tellOne tells an observer. If it panics, tellOne logs the panic: the run does not fail, and the
// other observers are told.
func (n *notifier) tellOne(o Observer, e Event) {
	defer n.logPanic("an observer panicked", &e)
	o.Observe(e)
}

// tell tells observers.
func (n *notifier) tell(observers []Observer, e Event) {
	for _, o := range observers {
		n.tellOne(o, e)
	}
}

// callOnEvent calls OnEvent. If OnEvent panics, callOnEvent logs the panic, and the run does
// not fail.
func (n *notifier) callOnEvent(e Event) {
	defer n.logPanic("OnEvent panicked", &e)
	n.onEvent(e)
}

func (n *notifier) logPanic(message string, e *Event) {
	if v := recover(); v != nil {
		n.logger.Error(message, "event", e.Kind, "run", e.Run.ID, "panic", v, "stack", string(debug.Stack()))
	}
}

// drainTimeout is how long a stop waits for OnEvent.
const drainTimeout = 500 * time.Millisecond

// drain blocks until OnEvent was called for all queued events, at most for drainTimeout.
func (n *notifier) drain() {
	done := make(chan struct{})
	go func() { n.callers.Wait(); close(done) }()
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		n.logger.Warn("OnEvent does not return from a call for a recorded outcome or a skipped run")
	}
}
