package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/taskgen/taskgen/redis/internal/script"
)

// Close gives back what the session holds: unfinished runs go to the head of their queues.
// A further call tries again what failed.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	queues := slices.Collect(maps.Keys(s.leases))
	s.mu.Unlock()
	failed := errors.Join(s.b.eachQueue(ctx, queues, func(_ int, q *queue) error { return s.closeIn(ctx, s.leaseIn(q)) })...)
	if failed != nil {
		return fmt.Errorf("leave: %w", failed)
	}
	return nil
}

func (s *session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// closeIn gives back what the session holds in a queue, and ends its lease there.
func (s *session) closeIn(ctx context.Context, ql *queueLease) error {
	s.mu.Lock()
	used, unanswered := ql.next > 1 || ql.unanswered, ql.unanswered
	s.mu.Unlock()
	if !used {
		return nil
	}
	if unanswered {
		if _, _, err := s.recallBatch(ctx, ql); err != nil {
			return err
		}
	}
	for _, bt := range s.batchesLatestFirst(ql) { // as each goes to the head of its queue
		if _, err := s.b.giveBack(ctx, ql.q, s.id, bt.name, script.GivebackLeave); err != nil {
			return err
		}
		s.dropBatch(bt)
	}
	return s.endLease(ctx, ql)
}

// batchesLatestFirst returns the session's batches in a queue, that taken last first.
func (s *session) batchesLatestFirst(ql *queueLease) []*batch {
	s.mu.Lock()
	batches := slices.Collect(maps.Values(ql.batches))
	s.mu.Unlock()
	slices.SortFunc(batches, func(a, b *batch) int { return int(b.number - a.number) })
	return batches
}

// dropBatch removes a batch that was given back.
func (s *session) dropBatch(bt *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bt.gone = true
	delete(bt.lease.batches, bt.number)
}

// endLease removes the server's keys of the session in a queue.
func (s *session) endLease(ctx context.Context, ql *queueLease) error {
	s.mu.Lock()
	mayTakeLate := ql.mayTakeLate
	s.mu.Unlock()
	pipe := s.b.clients.Lease.Pipeline()
	pipe.Del(ctx, ql.q.Lost(s.id), ql.q.Cancels(s.id))
	if !mayTakeLate { // else these keep a late take from taking, and expire with the lease
		pipe.ZRem(ctx, ql.q.Leases, s.id)
		pipe.HDel(ctx, ql.q.Takes, s.id)
	}
	if err := s.b.clients.Send(ctx, pipe); err != nil {
		return s.b.fail(ctx, "end lease in queue "+ql.q.Name, s.b.blameIn(ctx, err, ql.q))
	}
	return nil
}
