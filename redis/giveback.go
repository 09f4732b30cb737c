package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// giveBack puts the unfinished runs of a batch back into their queue, except those to be
// cancelled, which end. It returns how many. The batch can be read beforehand: until it is
// given back or finished its runs stay the same, but that a run that came back before may
// begin (markbegun.lua).
func (b *Broker) giveBack(ctx context.Context, q *queue, session, name, mode string) (int, error) {
	start := time.Now()
	stored, err := b.clients.Work.LRange(ctx, q.Batch(name), 0, -1)
	if conn.IsDamage(err) && b.repair(ctx, start, q.Batch(name)) {
		err = nil // the key is quarantined, and the batch goes
	}
	if err != nil {
		return 0, b.fail(ctx, "read batch of queue "+q.Name, b.blame(ctx, err, q.Batch(name)))
	}
	keys, args := b.giveBackArgs(q, session, name, mode, stored)
	v, err := b.repeat(ctx, b.scripts.Giveback, b.clients.Work, keys, args...)
	if err != nil {
		return 0, b.fail(ctx, "give back batch of queue "+q.Name, err)
	}
	reply, err := script.ParseGiveback(v)
	if err != nil {
		return 0, fmt.Errorf("give back batch of queue %s: %w", q.Name, err)
	}
	if reply.Buried > 0 {
		b.reportBuried(q, stored)
	}
	if reply.Cancelled > 0 {
		_ = q.mover.move(ctx) // after an error the next recovery does it
	}
	return int(reply.Runs), nil
}

// giveBackArgs returns the keys and arguments of the script that gives back a batch.
func (b *Broker) giveBackArgs(q *queue, session, name, mode string, stored []string) (keys []string, args []any) {
	delays := recoveryDelays(stored)
	keys = script.GivebackKeys(&q.QueueKeys, session, name)
	args = (&script.GivebackArgs{
		Session: session, Name: name, Mode: mode, MaxDead: b.cfg.MaxDead, Failure: b.bad, Delays: len(delays) / 2,
	}).Append(nil)
	args = append(args, delays...)
	for i, e := range stored {
		if h, err := wire.ParseHeader([]byte(e)); err == nil && h.Record {
			keys, args = append(keys, q.Record(string(h.ID))), append(args, i)
		}
	}
	return keys, args
}

// reportBuried has consumers log which entries of a batch became dead letters.
func (b *Broker) reportBuried(q *queue, stored []string) {
	for _, e := range stored {
		if _, err := wire.ParseHeader([]byte(e)); err != nil {
			b.reportUnread(q, unread{stored: []byte(e)}, err)
		}
	}
}
