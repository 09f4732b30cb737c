package memory

import (
	"container/heap"
	"context"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// group is runs that another run is queued after.
type group struct {
	id   string
	of   *queue // that keeps it
	then *storedRun
	ends []*broker.Record // by member, nil of one that lives; nil once it is forgotten
	left int              // members that live

	lapses instant // once then is a dead letter: when it is forgotten
}

// QueueGroup stores copies of members and of then, as [broker.Groups] says. It returns an
// error that wraps [broker.ErrDuplicate] if the run then, or the group, has the id of a
// live one.
func (b *Broker) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	if err := broker.CheckGroup(then, members); err != nil {
		return fmt.Errorf("queue group: %w", err)
	}
	awaited := then.Links.Awaits
	last := copyIn([]*broker.TaskRun{then})
	chunks := copyIn(members)
	apart := someApart(awaited, members)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("queue group %s: %w", awaited.ID, err)
	}
	defer b.mu.Unlock()
	now := b.now()
	b.expire(now, 1+len(members))
	q, of := b.queue(then.Queue), b.queue(awaited.Queue)
	if of.groups[awaited.ID] != nil {
		return fmt.Errorf("queue group %s in queue %s: one with this id lives: %w",
			awaited.ID, awaited.Queue, broker.ErrDuplicate)
	}
	if err := q.claim(last, now); err != nil {
		return fmt.Errorf("queue group %s: %w", awaited.ID,
			&broker.DuplicateError{Runs: []broker.Duplicate{{Index: -1, ID: inTheWay(then.ID, err)}}})
	}
	if !apart {
		if err := of.claim(chunks, now); err != nil {
			q.unclaim(&last[0][0])
			return fmt.Errorf("queue group %s: %w", awaited.ID, err)
		}
	}
	g := gather(q, of, &last[0][0], len(members))
	of.used = true
	if apart {
		b.queueEach(chunks, now)
		return nil
	}
	for _, chunk := range chunks {
		for i := range chunk {
			chunk[i].join(g)
			b.place(of, &chunk[i], now)
		}
	}
	b.wake(of, now)
	if len(members) == 0 {
		b.queueGathering(g, now)
	}
	return nil
}

// someApart reports whether some members are of another queue than the group's, or gather groups
// of their own, so that the members are queued one after the other.
func someApart(of broker.Group, members []*broker.TaskRun) bool {
	return slices.ContainsFunc(members, func(m *broker.TaskRun) bool { return m.Queue != of.Queue || len(m.Links.Members) > 0 })
}

// queueEach queues runs that follow the success of another, or that are members of a group. A
// duplicate is skipped. A run that gathers a group waits for its members, which are queued too.
func (b *Broker) queueEach(chunks [][]storedRun, now clock) {
	for _, chunk := range chunks {
		for i := range chunk {
			b.queueOne(chunk[i:i+1], now)
		}
	}
}

// queueOne is queueEach for one run.
func (b *Broker) queueOne(one []storedRun, now clock) {
	e := &one[0]
	var members []*broker.TaskRun
	if links := e.run.Links; links != nil {
		members, links.Members = links.Members, nil // the links are the run's own
	}
	q, g := b.queue(e.run.Queue), b.groupOf(&e.run)
	err := q.claim([][]storedRun{one}, now)
	if err == nil && len(members) > 0 && b.queue(e.run.Links.Awaits.Queue).groups[e.run.Links.Awaits.ID] != nil {
		q.unclaim(e)
		err = broker.ErrDuplicate
	}
	if err != nil {
		rec := b.skip(q, e, err, now)
		if g != nil {
			b.endMember(g, e.run.Links.Member, rec, now)
		}
		return
	}
	if g != nil {
		e.join(g)
	}
	q.used = true
	if len(members) > 0 {
		of := b.queue(e.run.Links.Awaits.Queue)
		gather(q, of, e, len(members))
		of.used = true
		b.queueEach(copyIn(members), now)
		return
	}
	b.place(q, e, now)
	b.wake(q, now)
}

// groupOf returns the group that a run is a member of, nil if there is none, or if it is not
// known any more.
func (b *Broker) groupOf(r *broker.TaskRun) *group {
	links := r.Links
	if links == nil || links.Group == "" {
		return nil
	}
	q := b.queues[r.GroupQueue()]
	if q == nil {
		return nil
	}
	if g := q.groups[links.Group]; g != nil && links.Member < len(g.ends) {
		return g
	}
	return nil
}

// join makes a run the member of its group.
func (e *storedRun) join(g *group) {
	r := e.getRare()
	r.group, r.member = g, e.run.Links.Member
}

