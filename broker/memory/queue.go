package memory

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// storedRun is a run from its queueing to its end.
type storedRun struct {
	run     broker.TaskRun  // never changed in place but for Deliveries; Take copies its payload without the lock
	failure *broker.Failure // of the last attempt

	in         *strand    // while it waits and is due
	prev, next *storedRun // in its strand
	order      int64      // among all of the queue that wait and are due; while delayed, among those of one instant
	due        instant    // since when or from when it can be taken
	at         int        // its place in the heap of those delayed, from 1; else 0
	taken      int64      // when it was taken last, by the wall clock; 0: never

	rare *rare // nil for most
	end  *end  // made by the first that waits for it
}

// rare are the fields that few runs need.
type rare struct {
	lock     *lock            // on its unique key
	let      bool             // it left its backlog, and is not yet taken
	cancel   *broker.Failure  // how it ends if the session that holds it does not finish it
	progress *broker.Progress // the last that it reported
	group    *group           // it is a member of
	member   int              // its place in it
	awaits   *group           // it is queued after
	waits    bool             // it is not queued yet
	spared   int              // deliveries that ended with a lease, but not with its consumer's life
}

// end lets calls wait for the end of a run.
type end struct {
	came  chan struct{}
	final *broker.Record // set before came is closed; nil if no record is kept
}

func (e *storedRun) limits() []broker.Limit {
	if e.run.Rules == nil {
		return nil
	}
	return e.run.Rules.Limits
}

func (e *storedRun) fair() string {
	if e.run.Rules == nil {
		return ""
	}
	return e.run.Rules.Fair
}

func (e *storedRun) getRare() *rare {
	if e.rare == nil {
		e.rare = &rare{}
	}
	return e.rare
}

// cancelled returns how the run ends if its session does not finish it, nil if it was not
// cancelled.
func (e *storedRun) cancelled() *broker.Failure {
	if e.rare == nil {
		return nil
	}
	return e.rare.cancel
}

func (e *storedRun) progress() *broker.Progress {
	if e.rare == nil {
		return nil
	}
	return e.rare.progress
}

func (e *storedRun) state() broker.State {
	switch {
	case e.in != nil:
		return broker.StateQueued
	case e.at > 0 || e.rare != nil && e.rare.waits:
		return broker.StateDelayed
	}
	return broker.StateRunning
}

// chunkSize is how many runs of one call share an allocation. It is small, because the
// last of them to end keeps the memory of all.
const chunkSize = 64

// copyIn copies the runs of a call, in chunks.
func copyIn(runs []*broker.TaskRun) [][]storedRun {
	chunks := make([][]storedRun, 0, (len(runs)+chunkSize-1)/chunkSize)
	for part := range slices.Chunk(runs, chunkSize) {
		chunk := make([]storedRun, len(part))
		size := 0
		for _, r := range part {
			size += len(r.Payload)
		}
		payloads := make([]byte, 0, size)
		for i, r := range part {
			chunk[i].run = *r
			payloads = detach(&chunk[i].run, payloads)
		}
		chunks = append(chunks, chunk)
	}
	return chunks
}

// detach gives the run memory of its own. It appends the payload to payloads, which has
// the capacity, and returns it.
func detach(r *broker.TaskRun, payloads []byte) []byte {
	r.Receipt = nil
	r.QueuedAt, r.Due = r.QueuedAt.Round(0).UTC(), r.Due.Round(0).UTC()
	r.Headers, r.Rules, r.Links = maps.Clone(r.Headers), cloneRules(r.Rules), cloneLinks(r.Links)
	if r.History != nil {
		r.History = r.History.Clone()
	}
	if r.Payload != nil {
		from := len(payloads)
		payloads = append(payloads, r.Payload...)
		r.Payload = payloads[from:len(payloads):len(payloads)]
	}
	return payloads
}

func cloneRules(rules *broker.Rules) *broker.Rules {
	if rules == nil {
		return nil
	}
	c := *rules
	c.Limits = slices.Clone(c.Limits)
	return &c
}

func cloneLinks(links *broker.Links) *broker.Links {
	if links == nil {
		return nil
	}
	c := *links
	c.Then = slices.Clone(c.Then)
	for i := range c.Then {
		c.Then[i].Run = cloneRun(c.Then[i].Run)
	}
	c.Members = slices.Clone(c.Members)
	for i := range c.Members {
		c.Members[i] = cloneRun(c.Members[i])
	}
	return &c
}

