package memory

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// entry is a run the broker holds, from its queueing to its end.
type entry struct {
	run     broker.TaskRun // never changed in place but for Deliveries; Take copies its payload without the lock
	state   broker.State
	failure *broker.Failure // of the last attempt
	next    *entry          // in its lane
	order   int64           // among all that wait in the queue
	due     instant         // while delayed
	seq     uint64          // tells delayed runs of one instant apart
	rare    *rare           // nil for most

	ended chan struct{}  // made by the first that waits for the end, closed there
	final *broker.Record // set before ended is closed; nil if no record is kept
}

// rare is what only few runs have.
type rare struct {
	lock *lock // on its unique key
}

func (e *entry) getRare() *rare {
	if e.rare == nil {
		e.rare = &rare{}
	}
	return e.rare
}

// slabSize is how many runs of one call share an allocation. It is small, for
// the last of them to end keeps the memory of all.
const slabSize = 64

// copyIn copies the runs of a call for keeping.
func copyIn(runs []*broker.TaskRun) [][]entry {
	slabs := make([][]entry, 0, (len(runs)+slabSize-1)/slabSize)
	for part := range slices.Chunk(runs, slabSize) {
		slab := make([]entry, len(part))
		size := 0
		for _, r := range part {
			size += len(r.Payload)
		}
		payloads := make([]byte, 0, size)
		for i, r := range part {
			slab[i].run = *r
			payloads = detach(&slab[i].run, payloads)
		}
		slabs = append(slabs, slab)
	}
	return slabs
}

// detach gives the run memory of its own: its payload is appended to payloads,
// which it returns and which has room for it.
func detach(r *broker.TaskRun, payloads []byte) []byte {
	r.Receipt = nil
	r.QueuedAt, r.Due = r.QueuedAt.Round(0).UTC(), r.Due.Round(0).UTC()
	r.Headers, r.Limits = maps.Clone(r.Headers), slices.Clone(r.Limits)
	if r.Payload != nil {
		from := len(payloads)
		payloads = append(payloads, r.Payload...)
		r.Payload = payloads[from:len(payloads):len(payloads)]
	}
	return payloads
}

// lane is a list of runs of one kind and priority, in order.
type lane struct{ head, tail *entry }

const priorities = 3

// level is the lane of a priority, the first to be taken being 0.
func level(p broker.Priority) int {
	switch {
	case p > broker.Medium:
		return 0
	case p < broker.Medium:
		return 2
	}
	return 1
}

// lower makes one of the two kinds of what may be any number.
func lower(k broker.Kind) broker.Kind {
	if k == broker.CPU {
		return broker.CPU
	}
	return broker.IO
}

// queue is what the broker holds of one queue.
type queue struct {
	used    bool // it ever held a run
	lanes   [2][priorities]lane
	ready   [2]int // runs in the lanes of each kind
	fresh   [2]int // of them, those nobody was woken for
	front   int64  // order of the run put first last
	back    int64  // order of the run put last last
	delayed delayed
	waiters [2]waitList

	live    map[string]*entry // by id, of runs with OwnID or Keep
	unique  map[string]*lock  // by key
	records map[string]*kept  // of those that have ended
	holds   map[*Session]*hold
	dead    deadList
	ticks   map[string]int64 // last claimed, by task
}

func newQueue() *queue {
	return &queue{
		live:    make(map[string]*entry),
		unique:  make(map[string]*lock),
		records: make(map[string]*kept),
		holds:   make(map[*Session]*hold),
		ticks:   make(map[string]int64),
	}
}

// waits is the number of runs that could be taken now.
func (q *queue) waits() int { return q.ready[broker.IO] + q.ready[broker.CPU] }

func indexed(r *broker.TaskRun) bool { return r.OwnID || r.Keep > 0 }

// claim takes the ids and unique keys of a call's runs, all or none.
func (q *queue) claim(slabs [][]entry, now clock) error {
	unique := false
	for i, slab := range slabs {
		for j := range slab {
			e := &slab[j]
			unique = unique || e.run.Unique != ""
			if !indexed(&e.run) {
				continue
			}
			if q.live[e.run.ID] == nil {
				q.live[e.run.ID] = e
				continue
			}
			q.disclaim(append(slabs[:i:i], slab[:j]))
			return fmt.Errorf("queue run %s in queue %s: %w", e.run.ID, e.run.Queue, broker.ErrDuplicate)
		}
	}
	if unique {
		if err := q.lockKeys(slabs, now); err != nil {
			q.disclaim(slabs)
			return err
		}
	}
	return nil
}

func (q *queue) disclaim(slabs [][]entry) {
	for _, slab := range slabs {
		for i := range slab {
			if e := &slab[i]; q.live[e.run.ID] == e {
				delete(q.live, e.run.ID)
			}
		}
	}
}

