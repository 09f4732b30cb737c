package redis

import (
	"context"
	"errors"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// endWaiting ends a run that waits, whose entry is at a key. It reports false if the entry
// is there no more; doubtful reports that a try of this call may have ended the run
// without a reply.
func (b *Broker) endWaiting(ctx context.Context, q *queue, key, entry, stored string, failure *broker.Failure) (over, doubtful bool, err error) {
	end, err := newEnding(q, stored, failure)
	if err != nil {
		return false, false, err
	}
	reply, doubtful, err := b.endAt(ctx, q, key, entry, &end.outcome)
	if err != nil || !reply.Ended {
		return false, doubtful, err
	}
	b.notifyWaiters(ctx, q, reply.Waiters)
	if reply.Sent {
		_ = q.mover.move(ctx) // after an error the next recovery does it
	}
	return true, doubtful, nil
}

// newEnding makes the operations that end a stored run that waits.
func newEnding(q *queue, stored string, failure *broker.Failure) (*ending, error) {
	run := new(broker.TaskRun)
	end := &ending{outcome: outcome{run: run}}
	if err := wire.ParseRun(new(broker.Decoder), []byte(stored), run); err != nil {
		if h, bad := wire.ParseHeader([]byte(stored)); bad == nil && errors.Is(err, broker.ErrNewer) {
			end.byHeader(q, h, []byte(stored), failedRecord(run, failure))
		} else {
			end.outcome = *unreadable(nil, q, []byte(stored), err)
		}
	} else if err := end.endRun(q, &broker.Outcome{Run: run, Verdict: broker.Dropped, Failure: failure}); err != nil {
		return nil, err
	}
	end.recordAsOperation()
	return end, nil
}

// endAt applies an outcome's operations to an entry at a key, and removes the entry. doubtful
// is as for endWaiting.
func (b *Broker) endAt(ctx context.Context, q *queue, key, entry string, out *outcome) (reply script.EndWaitingReply, doubtful bool, err error) {
	keys := append(script.EndWaitingKeys(&q.QueueKeys, key), out.keys...)
	named := &script.EndWaitingArgs{MaxDead: b.cfg.MaxDead, BeforeID: len(q.Record("")), Entry: entry, Operations: out.operations}
	args := append(named.Append(nil), out.args...)
	v, replyLost, err := b.repeatTracked(ctx, b.scripts.EndWaiting, b.clients.Work, conn.ReadAny, keys, args...)
	if err == nil {
		reply, err = script.ParseEndWaiting(v)
	}
	return reply, replyLost, err
}
