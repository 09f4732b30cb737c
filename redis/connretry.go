package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// grace is how long after the end of its caller's context a command that was
// sent may still get its reply. To give up a command at its deadline is to give
// up its connection, and callers with short deadlines would do nothing but
// connect.
const grace = 100 * time.Millisecond

// promptly executes a command, and returns its reply or, a little after ctx has
// ended, an error of which unknown is true. The command then goes on in a
// goroutine that Close waits for, and to its caller it is one whose reply was
// lost. It must not use what the caller may change after its return.
func promptly[T any](ctx context.Context, c *clients, command func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, unsent{err}
	}
	if ctx.Done() == nil {
		return command(lenient{ctx})
	}
	type reply struct {
		v   T
		err error
	}
	replied := make(chan reply, 1)
	started := c.spawn(func() {
		v, err := command(lenient{ctx})
		replied <- reply{v, err}
	})
	if !started {
		return none, unsent{broker.ErrClosed}
	}
	select {
	case r := <-replied:
		return r.v, r.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-replied:
		return r.v, r.err
	case <-timer.C:
		return none, fmt.Errorf("no reply in time: %w", ctx.Err())
	}
}

// lenient is a context for a command that is about to be sent: it does not end
// when its parent is cancelled, and a little later than its parent's deadline.
type lenient struct{ context.Context }

func (l lenient) Done() <-chan struct{} { return nil }
func (l lenient) Err() error            { return nil }

func (l lenient) Deadline() (time.Time, bool) {
	at, ok := l.Context.Deadline()
	return at.Add(grace), ok
}

// persist tries until it works, may not be tried again, or time is up.
func (c *clients) persist(ctx context.Context, again func(error) bool, try func() error) error {
	start := time.Now()
	for wait := 10 * time.Millisecond; ; wait *= 4 {
		err := try()
		if err == nil || !again(err) {
			return err
		}
		if wait > time.Second || time.Since(start) > c.cfg.Timeout/2 || !c.pause(ctx, wait) {
			return err
		}
	}
}

// A server that was started again reads its files first, for seconds or
// minutes, and refuses all commands meanwhile.
const (
	// loadPatience is how many times Config.Timeout a call without a deadline
	// waits for that.
	loadPatience = 10
	loadNap      = 100 * time.Millisecond // between two tries
)

// whileLoading repeats a call as long as its server is not there yet, or not yet
// the master, and says so. With that reply it has done nothing. A call of which an
// earlier command may have been executed is not repeated.
func (c *clients) whileLoading(ctx context.Context, call func() error) error {
	var reply goredis.Error
	for start := time.Now(); ; {
		err := call()
		if reply != nil && ctxErr(ctx) != nil && !notYet(err) && err != nil {
			return fmt.Errorf("%w: %w", err, reply) // why the time was not enough
		}
		if !notYet(err) || !errors.As(err, &reply) || time.Since(start) > loadPatience*c.cfg.Timeout || !c.pause(ctx, loadNap) {
			return err
		}
	}
}

// backoff paces tries against a server that fails.
type backoff struct{ last time.Duration }

func (w *backoff) sleep(ctx context.Context, c *clients) {
	w.last = min(max(2*w.last, 50*time.Millisecond), longestBackoff)
	timer := time.NewTimer(w.last)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-c.closed:
	}
}

// longestBackoff is the longest pause between two tries.
const longestBackoff = 2 * time.Second