// cloneRun copies a run and all that it refers to, without its receipt.
func cloneRun(r *broker.TaskRun) *broker.TaskRun {
	c := *r
	detach(&c, make([]byte, 0, len(c.Payload)))
	return &c
}

// queue is the state of one queue.
type queue struct {
	used       bool // a run was ever queued in it
	readyLists [2][priorities]readyList
	ready      [2]int // runs in the ready lists of each kind
	waiting    int    // runs that are due, and held back
	fresh      [2]int // of them, those that no waiter was woken for
	front      int64  // order of the run put first last
	back       int64  // order of the run put last last
	delayed    delayed
	waiters    [2]waitList

	groups    map[string]*group   // of members here, by id; nil until there is one
	gathering map[*storedRun]bool // runs for here that wait for a group

	paused   bool
	disabled map[string]*shelf // by task; nil until one is

	live      map[string]*storedRun // by id, of runs with OwnID or Keep
	unique    map[string]*lock      // by key
	limits    map[string]*limit     // by key; nil until there is one
	backlogs  map[string]*backlog   // by name, those that have runs
	windows   windowHeap            // the limits that time changes
	records   map[string]*kept      // of those that have ended
	newest    *kept                 // of them, the one that ended last
	lastEnded int64                 // the order of that
	ended     [3]int64              // how many they are, by endedIndex of the state
	endedMark *kept                 // where a search has looked last, nil: before newest
	holds     map[*Session]*hold
	dead      deadList
	ticks     map[string]int64 // last claimed, by task, or by ticksOf
	schedules map[string]*broker.Schedule
	changes   int64                     // of schedules
	last      map[string]broker.LastRun // by task; nil until a session reported one
}

func newQueue() *queue {
	return &queue{
		live:      make(map[string]*storedRun),
		unique:    make(map[string]*lock),
		records:   make(map[string]*kept),
		holds:     make(map[*Session]*hold),
		ticks:     make(map[string]int64),
		schedules: make(map[string]*broker.Schedule),
	}
}

// waits returns the number of runs that wait.
func (q *queue) waits() int {
	return q.ready[broker.IO] + q.ready[broker.CPU] + q.waiting + q.delayed.len()
}

func indexed(r *broker.TaskRun) bool { return r.OwnID || r.Keep > 0 }

// claim takes the ids and unique keys of a call's runs, all or none.
func (q *queue) claim(chunks [][]storedRun, now clock) error {
	unique := false
	for i, chunk := range chunks {
		for j := range chunk {
			e := &chunk[j]
			unique = unique || e.run.Rules.OrZero().Unique != ""
			if !indexed(&e.run) {
				continue
			}
			if q.live[e.run.ID] == nil {
				q.live[e.run.ID] = e
				continue
			}
			q.disclaim(append(chunks[:i:i], chunk[:j]))
			return fmt.Errorf("run %s: %w", e.run.ID, broker.ErrDuplicate)
		}
	}
	if unique {
		if err := q.lockKeys(chunks, now); err != nil {
			q.disclaim(chunks)
			return err
		}
	}
	return nil
}

// unclaim gives up the id and unique key of one run.
func (q *queue) unclaim(e *storedRun) {
	if q.live[e.run.ID] == e {
		delete(q.live, e.run.ID)
	}
	if e.rare != nil {
		q.unlockKey(e)
	}
}

func (q *queue) disclaim(chunks [][]storedRun) {
	for _, chunk := range chunks {
		for i := range chunk {
			if e := &chunk[i]; q.live[e.run.ID] == e {
				delete(q.live, e.run.ID)
			}
		}
	}
}

// forget drops a run that has ended, and wakes the calls that wait for its end.
func (q *queue) forget(e *storedRun, final *broker.Record) {
	if indexed(&e.run) && q.live[e.run.ID] == e {
		delete(q.live, e.run.ID)
	}
	if e.rare != nil {
		q.unlockKey(e)
		e.rare.awaits.forget()
	}
	if e.end != nil {
		e.end.final = final
		close(e.end.came)
	}
	e.run, e.rare = broker.TaskRun{}, nil // others of its chunk may live on
}

// pushBack puts a run that is due behind all others of its ready list.
func (q *queue) pushBack(e *storedRun) {
	k, l := q.readyListOf(e)
	q.back++
	e.order = q.back
	l.add(e)
	q.ready[k]++
	q.fresh[k]++
}