// forget ends a run's life here and tells those who wait for it.
func (q *queue) forget(e *entry, final *broker.Record) {
	if indexed(&e.run) && q.live[e.run.ID] == e {
		delete(q.live, e.run.ID)
	}
	if e.rare != nil {
		q.unlockKey(e)
	}
	e.final = final
	if e.ended != nil {
		close(e.ended)
	}
	e.run, e.rare = broker.TaskRun{}, nil // others of its slab may live on
}

func (q *queue) pushBack(e *entry) {
	k, l := q.laneOf(e)
	q.back++
	e.order, e.state, e.next = q.back, broker.StateQueued, nil
	if l.tail == nil {
		l.head = e
	} else {
		l.tail.next = e
	}
	l.tail = e
	q.ready[k]++
	q.fresh[k]++
}

func (q *queue) pushFront(e *entry) {
	k, l := q.laneOf(e)
	q.front--
	e.order, e.state, e.next = q.front, broker.StateQueued, l.head
	if l.tail == nil {
		l.tail = e
	}
	l.head = e
	q.ready[k]++
	q.fresh[k]++
}

func (q *queue) laneOf(e *entry) (broker.Kind, *lane) {
	k := lower(e.run.Kind)
	return k, &q.lanes[k][level(e.run.Priority)]
}

// room is what a taker has room for. Of each kind, those ahead are for its
// store, and not to be taken from another session's share.
type room struct {
	kind  [2]int
	ahead [2]int
	total int
}

// fair reduces the room of a session to its free slots or, if that is more, to
// an equal share of what waits among the sessions that hold runs of the queue.
func (q *queue) fair(want room, s *Session) room {
	sessions := len(q.holds)
	if q.holds[s] == nil {
		sessions++
	}
	for k, ahead := range want.ahead {
		if ahead > 0 && sessions > 1 {
			share := (q.ready[k] + sessions - 1) / sessions
			fewer := max(want.kind[k]-ahead, min(want.kind[k], share))
			want.total -= want.kind[k] - fewer
			want.kind[k], want.ahead[k] = fewer, ahead-(want.kind[k]-fewer)
		}
	}
	return want
}

// plus is the room of both; what is added is ahead.
func (r room) plus(more room) room {
	r.total += more.total
	for k := range r.kind {
		r.kind[k] += more.kind[k]
		r.ahead[k] += more.kind[k]
	}
	return r
}

// pop removes the next run there is room for: of the highest priority, and
// there the one that was queued first, whatever its kind.
func (q *queue) pop(want *room) *entry {
	if want.total == 0 {
		return nil
	}
	for p := range priorities {
		best := broker.Kind(-1)
		for k := range broker.CPU + 1 {
			head := q.lanes[k][p].head
			if head != nil && want.kind[k] > 0 && (best < 0 || head.order < q.lanes[best][p].head.order) {
				best = k
			}
		}
		if best < 0 {
			continue
		}
		l := &q.lanes[best][p]
		e := l.head
		l.head, e.next = e.next, nil
		if l.head == nil {
			l.tail = nil
		}
		q.ready[best]--
		want.kind[best]--
		want.ahead[best] = min(want.ahead[best], want.kind[best])
		want.total--
		return e
	}
	return nil
}

// promote moves the runs that have become due to their lanes.
func (q *queue) promote(now clock) {
	for e := q.delayed.first(now); e != nil && now.until(e.due) <= 0; e = q.delayed.first(now) {
		q.delayed.pop(e)
		q.pushBack(e)
	}
}

// delayed is the runs that are not yet due: a heap for each clock.
type delayed struct{ mono, wall dueHeap }

func (d *delayed) len() int { return len(d.mono) + len(d.wall) }

func (d *delayed) of(e *entry) *dueHeap {
	if e.due.wall {
		return &d.wall
	}
	return &d.mono
}

func (d *delayed) push(e *entry) { heap.Push(d.of(e), e) }
func (d *delayed) pop(e *entry)  { heap.Pop(d.of(e)) }

// first returns the run that is due next, nil if there is none.
func (d *delayed) first(now clock) *entry {
	switch {
	case len(d.mono) == 0 && len(d.wall) == 0:
		return nil
	case len(d.wall) == 0:
		return d.mono[0]
	case len(d.mono) == 0:
		return d.wall[0]
	}
	m, w := d.mono[0], d.wall[0]
	if c := cmp.Or(cmp.Compare(now.until(m.due), now.until(w.due)), cmp.Compare(m.seq, w.seq)); c < 0 {
		return m
	}
	return w
}

// dueHeap has the run that is due first at its head, those of one instant in
// the order queued.
type dueHeap []*entry

func (h dueHeap) Len() int      { return len(h) }
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h dueHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].due.at, h[j].due.at), cmp.Compare(h[i].seq, h[j].seq)) < 0
}
func (h *dueHeap) Push(e any) { *h = append(*h, e.(*entry)) }
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