// gather stores a run that is queued after a new group of n members.
func gather(q, of *queue, e *storedRun, n int) *group {
	g := &group{id: e.run.Links.Awaits.ID, of: of, then: e, ends: make([]*broker.Record, n), left: n}
	r := e.getRare()
	r.awaits, r.waits = g, true
	if r.lock != nil {
		r.lock.timed = false // it is not yet due
	}
	if of.groups == nil {
		of.groups = make(map[string]*group)
	}
	of.groups[g.id] = g
	if q.gathering == nil {
		q.gathering = make(map[*storedRun]bool)
	}
	q.gathering[e] = true
	return g
}

// queueGathering queues the run that awaited a group.
func (b *Broker) queueGathering(g *group, now clock) {
	e := g.then
	q := b.queues[e.run.Queue]
	delete(q.gathering, e)
	e.rare.waits = false
	if l := e.rare.lock; l != nil && e.run.Rules.UniqueFor > 0 {
		l.timed, l.ends = true, now.due(&e.run).plus(e.run.Rules.UniqueFor)
	}
	q.used = true
	e.run.QueuedAt = b.time().UTC().Round(0) // from when it can expire
	b.place(q, e, now)
	b.wake(q, now)
}

// endMember notes how a member has ended, unless the group is forgotten. If the member
// failed before, and was queued again, only a success counts.
func (b *Broker) endMember(g *group, member int, rec *broker.Record, now clock) {
	if g.ends == nil {
		return
	}
	before := g.ends[member]
	if before == nil || before.State != broker.StateSucceeded && rec.State == broker.StateSucceeded {
		g.ends[member] = rec
	}
	if before != nil {
		return
	}
	if g.left--; g.left == 0 {
		b.queueGathering(g, now)
	}
}

// forget forgets a group, because the run that awaits it has ended for good.
func (g *group) forget() {
	if g != nil && g.of.groups[g.id] == g {
		delete(g.of.groups, g.id)
		g.ends, g.then = nil, nil
	}
}

// lay keeps a group after the run that awaits it became a dead letter, as that may be
// queued again.
func (b *Broker) lay(g *group, now clock) {
	g.then, g.lapses = nil, now.after(broker.GroupKept)
	heap.Push(&b.expiry, &kept{group: g, ends: g.lapses})
}

// lapsed reports whether a group was kept for long enough.
func (g *group) lapsed(now clock) bool { return g.then == nil && now.until(g.lapses) <= 0 }

// gatherAgain ties a run to the group that it awaited before it was a dead letter.
func (e *storedRun) gatherAgain(g *group, now clock) {
	if g != nil && g.ends != nil && !g.lapsed(now) {
		g.then = e
		e.getRare().awaits = g
	}
}

// joinAgain makes a run the member of its group again that it was before it was a dead
// letter, if the group is still known.
func (b *Broker) joinAgain(e *storedRun) {
	g := b.groupOf(&e.run)
	if g == nil {
		return
	}
	if ended := g.ends[e.run.Links.Member]; ended != nil && ended.State != broker.StateSucceeded {
		e.join(g)
	}
}

// errTaken is the failure of a member that GetTaskRuns took.
var errTaken = broker.Failure{Kind: broker.FailureFailed, Message: "the run was taken for good, so that it is not known how it ended"}

// sizeOf returns the size in bytes of the records of members.
func sizeOf(ends []*broker.Record) int {
	size := 0
	for _, rec := range ends {
		if rec == nil {
			continue
		}
		if size += len(rec.Result); rec.Failure != nil {
			size += len(rec.Failure.Message) + len(rec.Failure.Stack)
		}
	}
	return size
}

// Members returns how the members of a group ended, as [broker.Groups] says.
func (b *Broker) Members(ctx context.Context, of broker.Group) ([]*broker.Record, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read members of group %.64q: %w", of.ID, err)
	}
	defer b.mu.Unlock()
	q := b.queues[of.Queue]
	if q == nil || q.groups[of.ID] == nil || q.groups[of.ID].lapsed(b.now()) {
		return nil, fmt.Errorf("read members of group %.64q of queue %.64q: %w", of.ID, of.Queue, broker.ErrNoRecord)
	}
	ends := q.groups[of.ID].ends
	if size := sizeOf(ends); size > broker.MaxGroupResults {
		return nil, fmt.Errorf("read members of group %s: they ended with %d bytes, at most %d are gathered: %w",
			of.ID, size, broker.MaxGroupResults, broker.ErrGroupTooLarge)
	}
	recs := make([]*broker.Record, len(ends))
	for i, rec := range ends {
		if rec != nil {
			recs[i] = cloneRecord(rec)
		}
	}
	return recs, nil
}
