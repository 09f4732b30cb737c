package runtime

import (
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// eventQueue holds events of runs that no goroutine executes. OnEvent is called with them
// on a goroutine of its own, since it may block or end the goroutine.
type eventQueue struct {
	mu      sync.Mutex
	skipped []broker.LeftOut
	busy    bool // a goroutine calls OnEvent
	all     sync.WaitGroup
}

// Skipped implements [worker.Executor]. It does not block.
func (e *executor) Skipped(skipped ...broker.LeftOut) {
	if e.cfg.OnEvent == nil {
		return
	}
	q := &e.events
	q.mu.Lock()
	defer q.mu.Unlock()
	q.skipped = append(q.skipped, skipped[:min(len(skipped), broker.MaxLeftOut-len(q.skipped))]...)
	e.notifyNext()
}

// notifyNext calls OnEvent with the next event, unless a goroutine does so already. The
// lock is held.
func (c *Consumer) notifyNext() {
	q := &c.events
	if q.busy || len(q.skipped) == 0 {
		return
	}
	next := q.skipped[0]
	q.busy, q.skipped = true, q.skipped[1:]
	q.all.Go(func() {
		defer func() { // also if OnEvent ends the goroutine
			q.mu.Lock()
			defer q.mu.Unlock()
			q.busy = false
			c.notifyNext()
		}()
		c.notifySkipped(next)
	})
}

func (c *Consumer) notifySkipped(skipped broker.LeftOut) {
	run := new(Run)
	run.init(skipped.Run, time.Time{})
	c.notify(Event{Kind: RunDropped, Run: run, Err: &RunError{
		Task: skipped.Run.Task, ID: skipped.Run.ID, Kind: Duplicate,
		Message: (&DuplicateError{Runs: []broker.Duplicate{{ID: skipped.By}}}).Error(),
	}})
}

// eventTimeout is how long a stop waits for OnEvent.
const eventTimeout = 500 * time.Millisecond

// awaitEvents blocks until OnEvent was called with all events, at most for eventTimeout.
func (c *Consumer) awaitEvents() {
	done := make(chan struct{})
	go func() { c.events.all.Wait(); close(done) }()
	timer := time.NewTimer(eventTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		c.logger.Warn("OnEvent does not return from being told of a run that was left out")
	}
}
