package subprocess

import (
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// sizeCheckEvery is how often, at most, a busy child's size is read between its runs.
// A reading takes longer than a short run.
const sizeCheckEvery = time.Second

// expired reports whether the child has reached a bound of MaxRuns, MaxAge or
// MaxSize, or is close to its limit of open files.
func (c *child) expired(now time.Time) bool {
	cfg := &c.pool.cfg
	if cfg.MaxRuns > 0 && c.runs >= cfg.MaxRuns {
		return true
	}
	if cfg.MaxAge > 0 && now.Sub(c.born) >= cfg.MaxAge {
		return true
	}
	if now.Sub(c.sizeCheckedAt) < sizeCheckEvery {
		return false
	}
	c.sizeCheckedAt = now
	return cfg.MaxSize > 0 && residentSize(c.pid) >= cfg.MaxSize || nearFileLimit(c.pid)
}

// maxFailureLimit is the limit at which doubling stops.
const maxFailureLimit = 1000

// tooManyFailures counts the child's failures in a row and reports whether the child
// must be stopped for them. The answer is nil if the child has already ended. A run
// that was stopped before its deadline does not count.
func (p *Pool) tooManyFailures(c *child, answer *Response, stopped bool) bool {
	bound := int64(p.cfg.MaxFailures)
	switch {
	case answer == nil:
		return false
	case answer.Failure == nil:
		c.failures = 0
		if p.failureLimit.Load() != bound {
			p.failureLimit.Store(bound)
		}
		return false
	case stopped || answer.Snooze > 0:
		return false
	case answer.Permanent || answer.RetryAfter > 0 || answer.Failure.Kind == broker.FailureSchema:
		return false
	}
	c.failures++
	failureLimit := p.failureLimit.Load()
	switch {
	case bound < 0:
		return false
	case nearFileLimit(c.pid):
		p.cfg.Logger.Warn("a child process has nearly as many open files as it may, and a run in it failed: another one takes its place", "pid", c.pid)
	case int64(c.failures) >= failureLimit:
		p.failureLimit.Store(min(2*failureLimit, maxFailureLimit))
		p.cfg.Logger.Warn("the runs of a child process have failed in a row: another one takes its place", "pid", c.pid, "failures", c.failures)
	default:
		return false
	}
	return true
}

// outputClosed reports whether a run has closed standard output or error. The output
// of later runs would be lost, or go to a file that was opened in its place.
func (c *child) outputClosed() bool { return c.stdout.ended() || c.stderr.ended() }

// replace starts a successor of the child, which keeps taking runs until the
// successor is ready. One successor is started at a time. The caller holds the pool's
// lock.
func (p *Pool) replace(old *child) {
	select {
	case <-p.closing:
		return
	default:
	}
	if p.replacing {
		return // the end of the next run tries again
	}
	p.replacing = true
	p.successors.Go(func() {
		next, err := p.startChecked()
		if err == nil {
			err = p.awaitHandshake(next)
		}
		p.mu.Lock()
		p.replacing = false
		if err != nil { // already reported; the old child is better than none
			p.mu.Unlock()
			return
		}
		if _, alive := p.children[old]; !alive && len(p.children) > p.cfg.Processes {
			p.mu.Unlock()
			next.stop() // the old child ended by itself and has been succeeded
			return
		}
		old.replaced = true
		next.idleSince = time.Now()
		idle := slices.Contains(p.idle, old)
		p.idle = slices.DeleteFunc(p.idle, func(c *child) bool { return c == old })
		p.idle = append(p.idle, next)
		p.mu.Unlock()
		if idle {
			old.stop() // otherwise the end of its run stops it
		}
	})
}

// retireIdle stops children that were idle for Config.Idle, and idle children older
// than Config.MaxAge. It returns when the pool is closed.
func (p *Pool) retireIdle() {
	every := p.cfg.MaxAge
	if p.cfg.Idle > 0 && (every <= 0 || p.cfg.Idle < every) {
		every = p.cfg.Idle
	}
	ticker := time.NewTicker(max(every/4, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-p.closing:
			return
		case now := <-ticker.C:
			for _, c := range p.takeStale(now) {
				c.stop()
			}
		}
	}
}

// takeStale removes the children to stop from the idle ones and returns them.
func (p *Pool) takeStale(now time.Time) []*child {
	p.mu.Lock()
	defer p.mu.Unlock()
	var stale []*child
	p.idle = slices.DeleteFunc(p.idle, func(c *child) bool {
		old := p.cfg.Idle > 0 && now.Sub(c.idleSince) >= p.cfg.Idle ||
			p.cfg.MaxAge > 0 && now.Sub(c.born) >= p.cfg.MaxAge
		if old {
			stale = append(stale, c)
		}
		return old
	})
	return stale
}
