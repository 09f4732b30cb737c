package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// Close gives back what the session holds, unfinished runs at the head of their
// queue, and ends it. Called again it tries again what failed.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	s.left = true
	queues := slices.Collect(maps.Keys(s.leases))
	s.mu.Unlock()
	failed := errors.Join(s.b.eachQueue(ctx, queues, func(_ int, q *queue) error { return s.leaveQueue(ctx, s.leaseIn(q)) })...)
	if failed != nil {
		return fmt.Errorf("leave: %w", failed)
	}
	return nil
}

func (s *session) leaveQueue(ctx context.Context, h *queueLease) error {
	s.mu.Lock()
	used, asked := h.next > 1 || h.asked, h.asked
	s.mu.Unlock()
	if !used {
		return nil
	}
	if asked {
		if _, _, err := s.recall(ctx, h); err != nil {
			return err
		}
	}
	s.mu.Lock()
	slots := make([]*batch, 0, len(h.batches))
	for _, bt := range h.batches {
		slots = append(slots, bt)
	}
	s.mu.Unlock()
	// The batch taken last first, as each goes to the head.
	slices.SortFunc(slots, func(a, b *batch) int { return int(b.number - a.number) })
	for _, bt := range slots {
		if _, err := s.b.giveBack(ctx, h.q, s.id, bt.member, "leave"); err != nil {
			return err
		}
		s.mu.Lock()
		bt.gone = true
		delete(h.batches, bt.number)
		s.mu.Unlock()
	}
	s.mu.Lock()
	doubt := h.doubt
	s.mu.Unlock()
	pipe := s.b.clients.Lease.Pipeline()
	pipe.Del(ctx, h.q.Lost(s.id), h.q.Cancels(s.id))
	if !doubt { // else these keep a late take from taking, and go by themselves
		pipe.ZRem(ctx, h.q.Leases, s.id)
		pipe.HDel(ctx, h.q.Ops, s.id)
	}
	if _, err := conn.WithGrace(ctx, s.b.clients, pipe.Exec); err != nil {
		return s.b.fail(ctx, "end lease in queue "+h.q.Name, s.b.blameIn(ctx, err, h.q))
	}
	return nil
}
