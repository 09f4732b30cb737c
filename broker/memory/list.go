package memory

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"math"
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
	lookAt, start := looker(state)
	if lookAt == nil {
		return nil, fmt.Errorf("list %.64q runs of queue %.64q: there is no such state", state, queue)
	}
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("list %.64q runs of queue %.64q: %w", state, queue, err)
	}
	v := view{most: math.MaxInt, want: max}
	if q := b.queues[queue]; q != nil && max > 0 {
		now := b.now()
		q.promote(now)
		b.wake(q, now)
		lookAt(q, &v, start, now)
	}
	b.mu.Unlock()
	var list []*broker.RunInfo
	for i := range v.seen {
		list = append(list, v.seen[i].detached())
	}
	return list, nil
}

// started returns when the attempt began that goes on, or was the last. It is zero if that is
// unknown.
func (e *storedRun) started() time.Time {
	if e.state() == broker.StateRunning {
		return fromWall(e.order)
	}
	return lastStart(e.run.History.OrZero().Attempts)
}

// lastStart returns when the last of the attempts began.
func lastStart(attempts []broker.Attempt) time.Time {
	if len(attempts) == 0 {
		return time.Time{}
	}
	return attempts[len(attempts)-1].Started
}

// endedInfo describes a run that has ended, by its record.
func endedInfo(rec *broker.Record) *broker.RunInfo {
	info := &broker.RunInfo{
		Run:   &broker.TaskRun{ID: rec.ID, Task: rec.Task, Queue: rec.Queue, Attempt: rec.Attempt, QueuedAt: rec.QueuedAt},
		State: rec.State, Failure: rec.Failure, Started: lastStart(rec.Attempts), Ended: rec.EndedAt,
	}
	if len(rec.Attempts) > 0 {
		info.Run.History = &broker.History{Attempts: rec.Attempts}
	}
	return info
}

// time returns the wall clock's time at the instant.
func (c clock) time(i instant) time.Time {
	if i.wall {
		return time.Unix(0, i.at).UTC()
	}
	return time.Unix(0, c.wall+min(i.at-c.mono, math.MaxInt64-c.wall)).UTC()
}

// orderHeap is runs of several strands, the one that was queued first at its head.
type orderHeap []*storedRun

func (h orderHeap) Len() int           { return len(h) }
func (h orderHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h orderHeap) Less(i, j int) bool { return h[i].order < h[j].order }
func (h *orderHeap) Push(e any)        { *h = append(*h, e.(*storedRun)) }
func (h *orderHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	*h = (*h)[:last]
	return e
}

// take returns the run at the head, and puts the next of its strand in its place.
func (h *orderHeap) take() *storedRun {
	e := (*h)[0]
	if e.next == nil {
		heap.Pop(h)
	} else {
		(*h)[0] = e.next
		heap.Fix(h, 0)
	}
	return e
}

// strandsAfter returns the first run of each strand of a priority that comes after one in the
// order in which they were queued.
func (q *queue) strandsAfter(level int, order int64) *orderHeap {
	h := new(orderHeap)
	q.eachReadyList(level, func(l *readyList) bool {
		for s := l.first; s != nil; s = s.next {
			if e := s.after(order); e != nil {
				*h = append(*h, e)
			}
		}
		return true
	})
	heap.Init(h)
	return h
}

// after returns the first run behind an order. It begins where a search looked last, if it can.
func (s *strand) after(order int64) *storedRun {
	e := s.head
	if s.mark != nil && s.mark.order <= order {
		e = s.mark
	}
	for e != nil && e.order <= order {
		e = e.next
	}
	return e
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

// addAfter adds the first runs of a heap behind an instant and an order. It reads those before.
func (f *frontier) addAfter(h dueHeap, at, order int64) {
	for before := []int{0}; len(before) > 0; {
		i := before[len(before)-1]
		before = before[:len(before)-1]
		if i >= len(h) {
			continue
		}
		if e := h[i]; cmp.Or(cmp.Compare(e.dueAt, at), cmp.Compare(e.order, order)) > 0 {
			heap.Push(f, heapNode{h, i})
		} else {
			before = append(before, 2*i+1, 2*i+2)
		}
	}
}

// take returns the run at the head, and puts those behind it in its place.
func (f *frontier) take() *storedRun {
	n := heap.Pop(f).(heapNode)
	for _, child := range []int{2*n.at + 1, 2*n.at + 2} {
		if child < len(n.of) {
			heap.Push(f, heapNode{n.of, child})
		}
	}
	return n.of[n.at]
}

func (f *frontier) Len() int      { return len(f.nodes) }
func (f *frontier) Swap(i, j int) { f.nodes[i], f.nodes[j] = f.nodes[j], f.nodes[i] }
func (f *frontier) Less(i, j int) bool {
	a, b := f.nodes[i].of[f.nodes[i].at], f.nodes[j].of[f.nodes[j].at]
	return cmp.Or(cmp.Compare(f.now.until(a.due()), f.now.until(b.due())), cmp.Compare(a.order, b.order)) < 0
}
func (f *frontier) Push(n any) { f.nodes = append(f.nodes, n.(heapNode)) }
func (f *frontier) Pop() any {
	last := len(f.nodes) - 1
	n := f.nodes[last]
	f.nodes = f.nodes[:last]
	return n
}