// pushFront makes a run the next of its ready list.
func (q *queue) pushFront(e *storedRun) {
	k, l := q.readyListOf(e)
	q.front--
	e.order = q.front
	l.addAhead(e)
	q.ready[k]++
	q.fresh[k]++
}

// removeReady takes a run out of its ready list, not in its turn.
func (q *queue) removeReady(e *storedRun) {
	k, l := q.readyListOf(e)
	l.remove(e)
	q.ready[k]--
	if e.rare != nil && e.rare.let {
		q.unlet(e)
	}
}

func (q *queue) readyListOf(e *storedRun) (broker.Kind, *readyList) {
	k := lower(e.run.Kind)
	return k, &q.readyLists[k][level(e.run.Priority)]
}

// room is how many runs of each kind a call takes. Those ahead are prefetched, and must
// not be taken from another session's share.
type room struct {
	kind  [2]int
	ahead [2]int
	total int
}

// share reduces the room of a session to its free slots or, if that is more, to
// an equal share of what waits among the sessions that hold runs of the queue.
func (q *queue) share(want room, s *Session) room {
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

// plus returns the room of both; the added part is ahead.
func (r room) plus(more room) room {
	r.total += more.total
	for k := range r.kind {
		r.kind[k] += more.kind[k]
		r.ahead[k] += more.kind[k]
	}
	return r
}

// drop leaves no room for a kind.
func (r *room) drop(k broker.Kind) {
	r.total -= r.kind[k]
	r.kind[k], r.ahead[k] = 0, 0
}

// pop removes the next run there is room for: of the highest priority, and there the one
// that was queued first, of any kind. A run that has to wait for a limit moves to its
// backlog. A run with limits is not prefetched, because it would count against them while
// it waits for a slot.
func (q *queue) pop(want *room, leased bool, now clock) *storedRun {
	for want.total > 0 {
		k, l := q.next(want)
		if l == nil {
			return nil
		}
		e := l.head()
		if len(q.disabled) > 0 && q.shelve(e, now) {
			continue
		}
		limited := len(e.limits()) > 0
		if limited && q.moveToBacklog(e, now) {
			continue
		}
		if limited && want.ahead[k] >= want.kind[k] {
			want.drop(k)
			continue
		}
		l.removeInTurn(e)
		q.ready[k]--
		want.kind[k]--
		want.ahead[k] = min(want.ahead[k], want.kind[k])
		want.total--
		if limited {
			if e.rare != nil && e.rare.let {
				q.unlet(e)
			}
			q.countStart(e, leased, now)
		}
		return e
	}
	return nil
}

// next returns the ready list of the next run there is room for, nil if there is none.
func (q *queue) next(want *room) (broker.Kind, *readyList) {
	for p := range priorities {
		best, order := broker.Kind(-1), int64(0)
		for k := range broker.CPU + 1 {
			head := q.readyLists[k][p].head()
			if head != nil && want.kind[k] > 0 && (best < 0 || head.order < order) {
				best, order = k, head.order
			}
		}
		if best >= 0 {
			return best, &q.readyLists[best][p]
		}
	}
	return 0, nil
}

// promote moves runs to their ready lists that have become due, or that no longer have to
// wait for a limit.
func (q *queue) promote(now clock) {
	if len(q.windows) > 0 {
		q.openWindows(now)
	}
	for e := q.delayed.first(now); e != nil && now.until(e.due) <= 0; e = q.delayed.first(now) {
		q.delayed.remove(e)
		q.pushBack(e)
	}
}

// delayed is the runs that are not yet due: a heap for each clock.
type delayed struct{ mono, wall dueHeap }

func (d *delayed) len() int { return len(d.mono) + len(d.wall) }

func (d *delayed) of(e *storedRun) *dueHeap {
	if e.due.wall {
		return &d.wall
	}
	return &d.mono
}

func (d *delayed) push(e *storedRun)   { heap.Push(d.of(e), e) }
func (d *delayed) remove(e *storedRun) { heap.Remove(d.of(e), e.at-1) }

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
	if c := cmp.Or(cmp.Compare(now.until(m.due), now.until(w.due)), cmp.Compare(m.order, w.order)); c < 0 {
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
	h[i].at, h[j].at = i+1, j+1
}
func (h dueHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].due.at, h[j].due.at), cmp.Compare(h[i].order, h[j].order)) < 0
}
func (h *dueHeap) Push(e any) {
	*h = append(*h, e.(*storedRun))
	e.(*storedRun).at = len(*h)
}
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.at = 0
	return e
}
