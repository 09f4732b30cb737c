package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Record returns the record of a run that has Keep set. It returns [broker.ErrNoRecord] if
// there is none. That another process executes a run shows 10 milliseconds after the run
// was taken.
func (b *Broker) Record(ctx context.Context, queueName, id string) (*broker.Record, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	_, held := b.sessions.runs(q, id)
	record, err := b.readRecord(ctx, q, id, "")
	takenAt, holds := b.sessions.runs(q, id)
	switch {
	case err != nil || record.State.Ended():
	case holds:
		record.State, record.Due = broker.StateRunning, time.Time{}
		record.StartedAt, record.Host = time.UnixMilli(takenAt.UnixMilli()).UTC(), broker.ThisHost()
	case held:
		// The record may have been read before the run was noted there, or given back.
		return b.readRecord(ctx, q, id, "")
	}
	if err == nil && record.Attempt == 0 && (record.State == broker.StateQueued || record.State == broker.StateDelayed) {
		record.Progress = nil // it is that of an earlier run with this id
	}
	return record, err
}

// WaitRecord blocks until the run has ended, and returns its record. All waits of this
// process in one queue share a blocking read. If a notification is lost, WaitRecord
// returns 2 to 10 seconds late. While the server is away it goes on waiting.
func (b *Broker) WaitRecord(ctx context.Context, queueName, id string) (*broker.Record, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, fmt.Errorf("wait for record: %w", err)
	}
	// If the run has ended already there is nothing to wait for.
	if record, err := b.readPatiently(ctx, q, id, ""); err != nil || record.State.Ended() {
		return record, err
	}
	ended := make(chan struct{}, 1)
	if !b.completions.join(&q.QueueKeys, id, ended) {
		return nil, fmt.Errorf("wait for record: %w", broker.ErrClosed)
	}
	defer b.completions.leave(&q.QueueKeys, id, ended)
	for wait := pollInterval; ; wait = min(2*wait, 10*time.Second) {
		record, err := b.readPatiently(ctx, q, id, b.id)
		if err != nil || record.State.Ended() {
			return record, err
		}
		if err := b.awaitNotice(ctx, ended, wait); err != nil {
			return nil, fmt.Errorf("wait for record: %w", err)
		}
	}
}

// awaitNotice blocks until ended is notified, or the given time has passed.
func (b *Broker) awaitNotice(ctx context.Context, ended chan struct{}, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	case <-b.clients.Closed:
		return broker.ErrClosed
	}
	return nil
}

// readPatiently is readRecord, repeated until ctx ends while the server is away. Then it
// returns why there was no reply.
func (b *Broker) readPatiently(ctx context.Context, q *queue, id, waiter string) (*broker.Record, error) {
	var away error
	for wait := (conn.Backoff{}); ; wait.Sleep(ctx, b.clients) {
		record, err := b.readRecord(ctx, q, id, waiter)
		switch {
		case errors.Is(err, broker.ErrUnavailable):
			away = err
		case err != nil && away != nil:
			return nil, fmt.Errorf("%w: %w", err, away)
		default:
			return record, err
		}
	}
}

func (b *Broker) readRecord(ctx context.Context, q *queue, id, waiter string) (*broker.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	var reply script.RecordReply
	err := b.clients.WhileLoading(ctx, func() (err error) {
		reply, err = b.askRecord(ctx, q, id, waiter)
		return err
	})
	if err != nil {
		return nil, b.fail(ctx, "read record", err)
	}
	if !reply.Found {
		return nil, fmt.Errorf("read record: %w", broker.ErrNoRecord)
	}
	record := &broker.Record{ID: id, Queue: q.Name}
	if err := wire.ParseRecord([]byte(reply.Record), record); err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	record.Progress = wire.ParseProgress(reply.Progress)
	return record, nil
}

// askRecord returns the reply of the record script. If there are runs of large calls to
// move, it moves them first.
func (b *Broker) askRecord(ctx context.Context, q *queue, id, waiter string) (script.RecordReply, error) {
	s := b.scripts.Record
	s.Repairable = waiter != "" // a call that only reads changes nothing
	keys, args := script.RecordKeys(&q.QueueKeys, id), (&script.RecordArgs{Waiter: waiter, ID: id}).Append(nil)
	ask := func(keys []string) (script.RecordReply, error) {
		v, err := b.repeat(ctx, s, b.clients.Work, keys, args...)
		if err != nil {
			return script.RecordReply{}, err
		}
		return script.ParseRecord(v)
	}
	reply, err := ask(keys)
	if err != nil || !reply.Staged {
		return reply, err
	}
	moved := b.seeStaged(ctx, q)
	if reply, err = ask(keys[:3]); err == nil && !reply.Found {
		err = moved // the run may be one of those
	}
	return reply, err
}

// DeadLetters returns up to max of the queue's dead letters, the newest first. An entry
// that cannot be read has neither a run nor a time, and can only be deleted.
func (b *Broker) DeadLetters(ctx context.Context, queueName string, max int) ([]*broker.DeadLetter, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	if max <= 0 {
		return nil, nil
	}
	entries, err := b.clients.Work.LRange(ctx, q.Dead, 0, int64(max)-1)
	if err != nil {
		return nil, b.fail(ctx, "read dead letters of queue "+q.Name, b.blameIn(ctx, err, q))
	}
	letters := make([]*broker.DeadLetter, 0, len(entries))
	for _, e := range entries {
		letters = append(letters, wire.ReadDeadLetter(e))
	}
	return letters, nil
}

// notifyWaiters notifies the processes that wait for the ends of runs, as the finish script
// listed them. A list that no process reads expires. After an error waiters poll.
func (b *Broker) notifyWaiters(ctx context.Context, q *queue, waiters []script.Waiter) {
	if len(waiters) == 0 {
		return
	}
	ids := map[string][]any{}
	for _, w := range waiters {
		ids[w.Name] = append(ids[w.Name], w.RunID)
	}
	pipe := b.clients.Lease.Pipeline()
	for waiter, list := range ids {
		pipe.RPush(ctx, q.Ended(waiter), list...)
		pipe.PExpire(ctx, q.Ended(waiter), time.Minute)
	}
	_ = b.clients.Send(ctx, pipe)
}
