package conn

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/backoff"
)

// Grace is how long after the end of its caller's context a command that was sent may
// still get its reply. To give up a command is to give up its connection: callers with
// short deadlines would do nothing but connect.
const Grace = 100 * time.Millisecond

// WithGrace executes a command of go-redis. If ctx ends first, it returns after a grace
// time with an error of which IsUnknown is true, and the command goes on in a goroutine
// that Wait waits for. The command must not use what the caller may change after
// WithGrace returns.
func WithGrace[T any](ctx context.Context, c *Clients, command func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, unsentError{err}
	}
	if _, nested := ctx.(graceContext); nested {
		return command(ctx)
	}
	if ctx.Done() == nil {
		return command(graceContext{ctx})
	}
	type reply struct {
		v   T
		err error
	}
	replied := make(chan reply, 1)
	started := c.Spawn(func() {
		v, err := command(graceContext{ctx})
		replied <- reply{v, err}
	})
	if !started {
		return none, unsentError{broker.ErrClosed}
	}
	select {
	case r := <-replied:
		return r.v, r.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(Grace)
	defer timer.Stop()
	select {
	case r := <-replied:
		return r.v, r.err
	case <-timer.C:
		return none, fmt.Errorf("no reply in time: %w", ctx.Err())
	}
}

// graceContext is a context for a command that is about to be sent. It ignores the
// parent's cancellation, and its deadline is a grace time later.
type graceContext struct{ context.Context }

func (l graceContext) Done() <-chan struct{} { return nil }
func (l graceContext) Err() error            { return nil }

func (l graceContext) Deadline() (time.Time, bool) {
	at, ok := l.Context.Deadline()
	return at.Add(Grace), ok
}

// Retry calls try until it succeeds, again reports false, or half of Timeout has
// passed.
func (c *Clients) Retry(ctx context.Context, again func(error) bool, try func() error) error {
	start := time.Now()
	for wait := 10 * time.Millisecond; ; wait *= 4 {
		err := try()
		if err == nil || !again(err) {
			return err
		}
		if wait > time.Second || time.Since(start) > c.cfg.Timeout/2 || !c.Pause(ctx, wait) {
			return err
		}
	}
}

// A server that has started reads its files for seconds or minutes, and refuses all
// commands until then.
const (
	// loadingPatience is how many times Timeout a call without a deadline waits for
	// that.
	loadingPatience = 10
	loadingPause    = 100 * time.Millisecond // between two tries
)

// WhileLoading repeats a call while its server replies that it is loading, or not yet
// the master: then it has executed nothing. It does not repeat a call whose outcome is
// unknown.
func (c *Clients) WhileLoading(ctx context.Context, call func() error) error {
	var reply goredis.Error
	for start := time.Now(); ; {
		err := call()
		if reply != nil && ContextErr(ctx) != nil && !IsLoading(err) && err != nil {
			return fmt.Errorf("%w: %w", err, reply) // why the time was not enough
		}
		if !IsLoading(err) || !errors.As(err, &reply) || time.Since(start) > loadingPatience*c.cfg.Timeout || !c.Pause(ctx, loadingPause) {
			return err
		}
	}
}

// Backoff paces tries against a server that fails. Its zero value works, and begins with
// the shortest wait.
type Backoff struct{ waits *backoff.Backoff }

// Sleep blocks for the next wait, less if ctx or c ends.
func (w *Backoff) Sleep(ctx context.Context, c *Clients) {
	if w.waits == nil {
		w.waits = backoff.New(50*time.Millisecond, longestBackoff)
	}
	w.waits.SleepUnless(ctx, c.Closed)
}

// longestBackoff is the longest pause between two tries.
const longestBackoff = 2 * time.Second
