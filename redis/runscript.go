package redis

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// run executes a script once. It sends the digest, and the source if the server does not
// know the digest, in which case it executed nothing. It returns a grace time after the
// end of ctx, with an error of which conn.IsUnknown is true.
func (b *Broker) run(ctx context.Context, s script.Script, c conn.Client, keys []string, args ...any) (any, error) {
	return b.runReading(ctx, s, c, conn.ReadAny, keys, args)
}

// runReading is run with a reader for the replies on a connection of the client's own.
func (b *Broker) runReading(ctx context.Context, s script.Script, c conn.Client, read conn.Reader, keys []string, args []any) (any, error) {
	return b.runConfirmed(ctx, s, c, read, nil, keys, args)
}

// runConfirmed is runReading, and has what the script wrote confirmed, unless then is nil.
// If a repairable script failed because of the value of a key, and that could be repaired,
// the script is executed once more.
func (b *Broker) runConfirmed(ctx context.Context, s script.Script, c conn.Client, read conn.Reader, then *conn.Confirmation, keys []string, args []any) (any, error) {
	since := time.Now()
	v, err := b.clients.Run(ctx, s, c, read, then, keys, args)
	if s.Repairable && conn.IsDamage(err) && b.repair(ctx, since, keys...) {
		return b.clients.Run(ctx, s, c, read, then, keys, args)
	}
	return v, err
}

// repeatConfirmed is runConfirmed for a script that queues, repeated after errors of which
// again reports true. replyLost reports that a try may have been executed of which no
// reply came.
func (b *Broker) repeatConfirmed(ctx context.Context, s script.Script, q *queue, again func(error) bool, keys []string, args []any) (v any, then *conn.Confirmation, replyLost bool, err error) {
	then = b.clients.NewConfirmation()
	err = b.clients.Retry(ctx, again, func() (err error) {
		v, err = b.runConfirmed(ctx, s, b.clients.Queue, conn.ReadAny, then, keys, args)
		replyLost = replyLost || conn.IsUnknown(err)
		if replyLost && then != nil {
			then.Mark = q.Base + "confirmed"
		}
		return err
	})
	return v, then, replyLost, err
}

// repeat executes a script that is safe to execute again. It repeats the script if the
// connection broke or the server was not ready.
func (b *Broker) repeat(ctx context.Context, s script.Script, c conn.Client, keys []string, args ...any) (any, error) {
	v, _, err := b.repeatTracked(ctx, s, c, conn.ReadAny, keys, args...)
	return v, err
}

// repeatTracked is repeat. replyLost reports that a try may have been executed of which no
// reply came.
func (b *Broker) repeatTracked(ctx context.Context, s script.Script, c conn.Client, read conn.Reader, keys []string, args ...any) (v any, replyLost bool, err error) {
	err = b.clients.Retry(ctx, conn.MayRepeat, func() error {
		v, err = b.runReading(ctx, s, c, read, keys, args)
		replyLost = replyLost || conn.IsUnknown(err)
		return err
	})
	return v, replyLost, b.blame(ctx, err, keys...)
}
