package memory

import (
	"cmp"
	"container/heap"
)

// delayed is the runs that are not yet due: a heap for each clock.
type delayed struct{ mono, wall dueHeap }

func (d *delayed) len() int { return len(d.mono) + len(d.wall) }

func (d *delayed) of(e *storedRun) *dueHeap {
	if e.dueOnWall {
		return &d.wall
	}
	return &d.mono
}

func (d *delayed) push(e *storedRun)   { heap.Push(d.of(e), e) }
func (d *delayed) remove(e *storedRun) { heap.Remove(d.of(e), int(e.at)-1) }

// first returns the run that is due next, nil if there is none.
func (d *delayed) first(now clock) *storedRun {
	switch {
	case len(d.mono) == 0 && len(d.wall) == 0:
		return nil
	case len(d.wall) == 0:
		return d.mono[0]
	case len(d.mono) == 0:
		return d.wall[0]
	}
	m, w := d.mono[0], d.wall[0]
	if c := cmp.Or(cmp.Compare(now.until(m.due()), now.until(w.due())), cmp.Compare(m.order, w.order)); c < 0 {
		return m
	}
	return w
}

// dueHeap has the run that is due first at its head, those of one instant in
// the order queued.
type dueHeap []*storedRun

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = int32(i+1), int32(j+1)
}
func (h dueHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].dueAt, h[j].dueAt), cmp.Compare(h[i].order, h[j].order)) < 0
}
func (h *dueHeap) Push(e any) {
	*h = append(*h, e.(*storedRun))
	e.(*storedRun).at = int32(len(*h))
}
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.at = 0
	return e
}
