package redis

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/resp"
)

// script is one transition's source and its digest, by which the server knows
// it once it has seen it.
type script struct {
	source, digest string
	mendable       bool   // it leaves each run where it can be found when it fails, and is to be executed again then
	behind         []byte // a command that is sent with it, whose reply the reader reads too
}

// newScript makes a script of its text as it is sent.
func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source: source, digest: hex.EncodeToString(sum[:])}
}

// once is a command that go-redis must not repeat by itself.
type once struct{ *goredis.Cmd }

func (once) NoRetry() bool { return true }

// run executes the script once: by its digest, and by its source when the
// server does not know that, in which case it executed nothing. It returns a
// little after ctx has ended, with an error of which unknown is true.
func (b *Broker) run(ctx context.Context, s script, c link, keys []string, args ...any) (any, error) {
	return b.runReading(ctx, s, c, readAny, keys, args)
}

// reader reads a script's reply. What it returns instead of a value may be a
// [serverError].
type reader func(in *bufio.Reader) (any, error)

func readAny(in *bufio.Reader) (any, error) { return resp.ReadReply(in, 0) }

// runReading is run with a reader of its own for replies on a line.
func (b *Broker) runReading(ctx context.Context, s script, c link, read reader, keys []string, args []any) (any, error) {
	return b.runConfirmed(ctx, s, c, read, nil, keys, args)
}

// runConfirmed is runReading, and has what the script wrote confirmed, unless
// then is nil. A mendable script that failed because of what it found in a key is
// executed once more if that could be mended.
func (b *Broker) runConfirmed(ctx context.Context, s script, c link, read reader, then *confirmation, keys []string, args []any) (any, error) {
	since := time.Now()
	v, err := b.runOnce(ctx, s, c, read, then, keys, args)
	if s.mendable && isDamage(err) && b.mend(ctx, since, keys...) {
		return b.runOnce(ctx, s, c, read, then, keys, args)
	}
	return v, err
}

func (b *Broker) runOnce(ctx context.Context, s script, c link, read reader, then *confirmation, keys []string, args []any) (any, error) {
	send := func(name, what string) (any, error) {
		if c.routes == nil {
			return promptly(ctx, b, func(ctx context.Context) (any, error) { return s.send(ctx, c, name, what, keys, args) })
		}
		return c.routes.exec(ctx, keys[0], s.encode(name, what, keys, args), read, then)
	}
	v, err := send("evalsha", s.digest)
	if err != nil && goredis.HasErrorPrefix(err, "NOSCRIPT") {
		return send("eval", s.source)
	}
	return v, err
}

// encode returns what appends the command that executes the script.
func (s script) encode(name, what string, keys []string, args []any) func([]byte) []byte {
	return func(b []byte) []byte {
		b = resp.AppendArray(b, 3+len(keys)+len(args))
		b = resp.AppendBulk(resp.AppendBulk(b, name), what)
		b = resp.AppendNumber(b, int64(len(keys)))
		for _, key := range keys {
			b = resp.AppendBulk(b, key)
		}
		for _, arg := range args {
			b = resp.AppendArg(b, arg)
		}
		return append(b, s.behind...)
	}
}

func (s script) send(ctx context.Context, c goredis.UniversalClient, name, what string, keys []string, args []any) (any, error) {
	line := make([]any, 0, 3+len(keys)+len(args))
	line = append(line, name, what, len(keys))
	for i := range keys {
		line = append(line, &keys[i]) // a pointer saves a copy
	}
	line = append(line, args...)
	cmd := once{goredis.NewCmd(ctx, line...)}
	cmd.SetFirstKeyPos(3)
	if err := c.Process(ctx, cmd); err != nil && !errors.Is(err, goredis.Nil) {
		return nil, err
	}
	return cmd.Val(), nil
}

// grace is how long after the end of its caller's context a command that was
// sent may still get its reply. To give up a command at its deadline is to give
// up its connection, and callers with short deadlines would do nothing but
// connect.
const grace = 100 * time.Millisecond

// promptly executes a command, and returns its reply or, a little after ctx has
// ended, an error of which unknown is true. The command then goes on in a
// goroutine that Close waits for, and to its caller it is one whose reply was
// lost. It must not use what the caller may change after its return.
func promptly[T any](ctx context.Context, b *Broker, command func(context.Context) (T, error)) (T, error) {
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
	started := b.spawn(func() {
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

// repeat executes a script that is safe to execute again, and does so when the
// connection broke or the server was not ready.
func (b *Broker) repeat(ctx context.Context, s script, c link, keys []string, args ...any) (any, error) {
	v, _, err := b.repeatTold(ctx, s, c, readAny, keys, args...)
	return v, err
}

// repeatTold is repeat, and tells whether the script may have been executed
// without its reply being heard.
func (b *Broker) repeatTold(ctx context.Context, s script, c link, read reader, keys []string, args ...any) (v any, unheard bool, err error) {
	err = b.persist(ctx, idempotent, func() error {
		v, err = b.runReading(ctx, s, c, read, keys, args)
		unheard = unheard || unknown(err)
		return err
	})
	return v, unheard, b.blame(ctx, err, keys...)
}

// idempotent allows a command to be executed again after any failure that may
// pass.
func idempotent(err error) bool { return transient(err) || unknown(err) }

// persist tries until it works, may not be tried again, or time is up.
func (b *Broker) persist(ctx context.Context, again func(error) bool, try func() error) error {
	start := time.Now()
	for wait := 10 * time.Millisecond; ; wait *= 4 {
		err := try()
		if err == nil || !again(err) {
			return err
		}
		if wait > time.Second || time.Since(start) > b.cfg.Timeout/2 || !b.pause(ctx, wait) {
			return err
		}
	}
}

// unsent is the error of a command that was not even begun.
type unsent struct{ error }

func (u unsent) Unwrap() error { return u.error }

// notSent reports whether an error says that the server cannot have executed
// the command: it never got all of it.
func notSent(err error) bool {
	var own unsent
	if errors.Is(err, errPartly) {
		return false
	}
	if errors.As(err, &own) || errors.Is(err, goredis.ErrPoolTimeout) || errors.Is(err, goredis.ErrPoolExhausted) {
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || op.Op == "write")
}

// unknown reports whether an error leaves open if the server executed the
// command. What the server itself replied never does.
func unknown(err error) bool {
	var reply goredis.Error
	if err == nil || errors.As(err, &reply) || errors.Is(err, goredis.ErrClosed) {
		return false
	}
	return !notSent(err)
}
