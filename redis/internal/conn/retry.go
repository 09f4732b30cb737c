package conn

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// Grace is how long after the end of its caller's context a command that was
// sent may still get its reply. To give up a command at its deadline is to give
// up its connection, and callers with short deadlines would do nothing but
// connect.
const Grace = 100 * time.Millisecond

// WithGrace executes a command, and returns its reply or, a little after ctx has
// ended, an error of which unknown is true. The command then goes on in a
// goroutine that Close waits for, and to its caller it is one whose reply was
// lost. It must not use what the caller may change after its return.
func WithGrace[T any](ctx context.Context, c *Clients, command func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, unsentError{err}
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

// graceContext is a context for a command that is about to be sent: it does not end
// when its parent is cancelled, and a little later than its parent's deadline.
type graceContext struct{ context.Context }

func (l graceContext) Done() <-chan struct{} { return nil }
func (l graceContext) Err() error            { return nil }

func (l graceContext) Deadline() (time.Time, bool) {
	at, ok := l.Context.Deadline()
	return at.Add(Grace), ok
}

// Retry tries until it works, may not be tried again, or time is up.
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

// A server that was started again reads its files first, for seconds or
// minutes, and refuses all commands meanwhile.
const (
	// loadingPatience is how many times Config.Timeout a call without a deadline
	// waits for that.
	loadingPatience = 10
	loadingPause    = 100 * time.Millisecond // between two tries
)

// WhileLoading repeats a call as long as its server is not there yet, or not yet
// the master, and says so. With that reply it has done nothing. A call of which an
// earlier command may have been executed is not repeated.
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

// Backoff paces tries against a server that fails.
type Backoff struct{ last time.Duration }

func (w *Backoff) Sleep(ctx context.Context, c *Clients) {
	w.last = min(max(2*w.last, 50*time.Millisecond), longestBackoff)
	timer := time.NewTimer(w.last)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-c.Closed:
	}
}

// longestBackoff is the longest pause between two tries.
const longestBackoff = 2 * time.Second
