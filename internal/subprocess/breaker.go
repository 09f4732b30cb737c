package subprocess

import (
	"errors"
	"fmt"
	"time"
)

// After breakAfter starts in a row without a hello, the breaker refuses further
// starts for a while. Then it allows one, to see whether children come up again.
const (
	breakAfter = 3
	breakFirst = time.Second
	breakMost  = 30 * time.Second
)

// ErrBreaker is wrapped by a StartError if no child was started because the last few
// starts failed. A later start may succeed.
var ErrBreaker = errors.New("child processes do not come up")

// breaker keeps a pool from starting a binary again and again that crashes at its
// start. The pool's lock guards it.
type breaker struct {
	failures int // in a row
	until    time.Time
	wait     time.Duration
	last     error
}

// allow returns an error if no child may be started now.
func (b *breaker) allow(now time.Time) error {
	if b.failures < breakAfter || !now.Before(b.until) {
		if b.failures >= breakAfter {
			b.until = now.Add(b.wait) // this start is the probe; others wait for it
		}
		return nil
	}
	return &StartError{Err: fmt.Errorf("%w: not tried before %s: %w", ErrBreaker, b.until.Format(time.TimeOnly), b.last)}
}

// failed counts a start without a hello. It returns how long further starts are
// refused, or 0.
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

// startChecked starts a child if the breaker allows it.
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

// awaitHandshake waits for the hello of a started child, and counts a failure if none
// comes.
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

// handshakeDone resets the breaker after a hello.
func (p *Pool) handshakeDone(h hello) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.breaker = breaker{}
	p.limits = h.active
}

// Limits returns the limits that the last started child has set for itself, such as
// nice=5, and nil before the first child was ready. See also [Capabilities].
func (p *Pool) Limits() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits
}
