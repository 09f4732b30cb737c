package subprocess

import (
	"context"
	"errors"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// dumpWait is how long a child that is to be killed may take to tell what its
// goroutines do.
const dumpWait = 300 * time.Millisecond

// interrupt makes a run end whose context has ended: the handler's context is
// cancelled in the child; without an answer within the grace the child is asked
// for its stacks, once, and killed. It returns when the run is over, or the
// child doomed.
func (c *child) interrupt(ctx context.Context, r *activeRun) {
	kind, cause := endOf(ctx)
	timer := time.NewTimer(c.pool.cfg.Grace)
	defer timer.Stop()
	// A stopped child leaves the pipe full, and then the frame of the run or
	// this one waits for it; not longer than the grace.
	_ = c.in.SetWriteDeadline(time.Now().Add(c.pool.cfg.Grace))
	err := c.w.write(appendCancel(nil, r.seq, kind == Timeout, cause), nil)
	select {
	case <-r.over:
		if err != nil { // the next frame might follow half of this one
			c.kill(Protocol, errors.New("the cancellation of a run was not sent"))
		}
		_ = c.in.SetWriteDeadline(time.Time{})
		return
	case <-timer.C:
	}
	c.requestStacks()
	timer.Reset(dumpWait)
	select {
	case <-r.dumped:
	case <-r.over: // an answer after all; but the signal may meet the next run
	case <-timer.C:
	}
	c.kill(kind, cause)
}

// endOf says why a context has ended.
func endOf(ctx context.Context) (kind broker.FailureKind, cause error) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Timeout, context.Cause(ctx)
	}
	return Cancelled, context.Cause(ctx)
}

// dismiss ends an idle child, by force if it does not end within the grace.
func (c *child) stop() {
	grace := c.pool.cfg.Grace
	timer := time.NewTimer(grace)
	defer timer.Stop()
	_ = c.in.SetWriteDeadline(time.Now().Add(grace))
	_ = c.w.write(newFrame(nil, frameShutdown, 0), nil) // unread, it ends by the timer
	select {
	case <-c.exited:
	case <-timer.C:
		c.kill(Cancelled, ErrClosed)
	}
	c.awaitGone()
}

// quit asks the child for the stacks of its goroutines.
func (c *child) requestStacks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.killed && !c.reaped {
		askForStacks(c.pid)
	}
}

// doom kills the child and all that it started, and says why. Only the first
// reason counts. It reports whether the child was alive and not doomed.
func (c *child) kill(kind broker.FailureKind, cause error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed || c.reaped {
		return false
	}
	c.killed, c.kind, c.cause = true, kind, cause
	c.peak = peakSize(c.pid)
	c.below = killTree(c.pid)
	c.group.Kill()
	return true
}
