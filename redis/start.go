package redis

import (
	"context"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// Start frees the unique key of a run, as [broker.Starter] says, in one command.
func (s *session) Start(ctx context.Context, run *broker.TaskRun) (held bool, err error) {
	at, ok := run.Receipt.(*receipt)
	if !ok || at.session != s {
		return false, nil
	}
	s.mu.Lock()
	held = !at.batch.gone && !at.batch.done[at.index]
	s.mu.Unlock()
	key := run.Rules.OrZero().Unique
	if !held || key == "" {
		return held, nil
	}
	q := at.batch.lease.q
	v, err := s.b.repeat(ctx, s.b.scripts.FreeUnique, s.b.clients.Lease,
		script.FreeUniqueKeys(&q.QueueKeys, at.batch.name, key), (&script.FreeUniqueArgs{Index: at.index, ID: run.ID}).Append(nil)...)
	if err == nil {
		held, err = script.ParseFreeUnique(v)
	}
	if err != nil {
		return false, s.b.fail(ctx, "free the unique key of run "+run.ID, err)
	}
	return held, nil
}
