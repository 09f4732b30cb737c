package redis

import (
	"context"
	"errors"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
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
	over, doubtful, ends, err := b.endAt(ctx, q, key, entry, out)
	if !over {
		return false, doubtful, err
	}
	b.forgetGroup(ctx, run.Links.OrZero().Awaits)
	b.notifyWaiters(ctx, q, ends.waiters)
	if ends.sent {
		// Should this fail, the next recovery does it.
		_ = q.mover.move(ctx)
	}
	return true, doubtful, nil
}

// endAt applies an outcome's steps to an entry that is somewhere, from where it
// goes, as endWaiting does.
func (b *Broker) endAt(ctx context.Context, q *queue, key, entry string, out *outcome) (over, doubtful bool, e finishEffects, err error) {
	keys, args := b.finishArgs(q, 1)
	keys = append(append(keys, key, q.Done("")), out.keys...)
	args = append(append(args, "", "1", entry, 0, 1, 0, out.steps), out.args...)
	v, unheard, err := b.repeatKnowing(ctx, b.scripts.Finish, b.clients.Work, conn.ReadAny, keys, args...)
	if err != nil {
		return false, unheard, e, err
	}
	g := new(batchOutcomes)
	if e, err = parseFinishReply(v, []*batchOutcomes{g}); err == nil && g.failed != nil {
		err = b.blame(ctx, g.anyFailure(), keys...)
	}
	return err == nil && !g.fenced[0], unheard, e, err
}
