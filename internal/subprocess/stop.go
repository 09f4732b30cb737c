package subprocess

import (
	"context"
	"errors"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// dumpWait is how long a child that will be killed may take to send its stacks.
const dumpWait = 300 * time.Millisecond

// interrupt ends a run whose context has ended. It cancels the handler's context in
// the child. If no answer comes within the grace, it asks the child for its stacks
// and kills it. It returns when the run has ended or the child was killed.
func (c *child) interrupt(ctx context.Context, r *activeRun) {
	kind, cause := endOf(ctx)
	timer := time.NewTimer(c.pool.cfg.Grace)
	defer timer.Stop()
	// A child that is stopped by a signal leaves the pipe full, and a write blocks.
	// The deadline ends it after the grace.
	_ = c.in.SetWriteDeadline(time.Now().Add(c.pool.cfg.Grace))
	err := c.w.write(appendCancel(nil, r.seq, kind == Timeout, cause), nil)
	select {
	case <-r.over:
		if err != nil { // the next frame could follow half of this one
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
	case <-r.over: // it answered; but the signal may reach the next run, so kill it
	case <-timer.C:
	}
	c.kill(kind, cause)
}

// endOf returns the kind and the cause of a context's end.
func endOf(ctx context.Context) (kind broker.FailureKind, cause error) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return Timeout, context.Cause(ctx)
	}
	return Cancelled, context.Cause(ctx)
}

// stop asks an idle child to end, and kills it if it does not end within the grace.
// It blocks until the child is gone.
func (c *child) stop() {
	grace := c.pool.cfg.Grace
	timer := time.NewTimer(grace)
	defer timer.Stop()
	_ = c.in.SetWriteDeadline(time.Now().Add(grace))
	_ = c.w.write(newFrame(nil, frameShutdown, 0), nil) // if nobody reads it, the timer ends the child
	select {
	case <-c.exited:
	case <-timer.C:
		c.kill(Cancelled, ErrClosed)
	}
	c.awaitGone()
}

// requestStacks asks the child for the stacks of its goroutines.
func (c *child) requestStacks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.killed && !c.reaped {
		askForStacks(c.pid)
	}
}

// kill kills the child and everything that it started, and records the reason. Only
// the first reason counts. It reports whether this call killed the child.
func (c *child) kill(kind broker.FailureKind, cause error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.killed || c.reaped {
		return false
	}
	c.killed, c.kind, c.cause = true, kind, cause
	c.countKill(kind)
	c.peak = peakSize(c.pid)
	c.below = killTree(c.pid)
	c.group.Kill()
	return true
}
