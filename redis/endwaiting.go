package redis

import (
	"context"
	"errors"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// endWaiting ends the run of an element that is somewhere as an entry, and
// reports false if it is there no more; doubtful, if it was this call that
// ended it unheard.
func (b *Broker) endWaiting(ctx context.Context, q *queue, key, entry, stored string, failure *broker.Failure) (over, doubtful bool, err error) {
	run := new(broker.TaskRun)
	out := &outcome{run: run}
	if err := wire.ParseRun(new(broker.Decoder), []byte(stored), run); err != nil {
		if h, bad := wire.ParseHeader([]byte(stored)); bad == nil && errors.Is(err, broker.ErrNewer) {
			out.byHeader(q, h, []byte(stored), wire.AppendRecord(wire.StartRecord(nil, broker.StateFailed), run, nil, failure))
		} else {
			out = unreadable(nil, q, []byte(stored), err)
		}
	} else if err := out.over(q, &broker.Outcome{Run: run, Verdict: broker.Dropped, Failure: failure}); err != nil {
		return false, false, err
	}
	out.stepped()
	reply, doubtful, err := b.endAt(ctx, q, key, entry, out)
	if err != nil || !reply.Ended {
		return false, doubtful, err
	}
	b.forgetGroup(ctx, run.Links.OrZero().Awaits)
	b.notifyWaiters(ctx, q, reply.Waiters)
	if reply.Sent {
		// Should this fail, the next recovery does it.
		_ = q.mover.move(ctx)
	}
	return true, doubtful, nil
}

// endAt applies an outcome's steps to an entry that is somewhere, from where it
// goes, as endWaiting does.
func (b *Broker) endAt(ctx context.Context, q *queue, key, entry string, out *outcome) (reply script.EndWaitingReply, doubtful bool, err error) {
	keys := append(script.EndWaitingKeys(&q.QueueKeys, key), out.keys...)
	named := &script.EndWaitingArgs{MaxDead: b.cfg.MaxDead, BeforeID: len(q.Record("")), Entry: entry, Steps: out.steps}
	args := append(named.Append(nil), out.args...)
	v, unheard, err := b.repeatKnowing(ctx, b.scripts.EndWaiting, b.clients.Work, conn.ReadAny, keys, args...)
	if err == nil {
		reply, err = script.ParseEndWaiting(v)
	}
	return reply, unheard, err
}
