package runtime

import (
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// maxSkipEvents bounds the events that wait for an OnEvent that is slow.
const maxSkipEvents = 1000

// skipEvents are the events of skipped runs on their way to OnEvent. No run's goroutine
// is there for them, and OnEvent may block, or end the goroutine that calls it.
type skipEvents struct {
	mu   sync.Mutex
	list []broker.SkippedDuplicate
	busy bool // a goroutine calls OnEvent
	all  sync.WaitGroup
}

// Skipped implements [worker.Executor]. It does not block.
func (e *executor) Skipped(skipped ...broker.SkippedDuplicate) {
	if e.cfg.OnEvent == nil {
		return
	}
	n := &e.skipped
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, skipped[:min(len(skipped), maxSkipEvents-len(n.list))]...)
	e.nextSkipEvent()
}

// nextSkipEvent has OnEvent called for the next run, unless a goroutine does so already.
// The lock is held.
func (c *Consumer) nextSkipEvent() {
	n := &c.skipped
	if n.busy || len(n.list) == 0 {
		return
	}
	skipped := n.list[0]
	n.busy, n.list = true, n.list[1:]
	n.all.Go(func() {
		defer func() { // also if OnEvent ends the goroutine
			n.mu.Lock()
			defer n.mu.Unlock()
			n.busy = false
			c.nextSkipEvent()
		}()
		c.skipEvent(skipped)
	})
}

func (c *Consumer) skipEvent(skipped broker.SkippedDuplicate) {
	run := new(Run)
	run.init(skipped.Run, time.Time{})
	c.notify(Event{Kind: RunDropped, Run: run, Err: &RunError{
		Task: skipped.Run.Task, ID: skipped.Run.ID, Kind: Duplicate,
		Message: (&DuplicateError{Runs: []broker.Duplicate{{ID: skipped.LiveID}}}).Error(),
	}})
}

// skipEventTimeout is how long a stop waits for OnEvent.
const skipEventTimeout = 500 * time.Millisecond

// drainSkipEvents blocks until OnEvent was called for all skipped runs, at most for
// skipEventTimeout.
func (c *Consumer) drainSkipEvents() {
	done := make(chan struct{})
	go func() { c.skipped.all.Wait(); close(done) }()
	timer := time.NewTimer(skipEventTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		c.logger.Warn("OnEvent does not return from being told of a run that was left out")
	}
}
