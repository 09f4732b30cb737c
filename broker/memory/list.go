package memory

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Runs returns up to max runs of the queue in a state:
//   - queued, by priority and then in the order queued; runs that wait for a limit are
//     among the others, and the turns of Fair do not count;
//   - delayed, in the order in which they are due;
//   - running, by session, and then in the order taken;
//   - ended, those that have a record, the latest first.
func (b *Broker) Runs(ctx context.Context, queue string, state broker.State, max int) ([]*broker.RunInfo, error) {
	list := lister(state)
	if list == nil {
		return nil, fmt.Errorf("list %.64q runs of queue %.64q: there is no such state", state, queue)
	}
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("list %.64q runs of queue %.64q: %w", state, queue, err)
	}
	defer b.mu.Unlock()
	q := b.queues[queue]
	if q == nil || max <= 0 {
		return nil, nil
	}
	now := b.now()
	q.promote(now)
	b.wake(q, now)
	return list(q, max, now), nil
}

// lister returns the function that lists the runs in a state, nil if there is no such state.
func lister(state broker.State) func(q *queue, max int, now clock) []*broker.RunInfo {
	switch state {
	case broker.StateQueued:
		return (*queue).listQueued
	case broker.StateDelayed:
		return (*queue).listDelayed
	case broker.StateRunning:
		return (*queue).listRunning
	case broker.StateSucceeded, broker.StateFailed, broker.StateCancelled:
		return func(q *queue, max int, now clock) []*broker.RunInfo { return q.listEnded(state, max, now) }
	}
	return nil
}

// info describes a run that has not ended.
func (e *storedRun) info() *broker.RunInfo {
	info := &broker.RunInfo{Run: cloneRun(&e.run), State: e.state(), Failure: cloneFailure(e.failure)}
	if info.State == broker.StateRunning {
		info.Started = fromWall(e.taken)
	} else {
		info.Started = lastStart(e.run.History.OrZero().Attempts)
	}
	return info
}

// lastStart returns when the last of the attempts began.
func lastStart(attempts []broker.Attempt) time.Time {
	if len(attempts) == 0 {
		return time.Time{}
	}
	return attempts[len(attempts)-1].Started
}

func (q *queue) listQueued(max int, _ clock) []*broker.RunInfo {
	var some []*storedRun
	q.eachReadyList(func(l *readyList) bool {
		for s := l.first; s != nil; s = s.next {
			for e, n := s.head, 0; e != nil && n < max; e, n = e.next, n+1 {
				some = append(some, e)
			}
		}
		return true
	})
	slices.SortFunc(some, func(a, b *storedRun) int {
		return cmp.Or(cmp.Compare(b.run.Priority, a.run.Priority), cmp.Compare(a.order, b.order))
	})
	var list []*broker.RunInfo
	for _, e := range some[:min(max, len(some))] {
		list = append(list, e.info())
	}
	return list
}

// listDelayed reads the heaps from their heads, and no further than it must.
func (q *queue) listDelayed(max int, now clock) []*broker.RunInfo {
	ahead := &frontier{now: now}
	ahead.add(q.delayed.mono, 0)
	ahead.add(q.delayed.wall, 0)
	var list []*broker.RunInfo
	for len(list) < max && ahead.Len() > 0 {
		n := heap.Pop(ahead).(heapNode)
		ahead.add(n.of, 2*n.at+1)
		ahead.add(n.of, 2*n.at+2)
		e := n.of[n.at]
		info := e.info()
		info.Due = now.time(e.due)
		list = append(list, info)
	}
	return list
}

// time returns the wall clock's time at the instant.
func (c clock) time(i instant) time.Time {
	if i.wall {
		return time.Unix(0, i.at).UTC()
	}
	return time.Unix(0, c.wall+min(i.at-c.mono, math.MaxInt64-c.wall)).UTC()
}

type heapNode struct {
	of dueHeap
	at int
}

// frontier is the runs of heaps whose parents were read, as a heap.
type frontier struct {
	now   clock
	nodes []heapNode
}

func (f *frontier) add(h dueHeap, at int) {
	if at < len(h) {
		heap.Push(f, heapNode{h, at})
	}
}

func (f *frontier) Len() int      { return len(f.nodes) }
func (f *frontier) Swap(i, j int) { f.nodes[i], f.nodes[j] = f.nodes[j], f.nodes[i] }
func (f *frontier) Less(i, j int) bool {
	a, b := f.nodes[i].of[f.nodes[i].at], f.nodes[j].of[f.nodes[j].at]
	return cmp.Or(cmp.Compare(f.now.until(a.due), f.now.until(b.due)), cmp.Compare(a.order, b.order)) < 0
}
func (f *frontier) Push(n any) { f.nodes = append(f.nodes, n.(heapNode)) }
func (f *frontier) Pop() any {
	last := len(f.nodes) - 1
	n := f.nodes[last]
	f.nodes = f.nodes[:last]
	return n
}

func (q *queue) listRunning(max int, _ clock) []*broker.RunInfo {
	sessions := slices.SortedFunc(maps.Keys(q.holds), func(a, b *Session) int { return cmp.Compare(a.id, b.id) })
	var list []*broker.RunInfo
	for _, s := range sessions {
		for f := q.holds[s].head; f != nil && len(list) < max; f = f.next {
			info := f.e.info()
			info.Session = s.id
			list = append(list, info)
		}
	}
	return list
}

func (q *queue) listEnded(state broker.State, max int, now clock) []*broker.RunInfo {
	var list []*broker.RunInfo
	for k := q.newest; k != nil && len(list) < max; k = k.older {
		if k.rec.State == state && now.until(k.ends) > 0 {
			list = append(list, endedInfo(k.rec))
		}
	}
	return list
}

// endedInfo describes a run that has ended, by its record.
func endedInfo(rec *broker.Record) *broker.RunInfo {
	info := &broker.RunInfo{
		Run:   &broker.TaskRun{ID: rec.ID, Task: rec.Task, Queue: rec.Queue, Attempt: rec.Attempt, QueuedAt: rec.QueuedAt},
		State: rec.State, Failure: cloneFailure(rec.Failure), Started: lastStart(rec.Attempts), Ended: rec.EndedAt,
	}
	if len(rec.Attempts) > 0 {
		info.Run.History = &broker.History{Attempts: slices.Clone(rec.Attempts)}
	}
	return info
}
