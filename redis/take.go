package redis

import (
	"context"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// Take leases due runs, at most 1,000 of each kind. A batch whose reply was
// lost is returned whole, even where it is more than is wanted now.
func (s *session) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	r := room{io: min(max(want.IO, 0), maxTake), cpu: min(max(want.CPU, 0), maxTake)}
	r.total = r.io + r.cpu
	r.aheadIO, r.aheadCPU = min(max(want.PrefetchIO, 0), r.io), min(max(want.PrefetchCPU, 0), r.cpu)
	runs, err := s.take(ctx, want.Queues, r)
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	return runs, nil
}

func (s *session) take(ctx context.Context, names []string, r room) ([]*broker.TaskRun, error) {
	queues := make([]*queue, len(names))
	for i, name := range names {
		q, err := s.b.queue(name)
		if err != nil {
			return nil, err
		}
		queues[i] = q
	}
	if len(queues) != 1 {
		return s.takeSeveral(ctx, queues, r)
	}
	return s.takeOne(ctx, queues[0], r)
}

// takeOne takes from one queue.
func (s *session) takeOne(ctx context.Context, q *queue, r room) ([]*broker.TaskRun, error) {
	word := s.takeState(q, r)
	for timedOut := false; ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		runs, err := s.recallAll(ctx)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
		runs, next, err := s.takeFrom(ctx, s.leaseIn(q), r, word, 0)
		if err != nil || len(runs) > 0 {
			if timedOut {
				s.forgetAnnounced(q) // nobody woke it: the server may have lost the word
			}
			return runs, err
		}
		nap := longestNap
		if next >= 0 {
			nap = min(nap, next)
		}
		if word = s.takeState(q, r); word == asleep || nap <= 0 {
			continue
		}
		if s.b.clients.Block.Direct() {
			if runs, err := s.takeWaiting(ctx, q, r, nap); err != nil || len(runs) > 0 {
				return runs, err
			}
			continue
		}
		tokens, err := s.b.takeWaiters.wait(ctx, []*waitSet{wakeSet(q, r)}, nap)
		if err != nil {
			return nil, err
		}
		timedOut = len(tokens) == 0
	}
}

// takeWaiting waits in the only queue for something to take, and takes it. It
// returns nothing when it is time to look by ordinary means.
func (s *session) takeWaiting(ctx context.Context, q *queue, r room, nap time.Duration) ([]*broker.TaskRun, error) {
	h := s.leaseIn(q)
	for nap > 0 && s.isAnnounced(q, r) {
		start := time.Now()
		nap = min(nap, longestNap)
		if at, ok := ctx.Deadline(); ok {
			nap = min(nap, max(time.Until(at), time.Millisecond)) // to end in time by itself
		}
		runs, next, err := s.takeBatch(ctx, h, r, awake, nap)
		if err == nil {
			s.paces = conn.Backoff{}
		}
		switch {
		case err == nil && len(runs) > 0:
			if time.Since(start) >= nap {
				s.forgetAnnounced(q) // nobody woke it: the server may have lost the word
			}
			return runs, nil
		case err == nil && conn.ContextErr(ctx) != nil:
			return nil, conn.ContextErr(ctx)
		case ctx.Err() != nil:
			return s.revoke(ctx, h, r)
		case s.b.clients.IsClosed():
			return nil, broker.ErrClosed
		case err != nil:
			return nil, s.paceFailedWait(ctx, err, wakeKeys(q, r))
		}
		if nap = longestNap; next >= 0 {
			nap = min(nap, next)
		}
	}
	return nil, nil
}

// paceFailedWait paces the takes after one that could not wait, and returns what
// will not pass by itself.
func (s *session) paceFailedWait(ctx context.Context, err error, tokens []string) error {
	if goredis.HasErrorPrefix(err, "NOSCRIPT") {
		return nil
	}
	if conn.IsWrongType(err) && s.b.logged.isNew("wait "+tokens[0]) {
		err := s.b.blame(ctx, err, tokens...)
		s.b.cfg.Logger.WarnContext(ctx, "cannot wait for runs of a queue, looking every two seconds", "keys", strings.Join(tokens, " "), "error", err)
	}
	if !conn.MayRepeat(err) && !conn.IsWrongType(err) {
		return err
	}
	s.paces.Sleep(ctx, s.b.clients)
	return nil // what is wrong shows then
}

// revoke ends a take that waits, of a caller whose context has ended. What it
// took all the same is the caller's; else it will take nothing any more, and
// another that waits looks, in case it had the token.
func (s *session) revoke(ctx context.Context, h *queueLease, r room) ([]*broker.TaskRun, error) {
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), conn.Grace)
	defer cancel()
	runs, _, err := s.recall(soon, h)
	if err == nil && len(runs) > 0 {
		return runs, nil
	}
	for _, key := range wakeKeys(h.q, r) {
		s.b.takeWaiters.passTokens(nil, []token{{key: key, q: h.q}})
	}
	return nil, conn.ContextErr(ctx) // without an answer the next take asks again
}
