package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// sighting is a run that a search has found, before Match.
type sighting struct {
	info   broker.RunInfo
	run    broker.TaskRun // shares memory with the broker's
	e      *storedRun     // nil of a run that has ended
	place  position       // behind it
	looked int            // at so many entries, this one included
}

// view is what one page of a search looks at.
type view struct {
	most, want int // bounds of looked, and of what is seen

	seen   []sighting
	looked int
	place  position // behind the last entry
	more   bool     // there is more behind it
	total  int64
}

// full reports whether the page has no room for one entry more, which there is.
func (v *view) full() bool {
	v.more = v.looked >= v.most || len(v.seen) >= v.want
	return v.more
}

// pass notes that the search looked at an entry.
func (v *view) pass(place position) {
	v.looked++
	v.place = place
}

// add adds a run. Its Run is set by sift.
func (v *view) add(run *broker.TaskRun, info broker.RunInfo, place position) *sighting {
	v.pass(place)
	v.seen = append(v.seen, sighting{run: *run, info: info, place: place, looked: v.looked})
	return &v.seen[len(v.seen)-1]
}

// addLive adds a run that has not ended.
func (v *view) addLive(e *storedRun, place position) *broker.RunInfo {
	s := v.add(&e.run, broker.RunInfo{State: e.state(), Failure: e.failure, Started: e.started()}, place)
	s.e = e
	return &s.info
}

// FindRuns returns a page of runs, as [broker.Searcher] says. A page of delayed runs passes over
// those of the pages before it. Match is called without the broker's lock.
func (b *Broker) FindRuns(ctx context.Context, queue string, state broker.State, s broker.RunSearch) (*broker.RunPage, error) {
	v, err := b.look(ctx, queue, state, s)
	if err != nil {
		return nil, fmt.Errorf("find %.64q runs of queue %.64q: %w", state, queue, err)
	}
	found, looked, after := v.sift(searchName(queue, state), s)
	page := &broker.RunPage{Looked: looked, Total: v.total, After: after}
	for _, f := range found {
		page.Runs = append(page.Runs, f.detached())
	}
	return page, nil
}

// detached returns what was seen, with memory of its own. It needs no lock, as copyOut.
func (s *sighting) detached() *broker.RunInfo {
	info := s.info
	info.Run, info.Failure = cloneRun(&s.run), cloneFailure(info.Failure)
	return &info
}

// bounded returns a bound of a search.
func bounded(n, most int) int {
	if n <= 0 || n > most {
		return most
	}
	return n
}

// look looks at the runs of one page.
func (b *Broker) look(ctx context.Context, queue string, state broker.State, s broker.RunSearch) (v view, err error) {
	lookAt, start := looker(state)
	if lookAt == nil {
		return v, fmt.Errorf("there is no such state")
	}
	from, err := parseCursor(searchName(queue, state), s.After, start)
	if err != nil {
		return v, err
	}
	v.most, v.want = bounded(s.Look, broker.MaxLook), math.MaxInt
	if s.Match == nil {
		v.want = bounded(s.Max, broker.MaxFound)
	}
	if err := b.enter(ctx); err != nil {
		return v, err
	}
	defer b.mu.Unlock()
	q := b.queues[queue]
	if q == nil {
		return v, nil
	}
	now := b.now()
	q.promote(now)
	b.wake(q, now)
	v.total = q.count(state)
	lookAt(q, &v, from, now)
	return v, nil
}

// looker returns what looks at the runs in a state, and where it starts; nil if there is no such
// state.
func looker(state broker.State) (func(q *queue, v *view, from position, now clock), position) {
	switch state {
	case broker.StateQueued:
		return (*queue).lookAtQueued, beforeLowest
	case broker.StateDelayed:
		return (*queue).lookAtDelayed, beforeEarlier
	case broker.StateRunning:
		return (*queue).lookAtRunning, position{}
	case broker.StateSucceeded, broker.StateFailed, broker.StateCancelled:
		return func(q *queue, v *view, from position, now clock) { q.lookAtEnded(v, state, from, now) }, beforeNewest
	}
	return nil, position{}
}

