package redis

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// How a take waits
//
// A take asks its queue for runs. If there are none, the take script notes in the
// queue, per kind, that a take waits: it announces the take. While the announcement is
// there, a script that queues a run adds a wake token; a plain push adds one in any case.
// One waiting take gets the token, and asks again.
//
// A take from one queue blocks on the queue's wake set (waitAndTake, below). A take from
// several queues of one server blocks on a list that all these queues share
// (takeseveral.go, watch.go). With connections of its own (Direct) each take blocks by
// itself. Otherwise the takes of the process share a blocking read (wakeup.go).
//
// A wake token only saves time, so it may be lost. A take also asks again when the first
// delayed run is due, and polls every two seconds.

// Take leases due runs, at most 1,000 of each kind, and blocks until there is one. If
// the reply to an earlier take was lost, Take returns that whole batch, even beyond want.
func (s *session) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	r := room{io: min(max(want.IO, 0), maxTake), cpu: min(max(want.CPU, 0), maxTake)}
	r.total = r.io + r.cpu
	r.prefetchIO, r.prefetchCPU = min(max(want.PrefetchIO, 0), r.io), min(max(want.PrefetchCPU, 0), r.cpu)
	s.useLimits(want.Limits)
	runs, err := s.take(ctx, want.Queues, r)
	if err != nil {
		return nil, fmt.Errorf("take: %w", err)
	}
	return runs, nil
}

func (s *session) take(ctx context.Context, names []string, r room) ([]*broker.TaskRun, error) {
	queues, err := s.b.queuesNamed(names)
	if err != nil {
		return nil, err
	}
	if len(queues) != 1 {
		return s.takeSeveral(ctx, queues, r)
	}
	return s.takeOne(ctx, queues[0], r)
}

// takeOne takes from one queue: it asks, waits until there may be a run, and asks again.
// It blocks until there is a run.
func (s *session) takeOne(ctx context.Context, q *queue, r room) ([]*broker.TaskRun, error) {
	announce := s.announcementFor(q, r)
	for timedOut := false; ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		runs, err := s.recallBatches(ctx)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
		runs, next, err := s.takeUnlessClosed(ctx, s.leaseIn(q), takeRequest{room: r, announce: announce})
		if err != nil || len(runs) > 0 {
			if timedOut {
				s.forgetAnnounced(q) // nothing woke the take: the server may have lost the announcement
			}
			return runs, err
		}
		wait := untilPoll(next)
		if announce = s.announcementFor(q, r); announce != announceNothing || wait <= 0 {
			continue
		}
		runs, timedOut, err = s.waitForRuns(ctx, q, r, wait)
		if err != nil || len(runs) > 0 {
			return runs, err
		}
	}
}

// untilPoll returns the shorter of next and the poll interval. A negative next means no
// delayed run.
func untilPoll(next time.Duration) time.Duration {
	if next < 0 {
		return pollInterval
	}
	return min(next, pollInterval)
}

// waitForRuns blocks until there may be runs in an announced queue, for at most wait.
// With connections of its own (Direct) the session takes them in the same step, and returns
// them. timedOut reports that a shared wait brought no wake token.
func (s *session) waitForRuns(ctx context.Context, q *queue, r room, wait time.Duration) (runs []*broker.TaskRun, timedOut bool, err error) {
	if s.b.clients.Block.Direct() {
		runs, err := s.waitAndTake(ctx, q, r, wait)
		return runs, false, err
	}
	tokens, err := s.b.takeWaiters.wait(ctx, []*tokenReader{wakeSetReader(q, r)}, wait)
	return nil, len(tokens) == 0, err
}

// waitAndTake sends commands that block for a wake token and then take, for as long as the
// queue is announced. It returns nothing if the queue has to be asked without waiting.
func (s *session) waitAndTake(ctx context.Context, q *queue, r room, wait time.Duration) ([]*broker.TaskRun, error) {
	ql := s.leaseIn(q)
	for wait > 0 && s.isAnnounced(q, r) {
		start := time.Now()
		if at, ok := ctx.Deadline(); ok {
			wait = min(wait, max(time.Until(at), time.Millisecond)) // so that the command ends in time by itself
		}
		runs, next, err := s.takeBatch(ctx, ql, takeRequest{room: r, announce: announceNothing, wait: wait})
		if err != nil {
			return s.endFailedWait(ctx, ql, r, err)
		}
		s.takeBackoff = conn.Backoff{}
		if len(runs) > 0 {
			if time.Since(start) >= wait {
				s.forgetAnnounced(q) // nothing woke the take: the server may have lost the announcement
			}
			return runs, nil
		}
		if err := conn.ContextErr(ctx); err != nil {
			return nil, err
		}
		if s.b.clients.IsClosed() {
			return nil, broker.ErrClosed
		}
		wait = untilPoll(next)
	}
	return nil, nil
}

// endFailedWait ends waitAndTake after an error.
func (s *session) endFailedWait(ctx context.Context, ql *queueLease, r room, err error) ([]*broker.TaskRun, error) {
	if ctx.Err() != nil {
		return s.cancelWait(ctx, ql, r)
	}
	if s.b.clients.IsClosed() {
		return nil, broker.ErrClosed
	}
	return nil, s.paceFailedWait(ctx, err, wakeSetsOf(ql.q, r))
}

// paceFailedWait pauses after a take that could not wait. It returns permanent errors only;
// the next take repeats after others.
func (s *session) paceFailedWait(ctx context.Context, err error, wakeSets []string) error {
	if conn.IsRefusal(err, "NOSCRIPT") {
		return nil // a blocking take sends only the script's hash; the next take sends its text
	}
	if conn.IsWrongType(err) && s.b.logged.isNew("wait "+wakeSets[0]) {
		err := s.b.blame(ctx, err, wakeSets...)
		s.b.cfg.Logger.WarnContext(ctx, "cannot wait for runs of a queue, polling every two seconds", "keys", strings.Join(wakeSets, " "), "error", err)
	}
	if !conn.MayRepeat(err) && !conn.IsWrongType(err) {
		return err
	}
	s.takeBackoff.Sleep(ctx, s.b.clients)
	return nil
}

// cancelWait ends a take that waited until its caller's context ended. If the take got
// runs all the same, cancelWait returns them. If there are none, no late take can succeed;
// after an error the next take recalls the batch. In both cases cancelWait passes on the
// wake token that the take may have consumed.
func (s *session) cancelWait(ctx context.Context, ql *queueLease, r room) ([]*broker.TaskRun, error) {
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), conn.Grace)
	defer cancel()
	runs, _, err := s.recallBatch(soon, ql)
	if err == nil && len(runs) > 0 {
		return runs, nil
	}
	for _, key := range wakeSetsOf(ql.q, r) {
		s.b.takeWaiters.passTokens(nil, []wakeToken{{key: key, q: ql.q}})
	}
	return nil, conn.ContextErr(ctx)
}
