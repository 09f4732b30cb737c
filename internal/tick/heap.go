package tick

import (
	"container/heap"
	"time"
)

// tickHeap orders schedules by when there is something to do for them.
type tickHeap []*schedule

func (h tickHeap) Len() int           { return len(h) }
func (h tickHeap) Less(i, j int) bool { return h[i].wake.Before(h[j].wake) }
func (h tickHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *tickHeap) Push(x any)        { *h = append(*h, x.(*schedule)) }

func (h *tickHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}

// take removes and returns the schedules that have something to do now.
func (h *tickHeap) take(now time.Time) []*schedule {
	var due []*schedule
	for len(*h) > 0 && !(*h)[0].wake.After(now) {
		due = append(due, heap.Pop(h).(*schedule))
	}
	return due
}
