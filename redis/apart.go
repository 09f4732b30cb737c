package redis

import (
	"context"
	"time"
)

// lookApart is lookAround for a cluster, where each queue has tokens of its own: those
// that do not know that somebody waits are asked, whatever is in them.
func (s *session) lookApart(ctx context.Context, k *seek, r room, now time.Time) {
	defer func() {
		for _, q := range s.apart.take() {
			k.maybe[q] = true
		}
	}()
	var others []*queue
	for _, q := range k.queues {
		switch {
		case s.troubles.has(q):
		case !s.hasTold(q, r):
			k.maybe[q] = true
		default:
			others = append(others, q)
		}
	}
	if now.Sub(k.looked) < longestNap {
		return
	}
	if others = s.apart.begin(others); len(others) == 0 {
		return
	}
	k.looked = now
	groups := s.b.byNode(ctx, others)
	over := make(chan struct{}, len(groups))
	for _, group := range groups {
		queues := make([]*queue, len(group))
		for i, n := range group {
			queues[i] = others[n]
		}
		if !s.b.clients.Spawn(func() { s.lookAtNode(queues); over <- struct{}{} }) {
			s.apart.end(queues, nil)
			over <- struct{}{}
		}
	}
	timer := time.NewTimer(lookPatience)
	defer timer.Stop()
	for range groups {
		select {
		case <-over:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// lookAtNode learns in which of a node's queues a run waits. A queue that cannot be
// asked counts as one with runs: its own commands report why.
func (s *session) lookAtNode(queues []*queue) {
	ctx, cancel := context.WithTimeout(context.Background(), s.b.cfg.Timeout)
	defer cancel()
	waiting, err := s.b.having(ctx, queues, waitKeys)
	if err != nil && !s.b.clients.IsClosed() {
		s.passBy(queues, err)
	}
	s.apart.end(queues, waiting)
}
