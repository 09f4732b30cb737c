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

// queueHeartbeat is a session's report of one queue.
type queueHeartbeat struct {
	q         *queue
	keys      []string
	last      []any
	tasks     int // of which last says how the last run ended
	runs      []any
	cancelled []*broker.TaskRun
	err       error
}

// Heartbeat stores what the report says, and returns the runs that are to end. It sends one
// command for each queue in which the session holds something or that the report is
// about. With an error it also returns the runs of the queues that could be asked.
func (s *session) Heartbeat(ctx context.Context, report broker.Report) (cancelled []*broker.TaskRun, err error) {
	queues, err := s.heartbeatsOf(&report)
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	var all sync.WaitGroup
	for _, a := range queues {
		if ql := s.leaseIn(a.q); time.Since(ql.failedHeartbeat()) < heartbeatAgain {
			a.err = fmt.Errorf("send heartbeat to queue %s: the last one failed a moment ago; trying again in a few seconds", a.q.Name)
			continue
		}
		all.Go(func() { s.heartbeatIn(ctx, a) })
	}
	all.Wait()
	for _, a := range queues {
		cancelled = append(cancelled, a.cancelled...)
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
func (ql *queueLease) failedHeartbeat() time.Time {
	if at := ql.heartbeatFailed.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// heartbeats are a session's reports, by queue.
type heartbeats map[*queue]*queueHeartbeat

func (hs heartbeats) of(q *queue) *queueHeartbeat {
	if hs[q] == nil {
		hs[q] = &queueHeartbeat{q: q}
	}
	return hs[q]
}

// heartbeatsOf sorts a report by queue. It adds the queues in which the session holds
// something.
func (s *session) heartbeatsOf(report *broker.Report) (heartbeats, error) {
	queues := heartbeats{}
	for i := range report.Last {
		if err := s.addLast(queues, &report.Last[i]); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for q, ql := range s.leases {
		if len(ql.batches) > 0 {
			queues.of(q)
		}
	}
	for i := range report.Progress {
		s.addProgress(queues, &report.Progress[i])
	}
	return queues, nil
}

// addLast adds how the last run of a task ended.
func (s *session) addLast(queues heartbeats, l *broker.LastRun) error {
	probe := broker.TaskRun{ID: l.ID, Task: l.Task, Queue: l.Queue}
	if err := probe.Validate(); err != nil {
		return err
	}
	q, err := s.b.queue(l.Queue)
	if err != nil {
		return err
	}
	a := queues.of(q)
	a.last = append(a.last, l.Task, wire.AppendLast(nil, l))
	a.tasks++
	return nil
}

// addProgress adds the progress of a run, if the session holds that and it has a record. The
// lock is held.
func (s *session) addProgress(queues heartbeats, p *broker.ProgressReport) {
	at, ok := p.Run.Receipt.(*receipt)
	if !ok || at.session != s || p.Run.Keep <= 0 || at.batch.gone || at.batch.done[at.index] {
		return
	}
	a := queues.of(at.batch.lease.q)
	a.keys = append(a.keys, a.q.Batch(at.batch.name), a.q.Done(at.batch.name), a.q.Record(p.Run.ID), a.q.Progress(p.Run.ID))
	a.runs = append(a.runs, at.index, wire.AppendProgress(nil, &p.Progress))
}

// heartbeatIn sends the heartbeat of one queue, and sets which runs are to end.
func (s *session) heartbeatIn(ctx context.Context, a *queueHeartbeat) {
	keys := append(script.HeartbeatKeys(&a.q.QueueKeys, s.id), a.keys...)
	args := (&script.HeartbeatArgs{Keep: cancelKept.Milliseconds(), Tasks: a.tasks}).Append(nil)
	args = append(append(args, a.last...), a.runs...)
	v, err := s.b.repeat(ctx, s.b.scripts.Heartbeat, s.b.clients.Work, keys, args...)
	ql := s.leaseIn(a.q)
	if err != nil {
		now := time.Now()
		ql.heartbeatFailed.Store(&now)
		a.err = s.b.fail(ctx, "send heartbeat to queue "+a.q.Name, err)
		return
	}
	ql.heartbeatFailed.Store(nil)
	var over []string
	a.cancelled, over = s.sortCancels(a.q, script.ParseHeartbeat(v))
	if len(over) > 0 {
		_, _ = s.b.clients.Work.HDel(ctx, a.q.Cancels(s.id), over...) // after an error the next heartbeat does it
	}
}

// sortCancels returns the runs that fields of the session's cancels name, and the fields of
// which the runs are over.
func (s *session) sortCancels(q *queue, fields []string) (cancelled []*broker.TaskRun, over []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, field := range fields {
		if run := s.runAt(q, field); run != nil {
			cancelled = append(cancelled, run)
		} else if s.isOver(q, field) {
			over = append(over, field)
		}
	}
	return cancelled, over
}

// isOver reports whether a field of the session's cancels is of a batch of which nothing
// is left. Nobody will read such a field any more. The lock is held.
func (s *session) isOver(q *queue, field string) bool {
	text, _, _ := strings.Cut(field, ":")
	number, err := strconv.ParseInt(text, 10, 64)
	ql := s.leases[q]
	return err == nil && ql != nil && number < ql.next && ql.batches[number] == nil
}

// runAt returns the run of a field of the session's cancels, nil when the
// session holds it no longer. The lock is held.
func (s *session) runAt(q *queue, field string) *broker.TaskRun {
	text, indexText, _ := strings.Cut(field, ":")
	number, err := strconv.ParseInt(text, 10, 64)
	index, err2 := strconv.Atoi(indexText)
	ql := s.leases[q]
	if err != nil || err2 != nil || ql == nil {
		return nil
	}
	bt := ql.batches[number]
	if bt == nil || bt.gone || index < 0 || index >= len(bt.runs) || bt.done[index] || bt.runs[index].Receipt == nil {
		return nil
	}
	return &bt.runs[index]
}
