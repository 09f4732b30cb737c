package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// queueHeartbeat is what a session tells of one queue.
type queueHeartbeat struct {
	q     *queue
	keys  []string
	last  []any
	ran   int // tasks of which it tells how the last run ended
	runs  []any
	heard []*broker.TaskRun
	err   error
}

// Heartbeat stores what the report says, and returns the runs that are to end, in
// one command for each queue in which the session holds something or that the
// report is about. What is known of the others is returned with an error.
func (s *session) Heartbeat(ctx context.Context, report broker.Report) (cancelled []*broker.TaskRun, err error) {
	queues, err := s.heartbeatsOf(&report)
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	var all sync.WaitGroup
	for _, a := range queues {
		if h := s.leaseIn(a.q); time.Since(h.failedHeartbeat()) < heartbeatAgain {
			a.err = fmt.Errorf("send heartbeat to queue %s: the last one failed a moment ago; trying again in a few seconds", a.q.Name)
			continue
		}
		all.Go(func() { s.heartbeatIn(ctx, a) })
	}
	all.Wait()
	for _, a := range queues {
		cancelled = append(cancelled, a.heard...)
		err = errors.Join(err, a.err)
	}
	if err != nil {
		return cancelled, fmt.Errorf("heartbeat: %w", err)
	}
	return cancelled, nil
}

// heartbeatAgain is how long a queue gets no heartbeat after one that failed, so that it
// does not delay those of the other queues.
const heartbeatAgain = 3 * time.Second

// failedHeartbeat returns when the last heartbeat failed, the zero time if it did not.
func (h *queueLease) failedHeartbeat() time.Time {
	if at := h.heartbeatFailed.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// heartbeatsOf sorts a report by queue.
func (s *session) heartbeatsOf(report *broker.Report) (map[*queue]*queueHeartbeat, error) {
	queues := map[*queue]*queueHeartbeat{}
	of := func(q *queue) *queueHeartbeat {
		if queues[q] == nil {
			queues[q] = &queueHeartbeat{q: q}
		}
		return queues[q]
	}
	for i := range report.Last {
		l := &report.Last[i]
		probe := broker.TaskRun{ID: l.ID, Task: l.Task, Queue: l.Queue}
		if err := probe.Validate(); err != nil {
			return nil, err
		}
		q, err := s.b.queue(l.Queue)
		if err != nil {
			return nil, err
		}
		a := of(q)
		a.last = append(a.last, l.Task, wire.AppendLast(nil, l))
		a.ran++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, h := range s.leases {
		if len(h.batches) > 0 {
			of(q)
		}
	}
	for i := range report.Progress {
		p := &report.Progress[i]
		at, ok := p.Run.Receipt.(*receipt)
		if !ok || at.session != s || p.Run.Keep <= 0 || at.batch.gone || at.batch.done[at.index] {
			continue
		}
		a := of(at.batch.lease.q)
		a.keys = append(a.keys, a.q.Batch(at.batch.member), a.q.Done(at.batch.member), a.q.Record(p.Run.ID), a.q.Progress(p.Run.ID))
		a.runs = append(a.runs, at.index, wire.AppendProgress(nil, &p.Progress))
	}
	return queues, nil
}

// heartbeatIn tells of one queue, and hears which runs are to end.
func (s *session) heartbeatIn(ctx context.Context, a *queueHeartbeat) {
	keys := append(script.HeartbeatKeys(&a.q.QueueKeys, s.id), a.keys...)
	args := (&script.HeartbeatArgs{Keep: cancelKept.Milliseconds(), Tasks: a.ran}).Append(nil)
	args = append(append(args, a.last...), a.runs...)
	v, err := s.b.repeat(ctx, s.b.scripts.Heartbeat, s.b.clients.Work, keys, args...)
	h := s.leaseIn(a.q)
	if err != nil {
		now := time.Now()
		h.heartbeatFailed.Store(&now)
		a.err = s.b.fail(ctx, "send heartbeat to queue "+a.q.Name, err)
		return
	}
	h.heartbeatFailed.Store(nil)
	var over []string
	s.mu.Lock()
	for _, field := range script.ParseHeartbeat(v) {
		if run := s.runAt(a.q, field); run != nil {
			a.heard = append(a.heard, run)
		} else if s.isOver(a.q, field) {
			over = append(over, field)
		}
	}
	s.mu.Unlock()
	if len(over) > 0 {
		// Should this fail, the next call does it.
		_, _ = s.b.clients.Work.HDel(ctx, a.q.Cancels(s.id), over...)
	}
}

// isOver reports whether a field of the session's cancels is of a batch of which
// nothing is left, so that nobody will look for it any more. The lock is held.
func (s *session) isOver(q *queue, field string) bool {
	text, _, _ := strings.Cut(field, ":")
	number, err := strconv.ParseInt(text, 10, 64)
	h := s.leases[q]
	return err == nil && h != nil && number < h.next && h.batches[number] == nil
}

// runAt returns the run of a field of the session's cancels, nil when the
// session holds it no longer. The lock is held.
func (s *session) runAt(q *queue, field string) *broker.TaskRun {
	text, indexName, _ := strings.Cut(field, ":")
	number, err := strconv.ParseInt(text, 10, 64)
	index, err2 := strconv.Atoi(indexName)
	h := s.leases[q]
	if err != nil || err2 != nil || h == nil {
		return nil
	}
	bt := h.batches[number]
	if bt == nil || bt.gone || index < 0 || index >= len(bt.runs) || bt.done[index] || bt.runs[index].Receipt == nil {
		return nil
	}
	return &bt.runs[index]
}
