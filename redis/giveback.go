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
func (b *Broker) giveBack(ctx context.Context, q *queue, session, member, mode string) (int, error) {
	start := time.Now()
	stored, err := b.clients.Work.LRange(ctx, q.Batch(member), 0, -1)
	if conn.IsDamage(err) && b.mend(ctx, start, q.Batch(member)) {
		err = nil // it is put aside, and what is noted of it goes
	}
	if err != nil {
		return 0, b.fail(ctx, "read batch of queue "+q.Name, b.blame(ctx, err, q.Batch(member)))
	}
	keys := script.GivebackKeys(&q.QueueKeys, session, member)
	waiting := waits(stored)
	args := (&script.GivebackArgs{
		Session: session, Member: member, Mode: mode, MaxDead: b.cfg.MaxDead, Failure: b.bad, Waits: len(waiting) / 2,
	}).Append(nil)
	args = append(args, waiting...)
	for i, e := range stored {
		if h, err := wire.ParseHeader([]byte(e)); err == nil && h.Record {
			keys = append(keys, q.Record(string(h.ID)))
			args = append(args, i)
		}
	}
	v, err := b.repeat(ctx, b.scripts.Giveback, b.clients.Work, keys, args...)
	if err != nil {
		return 0, b.fail(ctx, "give back batch of queue "+q.Name, err)
	}
	reply, err := script.ParseGiveback(v)
	if err != nil {
		return 0, fmt.Errorf("give back batch of queue %s: %w", q.Name, err)
	}
	if reply.Buried > 0 {
		for _, e := range stored {
			if _, err := wire.ParseHeader([]byte(e)); err != nil {
				b.reportUnread(q, unread{stored: []byte(e)}, err)
			}
		}
	}
	if reply.Cancelled > 0 {
		_ = q.mover.move(ctx) // after an error the next recovery does it
	}
	return int(reply.Runs), nil
}
