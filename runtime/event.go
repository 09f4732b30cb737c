package runtime

import (
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
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
)

// Event is something that happened to a run at a consumer. The broker records an end a
// little later, and may refuse it if the lease was lost meanwhile.
type Event struct {
	Kind EventKind
	Run  *Run
	Err  *RunError     // of RunRetried, RunFailed and RunDropped
	Took time.Duration // of the attempt, if there was one
	Wait time.Duration // of RunRetried: until the next attempt
}

// maxSkipped bounds the events that wait for an OnEvent that is slow.
const maxSkipped = 1000

// notifier calls OnEvent. Its methods may be called concurrently.
type notifier struct {
	onEvent func(Event) // nil: nobody asks for events
	logger  *slog.Logger

	// Skipped runs have no goroutine on which to call OnEvent, which may block or end it.
	mu      sync.Mutex
	skipped []broker.SkippedDuplicate
	busy    bool           // a goroutine calls OnEvent for skipped runs
	calls   sync.WaitGroup // of OnEvent for skipped runs
}

// started notifies of the start of an attempt.
func (n *notifier) started(run *Run) {
	if n.onEvent != nil {
		n.notify(Event{Kind: RunStarted, Run: run})
	}
}

// ended notifies of what becomes of a run. Without an attempt, run is nil and took zero.
func (n *notifier) ended(o *broker.Outcome, run *Run, took time.Duration) {
	if n.onEvent == nil {
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
	n.notify(e)
}

// skip notifies of runs that were skipped as duplicates. It does not block.
func (n *notifier) skip(skipped []broker.SkippedDuplicate) {
	if n.onEvent == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.skipped = append(n.skipped, skipped[:min(len(skipped), maxSkipped-len(n.skipped))]...)
	n.notifyNextSkipped()
}

// notifyNextSkipped starts a goroutine that notifies of the next skipped run, unless one
// does so already. The lock is held.
func (n *notifier) notifyNextSkipped() {
	if n.busy || len(n.skipped) == 0 {
		return
	}
	next := n.skipped[0]
	n.busy, n.skipped = true, n.skipped[1:]
	n.calls.Go(func() {
		defer func() { // also if OnEvent ends the goroutine
			n.mu.Lock()
			defer n.mu.Unlock()
			n.busy = false
			n.notifyNextSkipped()
		}()
		n.notifySkipped(next)
	})
}

func (n *notifier) notifySkipped(skipped broker.SkippedDuplicate) {
	run := new(Run)
	run.init(skipped.Run, time.Time{})
	n.notify(Event{Kind: RunDropped, Run: run, Err: &RunError{
		Task: skipped.Run.Task, ID: skipped.Run.ID, Kind: Duplicate,
		Message: (&DuplicateError{Runs: []broker.Duplicate{{ID: skipped.LiveID}}}).Error(),
	}})
}

// notify calls OnEvent. If OnEvent panics, notify logs the panic, and the run does not fail.
func (n *notifier) notify(e Event) {
	defer func() {
		if v := recover(); v != nil {
			n.logger.Error("OnEvent panicked", "event", e.Kind, "run", e.Run.ID, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	n.onEvent(e)
}

// drainTimeout is how long a stop waits for OnEvent.
const drainTimeout = 500 * time.Millisecond

// drain blocks until OnEvent was called for all skipped runs, at most for drainTimeout.
func (n *notifier) drain() {
	done := make(chan struct{})
	go func() { n.calls.Wait(); close(done) }()
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		n.logger.Warn("OnEvent does not return from a call for a skipped run")
	}
}
