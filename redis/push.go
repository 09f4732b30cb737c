package redis

import (
	"bufio"
	"context"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// pushableList returns the ready list of runs that can be pushed without a script, 0 if
// they cannot.
func (b *Broker) pushableList(runs []*broker.TaskRun) int {
	n := wire.ReadyList(runs[0])
	for _, run := range runs {
		if run.Keep > 0 && !b.clients.Queue.Direct() {
			return 0 // the library would need more than one command
		}
		if run.OwnID || wire.HasPolicy(run) || run.Delay > 0 || !run.Due.IsZero() || wire.ReadyList(run) != n {
			return 0
		}
	}
	return n
}

// pushKeys are the keys of a push.
type pushKeys struct {
	ready   string // the ready list
	wake    string // the wake set of its kind
	watched string // the list of watches' tokens
	woken   string // the list to which a token goes from there; "" on a cluster
}

func (b *Broker) pushKeysOf(q *queue, list int) pushKeys {
	kind := (list - 1) / 3
	return pushKeys{q.Fixed[list], q.Wake[kind], q.Watched[kind], b.woken(kind)}
}

// sendPush sends a batch, and a wake token: to ask first whether a take waits costs more.
// If only the token is lost, takes poll within two seconds.
func (b *Broker) sendPush(ctx context.Context, q *queue, pb *pushBatch) error {
	keys := b.pushKeysOf(q, pb.list)
	then, start := b.clients.NewConfirmation(), time.Now()
	looked := false
	again := func(err error) bool {
		if !conn.IsDamage(err) {
			return conn.IsTransient(err)
		}
		first := !looked // another call may have quarantined the key meanwhile
		looked = true
		return b.repair(ctx, start, keys.ready) || first
	}
	err := b.clients.Retry(ctx, again, func() error {
		if c := b.clients.Queue; c.Direct() {
			return pushByConn(ctx, c, keys, pb, then)
		}
		return b.pushByLibrary(ctx, keys, pb)
	})
	if err == nil {
		err = then.Result()
	} else if conn.IsDamage(err) && pb.kept > 0 {
		b.dropRecords(ctx, pb)
	}
	return b.notQueued(ctx, b.blame(ctx, err, keys.ready, keys.wake), conn.IsUnknown(err))
}

// dropRecords deletes the records of runs that were refused, which the transaction has
// stored all the same. Nobody else has such ids.
func (b *Broker) dropRecords(ctx context.Context, pb *pushBatch) {
	args, err := resp.Bulks(slices.Clone(pb.records), 2*pb.kept)
	if err != nil {
		return
	}
	var keys []string
	for i := 0; i < len(args); i += 2 {
		if key, ok := args[i].([]byte); ok {
			keys = append(keys, string(key))
		}
	}
	_, _ = b.clients.Work.Del(context.WithoutCancel(ctx), keys...)
}

// pushByConn pushes a batch over a connection of the client's own, and the wake token
// behind it.
func pushByConn(ctx context.Context, c conn.Client, keys pushKeys, pb *pushBatch, then *conn.Confirmation) error {
	read := readPushed
	if pb.kept > 0 {
		read = readPushedWithRecords
	}
	if keys.woken != "" {
		read = andToken(read)
	}
	stored, err := c.Exec(ctx, keys.ready, func(b []byte) []byte {
		b = pb.append(b, keys.ready, keys.wake)
		if keys.woken != "" { // behind the transaction, which would fail with it if the user has no right to it
			b = resp.AppendBulk(resp.AppendBulk(resp.AppendBulk(resp.AppendArray(b, 5), "LMOVE"), keys.watched), keys.woken)
			b = resp.AppendBulk(resp.AppendBulk(b, "LEFT"), "RIGHT")
		}
		return b
	}, read, then)
	if stored != nil {
		return nil // a token that was lost costs only time
	}
	return err
}

// append appends the commands that push the batch and add a wake token: a transaction, if some
// of the runs have records.
func (pb *pushBatch) append(b []byte, ready, wake string) []byte {
	if pb.kept > 0 {
		b = resp.AppendBulk(resp.AppendArray(b, 1), "MULTI")
		b = resp.AppendBulk(resp.AppendArray(b, 1+2*pb.kept), "MSET")
		b = append(b, pb.records...)
	}
	b = resp.AppendArray(b, 2+pb.n)
	b = resp.AppendBulk(resp.AppendBulk(b, "RPUSH"), ready)
	b = append(b, pb.stored...)
	b = resp.AppendArray(b, 4)
	b = resp.AppendBulk(resp.AppendBulk(b, "ZADD"), wake)
	b = resp.AppendBulk(resp.AppendBulk(b, "0"), "1")
	if pb.kept > 0 {
		b = resp.AppendBulk(resp.AppendArray(b, 1), "EXEC")
	}
	return b
}

// andToken returns a reader of one more reply, to the command that moves a watch's token.
func andToken(read conn.Reader) conn.Reader {
	return func(in *bufio.Reader) (any, error) {
		stored, err := read(in)
		if err == nil {
			_, err = resp.ReadReply(in, 0)
		}
		return stored, err
	}
}

// readPushed reads the replies to a push and to its wake token, and returns the first.
func readPushed(in *bufio.Reader) (any, error) {
	stored, err := resp.ReadReply(in, 0)
	if err == nil {
		_, err = resp.ReadReply(in, 0)
	}
	return stored, err
}

// readPushedWithRecords reads the replies to a push in a transaction. It returns the first
// refusal if there is any: then nothing was stored.
func readPushedWithRecords(in *bufio.Reader) (any, error) {
	var (
		refused any
		replies [5]any // to MULTI, the records, the stored runs, the token, EXEC
	)
	for i := range replies {
		v, err := resp.ReadReply(in, 0)
		if err != nil {
			return nil, err
		}
		if e, ok := v.(resp.Error); ok && refused == nil {
			refused = e
		}
		replies[i] = v
	}
	if n, alone := replies[2].(int64); alone {
		return n, nil // MULTI was refused, and each was executed by itself
	}
	v := replies[4]
	done, ok := v.([]any)
	switch {
	case refused != nil:
		return refused, nil
	case !ok || len(done) != 3:
		if e, ok := v.(resp.Error); ok {
			return e, nil
		}
		return nil, resp.ErrProtocol
	}
	return done[1], nil
}

// pushByLibrary is pushByConn by the client library, which might send a pipeline twice.
func (b *Broker) pushByLibrary(ctx context.Context, keys pushKeys, pb *pushBatch) error {
	stored, err := resp.Bulks(slices.Clone(pb.stored), pb.n) // the command may outlast the call
	if err != nil {
		return err
	}
	_, err = conn.WithGrace(ctx, b.clients, func(ctx context.Context) (any, error) {
		c := b.clients.Queue
		if err := c.RPushOnce(ctx, keys.ready, stored); err != nil {
			return nil, err
		}
		_, _ = c.ZAdd(ctx, keys.wake, "1")
		if keys.woken != "" {
			_, _ = c.LMove(ctx, keys.watched, keys.woken)
		}
		return nil, nil
	})
	return err
}
