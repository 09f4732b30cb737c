package subprocess

import (
	"errors"
	"fmt"
	"time"
)

// How the breaker works: after so many starts in a row without a hello there
// are none for a while, and then one to see whether it is over.
const (
	breakAfter = 3
	breakFirst = time.Second
	breakMost  = 30 * time.Second
)

// ErrBreaker is wrapped by a StartError for which no child was started: the
// last few did not come up, and the next try is later.
var ErrBreaker = errors.New("child processes do not come up")

// breaker stops a binary that crashes at its start from being started again
// and again. Its pool's lock guards it.
type breaker struct {
	failures int // in a row
	until    time.Time
	wait     time.Duration
	last     error
}

// allow returns an error while no child is to be started.
func (b *breaker) allow(now time.Time) error {
	if b.failures < breakAfter || !now.Before(b.until) {
		if b.failures >= breakAfter {
			b.until = now.Add(b.wait) // this one sees, others wait for it
		}
		return nil
	}
	return &StartError{Err: fmt.Errorf("%w: not tried before %s: %w", ErrBreaker, b.until.Format(time.TimeOnly), b.last)}
}

// failed counts a start without a hello, and reports for how long there are
// none now, 0 for none of it.
func (b *breaker) failed(now time.Time, err error) time.Duration {
	b.failures++
	b.last = err
	if b.failures < breakAfter {
		return 0
	}
	b.wait = min(max(2*b.wait, breakFirst), breakMost)
	b.until = now.Add(b.wait)
	return b.wait
}

// startChecked starts a child unless the breaker says no.
func (p *Pool) startChecked() (*child, error) {
	p.mu.Lock()
	err := p.breaker.allow(time.Now())
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c, err := p.start()
	if err != nil {
		err = &StartError{Err: err}
		p.startFailed(err)
		return nil, err
	}
	return c, nil
}

// awaitHandshake waits for a started child's hello, and counts when there is none.
func (p *Pool) awaitHandshake(c *child) error {
	err := c.awaitHello()
	if err != nil && !errors.Is(err, ErrClosed) {
		p.startFailed(err)
	}
	return err
}

func (p *Pool) startFailed(err error) {
	p.mu.Lock()
	wait := p.breaker.failed(time.Now(), err)
	failures := p.breaker.failures
	p.mu.Unlock()
	if wait > 0 {
		p.cfg.Logger.Error("child processes do not come up: CPU-bound runs wait, other tasks go on",
			"failures", failures, "next_try_in", wait, "error", err)
	}
}

// handshakeDone is told of a child's hello.
func (p *Pool) handshakeDone(h hello) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.breaker = breaker{}
	p.limits = h.active
}

// Limits names what the child that was started last has set for itself, such
// as nice=5; nil before the first one was ready. See also [Capabilities].
func (p *Pool) Limits() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits
}