// count returns how many runs are in a state.
func (q *queue) count(state broker.State) int64 {
	switch state {
	case broker.StateQueued:
		return int64(q.waits() - q.delayed.len())
	case broker.StateDelayed:
		return int64(q.delayed.len())
	case broker.StateRunning:
		n := 0
		for _, h := range q.holds {
			n += h.n
		}
		return int64(n)
	}
	return q.ended[endedIndex(state)]
}

// sift returns those of the runs that match, at most as many as the search wants, how many
// entries it looked at for that, and where the next page begins.
func (v *view) sift(name string, s broker.RunSearch) (found []*sighting, looked int, after string) {
	most := bounded(s.Max, broker.MaxFound)
	for i := range v.seen {
		f := &v.seen[i]
		f.info.Run = &f.run
		if s.Match != nil && !s.Match(&f.info) {
			continue
		}
		if found = append(found, f); len(found) == most && (v.more || f.looked < v.looked) {
			return found, f.looked, f.place.cursor(name)
		}
	}
	if v.more {
		after = v.place.cursor(name)
	}
	return found, v.looked, after
}

// lookAtQueued goes by priority, and then by the order in which the runs were queued. Each value
// of Fair and each backlog is a strand of its own.
func (q *queue) lookAtQueued(v *view, from position, _ clock) {
	for p := max(0, from.n[0]); p < priorities; p++ {
		after := int64(math.MinInt64)
		if p == from.n[0] {
			after = from.n[1]
		}
		next := q.strandsAfter(int(p), after)
		for next.Len() > 0 {
			if v.full() {
				return
			}
			e := next.take()
			e.in.mark = e
			v.addLive(e, position{n: [4]int64{p, e.order}})
		}
	}
}

// lookAtDelayed goes by when runs are due. Their place is one in each heap, as the two clocks
// do not go alike.
func (q *queue) lookAtDelayed(v *view, from position, now clock) {
	ahead := &frontier{now: now}
	ahead.addAfter(q.delayed.mono, from.n[0], from.n[1])
	ahead.addAfter(q.delayed.wall, from.n[2], from.n[3])
	for place := from; ahead.Len() > 0; {
		if v.full() {
			return
		}
		e := ahead.take()
		if e.dueOnWall {
			place.n[2], place.n[3] = e.dueAt, e.order
		} else {
			place.n[0], place.n[1] = e.dueAt, e.order
		}
		v.addLive(e, place).Due = now.time(e.due())
	}
}

func (q *queue) lookAtRunning(v *view, from position, _ clock) {
	sessions := slices.SortedFunc(maps.Keys(q.holds), func(a, b *Session) int { return cmp.Compare(a.id, b.id) })
	for _, s := range sessions {
		if s.id < from.id {
			continue
		}
		for f := q.holds[s].head; f != nil; f = f.next {
			if s.id == from.id && f.place <= from.n[0] {
				continue
			}
			if v.full() {
				return
			}
			v.addLive(f.e, position{n: [4]int64{f.place}, id: s.id}).Session = s.id
		}
	}
}

// lookAtEnded goes from the run that ended last to the first, and looks at those in other
// states too.
func (q *queue) lookAtEnded(v *view, state broker.State, from position, now clock) {
	k := q.newest
	if m := q.endedMark; m != nil && m.order >= from.n[0] {
		k = m
	}
	for k != nil && k.order >= from.n[0] {
		k = k.older
	}
	for ; k != nil && !v.full(); k = k.older {
		q.endedMark = k
		place := position{n: [4]int64{k.order}}
		if k.rec.State != state || now.until(k.ends) <= 0 {
			v.pass(place)
			continue
		}
		info := endedInfo(k.rec)
		v.add(info.Run, *info, place)
	}
}
