package memory

import (
	"fmt"

	"github.com/taskgen/taskgen/broker"
)

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
	program   *broker.ProgramLimits // those that hold in place of the runs'; nil: none
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
	for e := q.delayed.first(now); e != nil && now.until(e.due()) <= 0; e = q.delayed.first(now) {
		q.delayed.remove(e)
		q.pushBack(e)
	}
}
