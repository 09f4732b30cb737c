package memory

import (
	"container/heap"
	"context"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// kept is the record of a run that has ended, or a group whose awaiting run is a dead
// letter.
type kept struct {
	rec   *broker.Record
	q     *queue
	group *group
	ends  instant
	order int64 // among the records of its queue

	older, newer *kept // of the same queue
}

// expiryHeap has the record that expires first at its head.
type expiryHeap []*kept

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h expiryHeap) Less(i, j int) bool { return h[i].ends.at < h[j].ends.at }
func (h *expiryHeap) Push(k any)        { *h = append(*h, k.(*kept)) }
func (h *expiryHeap) Pop() any {
	last := len(*h) - 1
	k := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return k
}

func (b *Broker) keep(q *queue, rec *broker.Record, until instant) {
	q.dropRecord(q.records[rec.ID])
	q.lastEnded++
	k := &kept{rec: rec, q: q, ends: until, order: q.lastEnded, older: q.newest}
	q.ended[endedIndex(rec.State)]++
	if q.newest != nil {
		q.newest.newer = k
	}
	q.newest = k
	q.records[rec.ID] = k
	heap.Push(&b.expiry, k)
}

// endedIndex returns the place of a state that has ended in queue.ended.
func endedIndex(s broker.State) int {
	switch s {
	case broker.StateSucceeded:
		return 0
	case broker.StateFailed:
		return 1
	}
	return 2
}

// dropRecord takes a record that is kept, if it is one, out of its queue.
func (q *queue) dropRecord(k *kept) {
	if k == nil {
		return
	}
	q.ended[endedIndex(k.rec.State)]--
	if q.endedMark == k {
		q.endedMark = k.newer
	}
	if k.newer == nil {
		q.newest = k.older
	} else {
		k.newer.older = k.older
	}
	if k.older != nil {
		k.older.newer = k.newer
	}
	k.older, k.newer = nil, nil
	delete(q.records, k.rec.ID)
}

// expire drops expired records and groups: a bounded number a call, more than a call of n
// runs can add, so that no caller pays for many. Readers compare the time themselves. An
// unused broker keeps expired records until it is used.
func (b *Broker) expire(now clock, n int) {
	for n = 2*n + 16; n > 0 && len(b.expiry) > 0 && now.until(b.expiry[0].ends) <= 0; n-- {
		k := heap.Pop(&b.expiry).(*kept)
		switch {
		case k.group == nil && k.q.records[k.rec.ID] == k:
			k.q.dropRecord(k)
		case k.group != nil && k.group.lapsed(now):
			k.group.forget()
		}
	}
}

// Record returns the record of a run, or [broker.ErrNoRecord].
func (b *Broker) Record(ctx context.Context, queue, id string) (*broker.Record, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read record of run %.64q: %w", id, err)
	}
	defer b.mu.Unlock()
	_, rec, err := b.lookUp(queue, id)
	if err != nil {
		return nil, fmt.Errorf("read record of run %.64q: %w", id, err)
	}
	return rec, nil
}

// lookUp returns a copy of a run's record, and the run while it lives.
func (b *Broker) lookUp(queue, id string) (*storedRun, *broker.Record, error) {
	q := b.queues[queue]
	if q == nil {
		return nil, nil, broker.ErrNoRecord
	}
	now := b.now()
	q.promote(now)
	b.wake(q, now)
	if e := q.live[id]; e != nil && e.run.Keep > 0 {
		return e, e.liveRecord(now), nil
	}
	if k := q.records[id]; k != nil && now.until(k.ends) > 0 {
		return nil, cloneRecord(k.rec), nil
	}
	return nil, nil, broker.ErrNoRecord
}

// record returns what a record has in each state.
func (e *storedRun) record(state broker.State) *broker.Record {
	return &broker.Record{
		ID: e.run.ID, Task: e.run.Task, Queue: e.run.Queue, ParentID: e.run.ParentID, Attempt: e.run.Attempt,
		State: state, QueuedAt: e.run.QueuedAt, Attempts: slices.Clone(e.run.History.OrZero().Attempts),
	}
}

// liveRecord returns the record of a run that has not ended, for the caller.
func (e *storedRun) liveRecord(now clock) *broker.Record {
	rec := e.record(e.state())
	rec.Failure, rec.Progress = cloneFailure(e.failure), cloneProgress(e.progress())
	switch {
	case rec.State == broker.StateRunning:
		rec.StartedAt, rec.Host = fromWall(e.order), broker.ThisHost()
	case e.at > 0:
		rec.Due = now.time(e.due())
	}
	return rec
}

// endedRecord returns the record of a run that ends with this outcome.
func (e *storedRun) endedRecord(o *broker.Outcome, now clock) *broker.Record {
	rec := e.record(stateOf(o))
	rec.Task, rec.Attempt, rec.Attempts = o.Run.Task, o.Run.Attempt, slices.Clone(o.Run.History.OrZero().Attempts)
	rec.Progress, rec.EndedAt = e.progress(), fromWall(now.wall)
	if e.run.KeepParams && o.Run.Keep > 0 {
		rec.Payload = slices.Clone(e.run.Payload) // its memory may be that of many runs
	}
	if rec.State != broker.StateSucceeded {
		rec.Failure = cloneFailure(o.Failure)
		return rec
	}
	rec.Failure = e.failure
	rec.Result, rec.Successors = slices.Clone(o.Result), slices.Clone(o.Call.OrZero().Successors)
	return rec
}

// stateOf returns the state of a run that ends with this outcome.
func stateOf(o *broker.Outcome) broker.State {
	switch {
	case o.Verdict == broker.Succeeded:
		return broker.StateSucceeded
	case o.Failure != nil && o.Failure.Kind == broker.FailureCancelled:
		return broker.StateCancelled
	}
	return broker.StateFailed
}

// WaitRecord blocks until the run has ended or ctx ends. A run that
// GetTaskRuns took has ended without a record.
func (b *Broker) WaitRecord(ctx context.Context, queue, id string) (*broker.Record, error) {
	rec, err := b.waitRecord(ctx, queue, id)
	if err != nil {
		return nil, fmt.Errorf("wait for run %.64q: %w", id, err)
	}
	return rec, nil
}

func (b *Broker) waitRecord(ctx context.Context, queue, id string) (*broker.Record, error) {
	if err := b.enter(ctx); err != nil {
		return nil, err
	}
	e, rec, err := b.lookUp(queue, id)
	if err != nil || e == nil {
		b.mu.Unlock()
		return rec, err
	}
	if e.end == nil {
		e.end = &end{came: make(chan struct{})}
	}
	end := e.end
	b.mu.Unlock()
	select {
	case <-end.came:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-b.done:
		return nil, broker.ErrClosed
	}
	if end.final == nil {
		return nil, broker.ErrNoRecord
	}
	return cloneRecord(end.final), nil
}
